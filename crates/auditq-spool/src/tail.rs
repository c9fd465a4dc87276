//! Where the next record goes: the hot path. One of the two modules with `unsafe`.
#![expect(unsafe_code, reason = "several threads copy into disjoint parts of one mapping without a lock")]

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::frame;
use crate::mapping::Mapping;
use crate::segment::HEADER_BYTES;

/// Segments that can be written to at a time: the newest one, and those that appends have yet to leave.
const SLOTS: usize = 8;
/// The slot number that says: nothing can be reserved.
const STOPPED: u64 = 255;
const FIELD_BITS: u32 = 28;
const FIELD_MASK: u64 = (1 << FIELD_BITS) - 1;

/// The end of the log. One word says in which slot, at which offset and as how-manieth of its segment the next record
/// goes, so one compare-and-swap gives an append its place *and* its number: their orders agree, and no number is
/// missing.
#[derive(Debug)]
pub(crate) struct Tail {
    state: OwnLine<AtomicU64>,
    slots: [OwnLine<Slot>; SLOTS],
    segment_bytes: u32,
}

/// Keeps what every append writes to off the cache lines of what it only reads.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OwnLine<T>(T);

/// A segment under a small number. Its fields change only while no state names the slot and no append is in it.
#[derive(Debug, Default)]
struct Slot {
    /// One strong count of an `Arc`, or null.
    mapping: AtomicPtr<Mapping>,
    base_seq: AtomicU64,
    seed: AtomicU32,
}

/// What was reserved of a segment when it stopped being the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) slot: usize,
    pub(crate) end: u32,
    pub(crate) records: u64,
}

impl Extent {
    fn unpack(state: u64) -> Option<Self> {
        let slot = state >> (2 * FIELD_BITS);
        let units = (state >> FIELD_BITS) & FIELD_MASK;
        #[expect(clippy::cast_possible_truncation, reason = "28 bits of 8-byte units are less than 4 GiB")]
        let end = (units * u64::from(frame::ALIGN)) as u32;
        (slot != STOPPED).then_some(Self { slot: (slot & 7) as usize, end, records: state & FIELD_MASK })
    }

    fn pack(self) -> u64 {
        (self.slot as u64) << (2 * FIELD_BITS) | u64::from(self.end / frame::ALIGN) << FIELD_BITS | self.records
    }
}

/// A part of a segment that one append alone may write to.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    mapping: &'a Mapping,
    seed: u32,
    offset: u32,
    seq: u64,
}

impl Tail {
    /// Makes a tail that has no segment yet.
    pub(crate) fn stopped(segment_bytes: u32) -> Self {
        Self { state: OwnLine(AtomicU64::new(STOPPED << (2 * FIELD_BITS))), slots: Default::default(), segment_bytes }
    }

    /// Reserves `bytes` bytes, a multiple of 8, and the next number; `None` when the segment has no room for them.
    #[inline]
    pub(crate) fn reserve(&self, bytes: u32) -> Option<Place<'_>> {
        let mut state = self.state.0.load(Ordering::Relaxed);
        loop {
            let extent = Extent::unpack(state)?;
            let end = extent.end.checked_add(bytes).filter(|&end| end <= self.segment_bytes)?;
            let next = Extent { end, records: extent.records + 1, ..extent }.pack();
            // Acquire: sees the slot as `publish` filled it.
            match self.state.0.compare_exchange_weak(state, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(self.place(extent)),
                Err(now) => state = now,
            }
        }
    }

    #[inline]
    fn place(&self, extent: Extent) -> Place<'_> {
        let slot = &self.slots[extent.slot].0;
        // SAFETY: the swap succeeded while the state named this slot, so `publish` had put a mapping there, and
        // `release` does not take it away before this append's frame, which lies within what the segment's final
        // extent covers, is committed: the last thing that a `Place` does.
        let mapping = unsafe { &*slot.mapping.load(Ordering::Relaxed) };
        Place {
            mapping,
            seed: slot.seed.load(Ordering::Relaxed),
            offset: extent.end,
            seq: slot.base_seq.load(Ordering::Relaxed) + extent.records,
        }
    }

    /// Returns what has been reserved; `None` when stopped.
    pub(crate) fn extent(&self) -> Option<Extent> {
        Extent::unpack(self.state.0.load(Ordering::Acquire))
    }

    /// Lets nobody reserve any more, and returns what was reserved; `None` when it was stopped already.
    pub(crate) fn stop(&self) -> Option<Extent> {
        Extent::unpack(self.state.0.swap(STOPPED << (2 * FIELD_BITS), Ordering::AcqRel))
    }

    /// Undoes a [`Tail::stop`] whose segment has not been released since.
    pub(crate) fn resume(&self, extent: Extent) {
        self.state.0.store(extent.pack(), Ordering::Release);
    }

    /// Returns a slot that [`Tail::publish`] may fill; `None` while appends have yet to leave the segments in all of
    /// them.
    pub(crate) fn free_slot(&self) -> Option<usize> {
        self.slots.iter().position(|slot| slot.0.mapping.load(Ordering::Acquire).is_null())
    }

    /// Makes a stopped tail go on with an empty segment in a free slot.
    pub(crate) fn publish(&self, slot: usize, mapping: Arc<Mapping>, base_seq: u64, seed: u32) {
        let free = &self.slots[slot].0;
        free.base_seq.store(base_seq, Ordering::Relaxed);
        free.seed.store(seed, Ordering::Relaxed);
        free.mapping.store(Arc::into_raw(mapping).cast_mut(), Ordering::Relaxed);
        self.state.0.store(Extent { slot, end: HEADER_BYTES, records: 0 }.pack(), Ordering::Release);
    }

    /// Empties the slot of a segment that is not the newest any more, once every append has left it.
    ///
    /// Returns false while one has not. What is asked is the records themselves, so appends need not count.
    pub(crate) fn release(&self, extent: Extent) -> bool {
        let slot = &self.slots[extent.slot].0;
        let pointer = slot.mapping.load(Ordering::Acquire);
        if pointer.is_null() {
            return true;
        }
        if Extent::unpack(self.state.0.load(Ordering::Acquire)).is_some_and(|newest| newest.slot == extent.slot) {
            return false;
        }
        // SAFETY: the slot's own strong count keeps the mapping alive, and only this function gives it up.
        if !all_committed(unsafe { &*pointer }, extent) {
            return false;
        }
        if slot.mapping.compare_exchange(pointer, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            // SAFETY: the pointer came from `Arc::into_raw` in `publish`, and the exchange gave its count to us alone.
            drop(unsafe { Arc::from_raw(pointer) });
        }
        true
    }
}

fn all_committed(mapping: &Mapping, extent: Extent) -> bool {
    let mut offset = HEADER_BYTES;
    for _ in 0..extent.records {
        let next = (offset < extent.end)
            .then(|| frame::committed_len(mapping.load(offset)))
            .flatten()
            .and_then(frame::frame_bytes)
            .and_then(|bytes| offset.checked_add(bytes));
        match next {
            Some(next) => offset = next,
            None => return false,
        }
    }
    offset == extent.end
}

impl Drop for Tail {
    fn drop(&mut self) {
        for slot in &self.slots {
            let pointer = slot.0.mapping.swap(ptr::null_mut(), Ordering::AcqRel);
            if !pointer.is_null() {
                // SAFETY: as in `release`; `&mut self` means that no append is under way.
                drop(unsafe { Arc::from_raw(pointer) });
            }
        }
    }
}

impl Place<'_> {
    /// Writes the record and commits it; `len` is the length of all parts together, and what was reserved holds it.
    ///
    /// The order matters to whoever reads after a kill at any point: first what makes the hole's length known, then
    /// the payload, last the word that says it is whole.
    #[inline]
    pub(crate) fn write(self, parts: &[&[u8]], len: u32) -> u64 {
        let header_check = frame::header_check(self.seed, self.offset, len, self.seq);
        self.mapping.store(self.offset + 8, self.seq, Ordering::Relaxed);
        self.mapping.store(self.offset + 16, frame::checks_word(0, header_check), Ordering::Relaxed);
        self.mapping.store(self.offset, frame::reserved_word(len), Ordering::Release);
        let (mut at, mut left, mut check) = (self.offset + frame::HEADER_BYTES, len, header_check);
        for part in parts {
            #[expect(clippy::cast_possible_truncation, reason = "checked against what is left on the same line")]
            let Some(rest) = (part.len() <= left as usize).then(|| left - part.len() as u32) else { break };
            // SAFETY: the compare-and-swap of `reserve` gave this range to this place alone, and the parts together
            // do not leave it.
            unsafe { self.mapping.copy_in(at, part) }
            check = crc32c::crc32c_append(check, part);
            at += left - rest;
            left = rest;
        }
        self.mapping.store(self.offset + 16, frame::checks_word(check, header_check), Ordering::Relaxed);
        self.mapping.store(self.offset, frame::committed_word(len), Ordering::Release);
        self.seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_of_8_kib() -> (Tail, Arc<Mapping>) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let mapping = Arc::new(Mapping::new(&file, 8192).unwrap());
        let tail = Tail::stopped(8192);
        tail.publish(tail.free_slot().unwrap(), Arc::clone(&mapping), 100, 7);
        (tail, mapping)
    }

    #[test]
    fn numbers_follow_places_until_the_segment_is_full() {
        let (tail, _mapping) = tail_of_8_kib();
        for index in 0..128 {
            assert_eq!(tail.reserve(32).unwrap().write(&[b"abc", b"", b"defgh"], 8), 100 + index);
        }
        assert!(tail.reserve(24).is_none());
        assert_eq!(tail.stop(), Some(Extent { slot: 0, end: 8192, records: 128 }));
        assert!(tail.stop().is_none());
    }

    #[test]
    fn a_segment_is_not_released_before_its_last_append_has_left_it() {
        let (tail, mapping) = tail_of_8_kib();
        let slow = tail.reserve(32).unwrap();
        tail.reserve(32).unwrap().write(&[b"x"], 1);
        let extent = tail.stop().unwrap();
        assert!(!tail.release(extent));
        slow.write(&[b"y"], 1);
        assert!(tail.release(extent));
        assert_eq!(Arc::strong_count(&mapping), 1);
    }

    #[test]
    fn a_stopped_tail_goes_on_where_it_was_when_resumed() {
        let (tail, _mapping) = tail_of_8_kib();
        tail.reserve(32).unwrap().write(&[b"x"], 1);
        let extent = tail.stop().unwrap();
        assert!(tail.reserve(32).is_none());
        tail.resume(extent);
        assert_eq!(tail.reserve(32).unwrap().write(&[b"x"], 1), 101);
    }
}
