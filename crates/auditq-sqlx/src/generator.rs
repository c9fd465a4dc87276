use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::future::BoxFuture;

/// Makes a stream of an async block that hands its items over one by one.
///
/// A connection and what is borrowed from it can then live in one block, which a hand-written stream cannot have.
pub(crate) fn generate<'f, T, F>(block: impl FnOnce(Yielder<T>) -> F) -> Generator<'f, T>
where
    F: Future<Output = ()> + Send + 'f,
{
    let slot = Slot(Arc::default());
    let block = block(Yielder(Slot(Arc::clone(&slot.0))));
    Generator { slot, block: Some(Box::pin(block)) }
}

struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T> Slot<T> {
    fn put(&self, item: Option<T>) -> Option<T> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), item)
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// Takes the block's items.
pub(crate) struct Yielder<T>(Slot<T>);

impl<T> Yielder<T> {
    /// Hands an item over, and goes on once it has been taken.
    pub(crate) async fn give(&self, item: T) {
        self.0.put(Some(item));
        std::future::poll_fn(|_| if self.0.is_empty() { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

/// The stream of what the block gives; it ends when the block does.
pub(crate) struct Generator<'f, T> {
    slot: Slot<T>,
    block: Option<BoxFuture<'f, ()>>,
}

impl<T> Stream for Generator<'_, T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(block) = &mut self.block else { return Poll::Ready(None) };
        let ended = block.as_mut().poll(cx).is_ready();
        if ended {
            self.block = None;
        }
        match self.slot.put(None) {
            Some(item) => Poll::Ready(Some(item)),
            None if ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn items_come_in_order_and_then_the_end() {
        let mut items = generate(|out| async move {
            for number in 0..3 {
                out.give(number).await;
            }
        });
        assert_eq!(items.by_ref().collect::<Vec<_>>().now_or_never(), Some(vec![0, 1, 2]));
        assert_eq!(items.next().now_or_never(), Some(None));
    }

    #[test]
    fn the_block_does_not_go_on_before_its_item_is_taken() {
        let reached = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&reached);
        let mut items = generate(|out| async move {
            for number in 1..=2 {
                *seen.lock().unwrap() = number;
                out.give(number).await;
            }
        });
        assert_eq!(*reached.lock().unwrap(), 0, "nothing runs unless polled");
        assert_eq!(items.next().now_or_never(), Some(Some(1)));
        assert_eq!(*reached.lock().unwrap(), 1);
    }
}
