//! Recording allocates nothing once it is warm, however much is in the spool already.
#![expect(unsafe_code, reason = "a global allocator that counts cannot be had otherwise")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::alloc::{GlobalAlloc, Layout, System as Heap};
use std::cell::Cell;

use auditq::{Actor, ActorExt, Config, Context, Observed, Recorder, Source, System, Value};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps `GlobalAlloc`'s promises, which are the same here.
        unsafe { Heap.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { Heap.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_warm_recorder_allocates_nothing_for_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.spool.dir = folder.path().to_owned();
    config.spool.segment_bytes = 64 << 20;
    let recorder = Recorder::open(&config).unwrap();
    let source = Source::new(System::Sqlite, "default", "shop.db");
    let _inside = Context::of(Actor::user(1, "alice")).enter();
    let record = |number: i64| {
        let bindings = [Value::Int(number), Value::Text("shipped"), Value::Null];
        let mut observed = Observed::new(&source, "SELECT * FROM orders WHERE id = ? AND status = ? AND note IS ?");
        observed.bindings = &bindings;
        recorder.record(&observed);
    };
    (0..20_000).for_each(record);
    let before = ALLOCATIONS.get();
    (20_000..60_000).for_each(record);
    assert_eq!(ALLOCATIONS.get() - before, 0, "allocations of 40,000 events");
    assert_eq!(recorder.stats().recorded, 60_000);
}
