//! Tells apart what an adapter sees itself and what only the tracing layer sees.

#[cfg(feature = "tracing")]
use std::sync::atomic::{AtomicBool, Ordering};

/// What sqlx tells of a statement goes by this name.
#[cfg(feature = "tracing")]
pub(crate) const TARGET: &str = "sqlx::query";
/// The span around what an adapter sees itself. It has sqlx's target, so that a filter lets both through.
#[cfg(feature = "tracing")]
pub(crate) const MARKER: &str = "auditq.seen_by_adapter";

#[cfg(feature = "tracing")]
static EVENTS_EXPECTED: AtomicBool = AtomicBool::new(false);

#[cfg(feature = "tracing")]
pub(crate) fn expect_events() {
    EVENTS_EXPECTED.store(true, Ordering::Relaxed);
}

/// Around what an adapter runs, this keeps the tracing layer from recording it a second time. Costs nothing unless
/// such a layer was made.
#[derive(Clone, Debug)]
pub struct SeenByAdapter {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

/// The mark is on what this thread does until this goes; not to be held over an `.await`.
#[derive(Debug)]
#[must_use = "the mark goes with the guard"]
pub struct Marked<'m> {
    #[cfg(feature = "tracing")]
    _entered: tracing::span::Entered<'m>,
    #[cfg(not(feature = "tracing"))]
    _entered: std::marker::PhantomData<&'m ()>,
}

impl SeenByAdapter {
    /// Makes the mark for one statement.
    #[must_use]
    pub fn mark() -> Self {
        #[cfg(feature = "tracing")]
        let span = if EVENTS_EXPECTED.load(Ordering::Relaxed) {
            tracing::error_span!(target: TARGET, MARKER)
        } else {
            tracing::Span::none()
        };
        Self {
            #[cfg(feature = "tracing")]
            span,
        }
    }

    /// Puts the mark on what this thread does.
    pub fn enter(&self) -> Marked<'_> {
        Marked {
            #[cfg(feature = "tracing")]
            _entered: self.span.enter(),
            #[cfg(not(feature = "tracing"))]
            _entered: std::marker::PhantomData,
        }
    }
}
