use std::cell::RefCell;

use crate::statements::Front;

/// More capacity than this is given back, so that one huge statement does not stay in memory.
const KEPT_BYTES: usize = 128 << 10;

/// What a thread records with, kept between statements so that recording allocates nothing.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) front: Front,
    pub(crate) bindings: Vec<u8>,
    pub(crate) record: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Lends the thread's scratch, empty; a fresh one while it is lent already or the thread is ending.
pub(crate) fn with(mut work: impl FnMut(&mut Scratch)) {
    let lent = SCRATCH.try_with(|scratch| {
        let Ok(mut scratch) = scratch.try_borrow_mut() else { return false };
        scratch.clear();
        work(&mut scratch);
        true
    });
    if lent != Ok(true) {
        work(&mut Scratch::default());
    }
}

impl Scratch {
    fn clear(&mut self) {
        for buffer in [&mut self.bindings, &mut self.record] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES);
        }
    }
}
