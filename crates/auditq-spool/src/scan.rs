//! Finding the records in a segment, whatever became of it. It reads and decides; it changes no file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::thread;

use crate::chunk::{Chunk, Gap, GapReason};
use crate::cursor::Position;
use crate::frame::{self, Found, Header, State};
use crate::segment::{self, Identity, Seal};

/// Bytes looked at a time in search of the next frame after damage.
const SEARCH_BYTES: usize = 64 << 10;
/// How often bytes of a living segment are read again before they count as damaged: a read may meet a write.
const REREADS: u32 = 3;

/// Something with bytes at offsets.
pub(crate) trait Source {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl Source for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }
}

impl Source for &[u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// Reads until `buffer` is full or the source ends; returns how many bytes it got.
pub(crate) fn read_full(source: &impl Source, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// How much one read may deliver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    /// Offset at which to stop in this segment.
    pub(crate) stop_at: u32,
}

/// Why reading a segment came to a halt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The chunk is full, or the limit is reached.
    Full,
    /// The next record is not there yet.
    Wait,
    /// There are no more frames.
    End(Rest),
}

/// What lies between the last frame of a segment and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Bytes that are not zero, counted up to the last of them.
    pub(crate) bytes: u32,
    /// They look like an append that was not finished.
    pub(crate) torn: bool,
}

/// What a frame at a place is, to someone who expects a certain seq there.
enum Step {
    Record {
        payload: Range<usize>,
        next: u32,
    },
    /// The frame's place and length are known, and its payload is lost.
    Lost {
        next: u32,
        torn: bool,
    },
    /// Nothing says how long whatever stands here is.
    Unclear {
        torn: bool,
    },
    /// More bytes are needed from here on to tell.
    More(usize),
    Wait,
}

/// The frames of one segment.
#[derive(Debug)]
pub(crate) struct Frames {
    number: u64,
    base_seq: u64,
    seed: u32,
    /// No frame reaches beyond it.
    end: u32,
    /// Nothing in the segment will change any more.
    settled: bool,
}

impl Frames {
    /// Describes the frames of a segment whose file has `file_bytes` bytes now.
    pub(crate) fn new(identity: &Identity, seal: Option<Seal>, writer_is_dead: bool, file_bytes: u64) -> Self {
        let whole = seal.map_or(identity.segment_bytes, |seal| seal.end.min(identity.segment_bytes));
        let end = u32::try_from(file_bytes).map_or(whole, |bytes| bytes.min(whole));
        Self {
            number: identity.number,
            base_seq: identity.base_seq,
            seed: identity.seed(),
            end: end.max(segment::HEADER_BYTES),
            settled: writer_is_dead || seal.is_some(),
        }
    }

    /// Puts what stands from `position` on into the chunk, which has no records yet, and moves the position past it.
    ///
    /// Memory is bounded by the limit, or by one record if that is larger.
    pub(crate) fn read(
        &mut self,
        source: &impl Source,
        position: &mut Position,
        chunk: &mut Chunk,
        limits: Limits,
    ) -> io::Result<Halt> {
        // What is in there is of another segment.
        chunk.buffer.clear();
        let mut window = position.offset;
        let mut rereads = if self.settled { 0 } else { REREADS };
        loop {
            if position.offset >= limits.stop_at || chunk.records.len().max(chunk.gaps.len()) >= limits.records {
                return Ok(Halt::Full);
            }
            let start = (position.offset - window) as usize;
            match self.step(chunk.buffer.get(start..).unwrap_or_default(), position.offset, position.seq) {
                Step::Record { payload, next } => {
                    chunk.records.push((position.seq, start + payload.start..start + payload.end));
                    (position.offset, position.seq) = (next, position.seq + 1);
                }
                Step::Wait => return Ok(Halt::Wait),
                // The buffer holds records that were delivered: what needs another look is for the next read.
                Step::More(_) if !chunk.records.is_empty() => return Ok(Halt::Full),
                Step::Lost { .. } | Step::Unclear { .. } if rereads > 0 && !chunk.records.is_empty() => {
                    return Ok(Halt::Full);
                }
                Step::More(bytes) => {
                    window = position.offset;
                    // A look at the header alone at first: polling an idle spool reads next to nothing.
                    let wanted = if bytes > frame::HEADER_BYTES as usize { bytes.max(limits.bytes) } else { bytes };
                    self.fill(source, chunk, window, wanted)?;
                }
                Step::Lost { .. } | Step::Unclear { .. } if rereads > 0 => {
                    rereads -= 1;
                    thread::yield_now();
                    chunk.buffer.clear();
                }
                Step::Lost { next, torn } => {
                    self.pass_over(position, chunk, (next, position.seq + 1), torn);
                }
                Step::Unclear { torn } => match self.search(source, *position)? {
                    Ok(found) => self.pass_over(position, chunk, found, torn),
                    Err(_) if !self.settled => return Ok(Halt::Wait),
                    Err(bytes) => return Ok(Halt::End(Rest { bytes, torn })),
                },
            }
        }
    }

    fn fill(&mut self, source: &impl Source, chunk: &mut Chunk, window: u32, wanted: usize) -> io::Result<()> {
        let count = wanted.min(self.end.saturating_sub(window) as usize);
        chunk.buffer.resize(count, 0);
        let got = read_full(source, &mut chunk.buffer, u64::from(window))?;
        if got < count {
            // Cut off since its length was asked.
            chunk.buffer.truncate(got);
            self.end = window + u32::try_from(got).unwrap_or(0);
        }
        Ok(())
    }

    fn pass_over(&self, position: &mut Position, chunk: &mut Chunk, (next, next_seq): (u32, u64), torn: bool) {
        let (segment, offset, bytes) = (self.number, position.offset, next - position.offset);
        let reason = if torn {
            GapReason::Torn { segment, offset, bytes }
        } else {
            GapReason::Corrupt { segment, offset, bytes }
        };
        chunk.gaps.push(Gap::new(segment, offset, position.seq, next_seq - position.seq, reason));
        (position.offset, position.seq) = (next, next_seq);
    }

    fn step(&self, bytes: &[u8], offset: u32, seq: u64) -> Step {
        let room = (self.end.saturating_sub(offset)) as usize;
        let unclear = |torn: bool| if self.settled || !torn { Step::Unclear { torn } } else { Step::Wait };
        let header = match Header::find(bytes, offset, self.seed) {
            None if room >= frame::HEADER_BYTES as usize => return Step::More(frame::HEADER_BYTES as usize),
            None | Some(Found::Empty) => return unclear(true),
            Some(Found::Unclear { committed }) => return unclear(!committed),
            Some(Found::Header(header)) => header,
        };
        if header.state == State::Reserved && !self.settled {
            return Step::Wait;
        }
        let Some(next) = frame::frame_bytes(header.len).and_then(|bytes| offset.checked_add(bytes)) else {
            return unclear(false);
        };
        let payload = frame::HEADER_BYTES as usize..frame::HEADER_BYTES as usize + header.len as usize;
        match bytes.get(payload.clone()) {
            _ if header.seq != seq => Step::Unclear { torn: false },
            None if payload.end > room => Step::Lost { next: self.end, torn: true },
            None => Step::More(payload.end),
            Some(payload) if !header.matches(payload) => {
                Step::Lost { next: next.min(self.end), torn: header.state == State::Reserved }
            }
            Some(_) => Step::Record { payload, next: next.min(self.end) },
        }
    }

    /// Looks for the next frame from a position on. Returns its offset and seq; or else how many bytes there are up to
    /// the last that is not zero.
    fn search(&self, source: &impl Source, from: Position) -> io::Result<Result<(u32, u64), u32>> {
        let mut buffer = vec![0; SEARCH_BYTES.min(self.end.saturating_sub(from.offset) as usize)];
        let (mut window, mut used_up_to) = (from.offset, from.offset);
        while window < self.end {
            let wanted = buffer.len().min((self.end - window) as usize);
            let got = read_full(source, &mut buffer[..wanted], u64::from(window))?;
            let bytes = &buffer[..got];
            for (offset, candidate) in (window..).step_by(8).zip((0..got).step_by(8).map(|at| &bytes[at..])) {
                if let Some(seq) = self.frame_at(candidate, offset, from) {
                    return Ok(Ok((offset, seq)));
                }
            }
            if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
                used_up_to = used_up_to.max(window + u32::try_from(last).unwrap_or(0) + 1);
            }
            if got < wanted || window + u32::try_from(got).unwrap_or(0) >= self.end {
                break;
            }
            // A header may straddle two windows.
            window += (u32::try_from(got).unwrap_or(0) - frame::HEADER_BYTES) & !(frame::ALIGN - 1);
        }
        Ok(Err(used_up_to - from.offset))
    }

    /// Returns the seq of the frame at `offset`, if there is one that can come after `from`.
    fn frame_at(&self, bytes: &[u8], offset: u32, from: Position) -> Option<u64> {
        let Found::Header(header) = Header::find(bytes, offset, self.seed)? else { return None };
        let first = from.seq + u64::from(offset == from.offset);
        let last = self.base_seq.checked_add(u64::from((offset - segment::HEADER_BYTES) / frame::HEADER_BYTES))?;
        (first..=last).contains(&header.seq).then_some(header.seq)
    }
}

/// What [`scan`] found in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Whole records.
    pub records: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Places where something is missing.
    pub gaps: u64,
    /// Whether there is a header to go by.
    pub readable: bool,
}

/// Reads the bytes of a segment file whose writer is dead, for checks and fuzzing. It takes any bytes.
///
/// # Errors
/// None from bytes in memory; the type is that of reading a file.
pub fn scan(bytes: &[u8]) -> io::Result<Summary> {
    let Some(identity) = Identity::parse(bytes) else { return Ok(Summary::default()) };
    let seal = Seal::parse(bytes, identity.seed());
    let mut frames = Frames::new(&identity, seal, true, bytes.len() as u64);
    let mut position = Position::start_of(identity.number, identity.base_seq);
    let mut summary = Summary { readable: true, ..Summary::default() };
    let mut chunk = Chunk::default();
    loop {
        chunk.clear(position);
        let limits = Limits { records: 64, bytes: 8 << 10, stop_at: u32::MAX };
        let halt = frames.read(&bytes, &mut position, &mut chunk, limits)?;
        summary.records += chunk.records().len() as u64;
        summary.payload_bytes += chunk.records().map(|record| record.payload.len() as u64).sum::<u64>();
        summary.gaps += chunk.gaps().len() as u64;
        match halt {
            Halt::Full => {}
            Halt::Wait => return Ok(summary),
            Halt::End(rest) => {
                summary.gaps += u64::from(rest.bytes > 0);
                return Ok(summary);
            }
        }
    }
}

/// Returns the bytes of a segment file with these records, for checks and fuzzing.
#[doc(hidden)]
#[must_use]
pub fn sample_segment(
    producer: crate::ProducerId,
    number: u64,
    base_seq: u64,
    segment_bytes: u32,
    payloads: &[&[u8]],
) -> Vec<u8> {
    let salt = 0x5eed ^ number;
    let identity = Identity { producer, number, base_seq, salt, created_at_us: 0, segment_bytes };
    let mut bytes = identity.page();
    for (payload, seq) in payloads.iter().zip(base_seq..) {
        let (Ok(len), Ok(offset)) = (u32::try_from(payload.len()), u32::try_from(bytes.len())) else { break };
        let check = frame::header_check(identity.seed(), offset, len, seq);
        bytes.extend(frame::committed_word(len).to_le_bytes());
        bytes.extend(seq.to_le_bytes());
        bytes.extend(frame::checks_word(crc32c::crc32c_append(check, payload), check).to_le_bytes());
        bytes.extend(*payload);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes.resize(bytes.len().max(segment_bytes as usize), 0);
    bytes
}
