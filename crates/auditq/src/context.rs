use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll};

use auditq_event::{Actor, ActorType, Limits, Origin, encode_actor, encode_origin};

use crate::actor::user_of;
use crate::duplicates::{Duplicates, keyed_hash};

thread_local! {
    static CURRENT: Cell<Context> = const { Cell::new(Context::outside()) };
}

/// Who statements run for, and which request they belong to: one for each request, command or job.
///
/// It is carried by a thread-local that [`Audited`] swaps around every poll, so it works on every async runtime, and
/// in sync code through [`enter`](Self::enter). It does not cross `tokio::spawn`, `spawn_blocking` or
/// `thread::spawn` by itself: give them `context.wrap(closure)` or `future.audited(context)`.
#[derive(Clone, Default)]
pub struct Context(Option<Arc<Shared>>);

struct Shared {
    signed_in: OnceLock<SignedIn>,
    origin: Origin,
    origin_encoded: OnceLock<Vec<u8>>,
    duplicates: Duplicates,
    suppressed: bool,
}

/// An actor, with what every event of it needs.
struct SignedIn {
    actor: Actor,
    encoded: OnceLock<Vec<u8>>,
    keyed_hash: u64,
}

impl Context {
    /// Makes the context of one request, command or job. Nobody is signed in yet.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        Self::with(OnceLock::new(), origin, false)
    }

    /// Makes a context of an actor without more: for jobs, commands and tests.
    #[must_use]
    pub fn of(actor: Actor) -> Self {
        let context = Self::new(Origin::default());
        context.sign_in(actor);
        context
    }

    /// The state outside every context: nobody is signed in, and nobody can sign in to it.
    #[must_use]
    pub const fn outside() -> Self {
        Self(None)
    }

    /// Makes a context in which nothing is recorded: for the connections of the audit log itself.
    #[must_use]
    pub fn suppressed() -> Self {
        Self::with(OnceLock::new(), Origin::default(), true)
    }

    fn with(signed_in: OnceLock<SignedIn>, origin: Origin, suppressed: bool) -> Self {
        Self(Some(Arc::new(Shared {
            signed_in,
            origin,
            origin_encoded: OnceLock::new(),
            duplicates: Duplicates::of_a_context(),
            suppressed,
        })))
    }

    /// The context that this thread is in at this moment.
    #[must_use]
    pub fn current() -> Self {
        CURRENT
            .try_with(|current| {
                let context = current.take();
                current.set(context.clone());
                context
            })
            .unwrap_or_default()
    }

    /// Says who is signed in, once authentication has found out; statements before it stay anonymous.
    ///
    /// The first actor stays, so that nobody can put a statement on another's account; `false` says that there was
    /// one already, or that this is [`outside`](Self::outside). To act for somebody else use [`acting_as`](Self::acting_as).
    pub fn sign_in(&self, actor: Actor) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.signed_in.set(SignedIn::new(actor)).is_ok())
    }

    /// Makes another context of the same request, for another actor: impersonation, a job within a request.
    #[must_use]
    pub fn acting_as(&self, actor: Actor) -> Self {
        let origin = self.origin().cloned().unwrap_or_default();
        Self::with(OnceLock::from(SignedIn::new(actor)), origin, false)
    }

    /// Who is signed in.
    #[must_use]
    pub fn actor(&self) -> Option<&Actor> {
        self.signed_in().map(|signed_in| &signed_in.actor)
    }

    /// Where statements come from.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.0.as_ref().map(|shared| &shared.origin)
    }

    /// Makes this the thread's context until the guard goes. For sync code; a future takes [`InContext::audited`],
    /// because a guard that is held over an `.await` would stay on the wrong thread.
    #[must_use = "the context ends when the guard is dropped"]
    pub fn enter(&self) -> Entered {
        let previous = CURRENT.try_with(|current| current.replace(self.clone())).ok();
        Entered { previous, _stays_on_its_thread: std::marker::PhantomData }
    }

    /// Runs a closure in this context.
    pub fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        let _entered = self.enter();
        work()
    }

    /// Carries this context into a closure that another thread will run.
    pub fn wrap<R, W: FnOnce() -> R>(&self, work: W) -> impl FnOnce() -> R + use<R, W> {
        let context = self.clone();
        move || context.run(work)
    }

    /// Tells whether a person, a job or the application itself is signed in.
    pub(crate) fn has_actor(&self) -> bool {
        self.actor().is_some_and(|actor| actor.actor_type != ActorType::Anonymous)
    }

    /// Tells whether this is a context at all, and not [`outside`](Self::outside) of every one.
    #[cfg(feature = "tracing")]
    pub(crate) fn is_known(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn is_suppressed(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.suppressed)
    }

    pub(crate) fn user(&self) -> &str {
        self.actor().map(user_of).unwrap_or_default()
    }

    /// A hash of the actor that only this process can compute.
    pub(crate) fn user_keyed_hash(&self) -> u64 {
        self.signed_in().map_or(0, |signed_in| signed_in.keyed_hash)
    }

    pub(crate) fn duplicates(&self) -> Option<&Duplicates> {
        self.0.as_ref().map(|shared| &shared.duplicates)
    }

    /// The actor as every event of this context has it; empty when there is none.
    pub(crate) fn encoded_actor(&self, limits: &Limits) -> &[u8] {
        self.signed_in().map_or(&[], |it| it.encoded.get_or_init(|| encode_actor(&it.actor, limits)))
    }

    /// The origin as every event of this context has it; empty when there is none.
    pub(crate) fn encoded_origin(&self, limits: &Limits) -> &[u8] {
        let Some(shared) = &self.0 else { return &[] };
        shared.origin_encoded.get_or_init(|| encode_origin(&shared.origin, limits))
    }

    fn signed_in(&self) -> Option<&SignedIn> {
        self.0.as_ref()?.signed_in.get()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("actor", &self.actor()).field("origin", &self.origin()).finish_non_exhaustive()
    }
}

impl SignedIn {
    fn new(actor: Actor) -> Self {
        let keyed_hash = keyed_hash(&(actor.actor_type, user_of(&actor), &actor.tenant));
        Self { actor, encoded: OnceLock::new(), keyed_hash }
    }
}

/// Puts the thread's earlier context back when dropped.
#[derive(Debug)]
pub struct Entered {
    previous: Option<Context>,
    _stays_on_its_thread: std::marker::PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(previous) = self.previous.take() {
            // A thread whose locals are gone runs no more statements.
            let _ended = CURRENT.try_with(|current| current.set(previous));
        }
    }
}

/// Keeps auditq's own statements out of the log until the guard goes.
#[must_use = "recording goes on when the guard is dropped"]
pub fn suppress() -> Entered {
    Context::suppressed().enter()
}

pin_project_lite::pin_project! {
    /// A future that runs in a context: at every poll, and when it is dropped half-way.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Audited<F> {
        // None only while it is being dropped.
        #[pin]
        future: Option<F>,
        context: Context,
    }

    impl<F> PinnedDrop for Audited<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _entered = this.context.enter();
            this.future.set(None);
        }
    }
}

impl<F: Future> Future for Audited<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.context.enter();
        match this.future.as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        }
    }
}

/// Gives every future a context.
pub trait InContext: Sized {
    /// Runs the future in `context`, on whatever thread it is polled.
    fn audited(self, context: Context) -> Audited<Self> {
        Audited { future: Some(self), context }
    }

    /// Runs the future in the context of whoever makes it: for `tokio::spawn(work.in_current_context())`.
    fn in_current_context(self) -> Audited<Self> {
        self.audited(Context::current())
    }
}

impl<F: Future> InContext for F {}
