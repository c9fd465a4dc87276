//! A segment file in memory. One of the two modules with `unsafe`.
#![expect(unsafe_code, reason = "appending without a system call needs a shared mapping")]

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::disk::retry_interrupted;

/// A shared, writable mapping of a whole segment file.
///
/// The file's blocks are allocated before and nobody truncates it (its directory is its owner's alone), so a store
/// cannot raise SIGBUS. Readers in other processes use `pread`.
#[derive(Debug)]
pub(crate) struct Mapping {
    raw: MmapRaw,
    len: u32,
}

impl Mapping {
    /// Maps the first `len` bytes of a file and makes every page writable at once, so that no append meets a page
    /// fault.
    pub(crate) fn new(file: &File, len: u32) -> io::Result<Self> {
        let raw = retry_interrupted(|| MmapOptions::new().len(len as usize).map_raw(file))?;
        let mut mapping = Self { raw, len };
        match retry_interrupted(|| mapping.raw.advise(Advice::PopulateWrite)) {
            Ok(()) => {}
            // Linux before 5.14 does not know the advice: touch the pages by hand. Any other refusal means that the
            // pages cannot be written, which a store would learn by SIGBUS.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => mapping.touch(),
            Err(error) => return Err(error),
        }
        Ok(mapping)
    }

    fn touch(&mut self) {
        for at in (0..self.len).step_by(4096) {
            let word = self.load(at);
            self.store(at, word, Ordering::Relaxed);
        }
    }

    /// Makes the pages in `from..to` writable again after the kernel wrote them back; best effort, as it only saves
    /// an append a page fault.
    pub(crate) fn warm(&self, from: u32, to: u32) -> bool {
        let (from, to) = (from & !4095, to.min(self.len));
        from < to && self.raw.advise_range(Advice::PopulateWrite, from as usize, (to - from) as usize).is_ok()
    }

    /// Overwrites everything up to `end` with zeros.
    pub(crate) fn zero(&mut self, end: u32) {
        let end = end.min(self.len) as usize;
        // SAFETY: the range lies in the mapping, and `&mut self` means that no append can be under way in it.
        unsafe { self.raw.as_mut_ptr().write_bytes(0, end) }
    }

    /// Writes `bytes` at `offset` while nobody else has this mapping.
    pub(crate) fn write(&mut self, offset: u32, bytes: &[u8]) {
        // SAFETY: `&mut self` is the exclusive right to the whole range, which `copy_in` checks to be inside.
        unsafe { self.copy_in(offset, bytes) }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Safety
    /// Nobody else in this process may access the range `offset..offset + bytes.len()` at the same time.
    #[inline]
    pub(crate) unsafe fn copy_in(&self, offset: u32, bytes: &[u8]) {
        let end = (offset as usize).saturating_add(bytes.len());
        assert!(end <= self.len as usize, "a copy must stay inside its segment");
        // SAFETY: the target was just checked to lie in the mapping and by contract is this caller's alone; the
        // source is a live slice, and cannot overlap it, as no reference into the mapping is ever made.
        unsafe { self.raw.as_mut_ptr().add(offset as usize).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Stores a word, little endian, at a multiple of 8.
    #[inline]
    pub(crate) fn store(&self, offset: u32, word: u64, ordering: Ordering) {
        self.word(offset).store(word.to_le(), ordering);
    }

    /// Loads a word, and sees all that was stored before it.
    #[inline]
    pub(crate) fn load(&self, offset: u32) -> u64 {
        u64::from_le(self.word(offset).load(Ordering::Acquire))
    }

    #[inline]
    fn word(&self, offset: u32) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset < self.len, "a word must stay inside its segment");
        // SAFETY: inside the mapping (whose length is a multiple of 4,096) and aligned, as just checked, and alive as
        // long as `self`. Words are accessed only through this function while they can be shared.
        unsafe { AtomicU64::from_ptr(self.raw.as_mut_ptr().add(offset as usize).cast()) }
    }
}

/// Tells a forked child from the process that made it, at the cost of one load.
#[derive(Debug)]
pub(crate) struct ForkGuard {
    page: MmapRaw,
}

impl ForkGuard {
    /// Maps a page that the kernel gives a forked child as zeros (Linux 4.14).
    pub(crate) fn new() -> io::Result<Self> {
        let page: MmapRaw = MmapOptions::new().len(4096).map_anon()?.into();
        let guard = Self { page };
        // SAFETY: the range is the page just mapped, whose content is not relied on before the mark is set.
        unsafe {
            rustix::mm::madvise(guard.page.as_mut_ptr().cast(), 4096, rustix::mm::Advice::LinuxWipeOnFork)?;
        }
        guard.mark().store(1, Ordering::Relaxed);
        Ok(guard)
    }

    /// Tells whether this process is a child of the one that called [`ForkGuard::new`].
    #[inline]
    pub(crate) fn is_child(&self) -> bool {
        self.mark().load(Ordering::Relaxed) == 0
    }

    #[inline]
    fn mark(&self) -> &AtomicU64 {
        // SAFETY: the page is aligned, longer than a word and lives as long as `self`; nothing else accesses it.
        unsafe { AtomicU64::from_ptr(self.page.as_mut_ptr().cast()) }
    }
}
