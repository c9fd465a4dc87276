//! Where reading begins.

use crate::chunk::Chunk;
use crate::cursor::{self, Position};
use crate::error::DiskError;
use crate::listing;
use crate::scan::Limits;

use super::Reader;

impl Reader {
    /// Returns where to begin: at the cursor if it can be believed, or else at the oldest segment.
    pub(super) fn start(&mut self) -> Result<Position, DiskError> {
        let oldest = self.oldest()?;
        let cursor_file = self.directory.join(cursor::FILE_NAME);
        match cursor::load(&self.directory, self.producer)? {
            Some(cursor) if self.reaches(oldest, cursor)? => return Ok(cursor),
            Some(_) => self.restarted = Some("the cursor is ahead of the records"),
            None if cursor_file.exists() => self.restarted = Some("the cursor is damaged"),
            None => {}
        }
        self.current = None;
        Ok(oldest)
    }

    /// Returns the place of the oldest record that is there.
    fn oldest(&self) -> Result<Position, DiskError> {
        let segments = listing::segments(&self.directory)?;
        let Some(&first) = segments.first() else { return Ok(Position::start_of(0, 0)) };
        for &number in &segments {
            if let Some(identity) = self.open_segment(number)?.and_then(|open| open.identity) {
                // Records before an unreadable first segment of all are missing; before a later one they may have
                // been read and recycled, and nothing says how many there were.
                let seq = if first == 0 { 0 } else { identity.base_seq };
                return Ok(Position::start_of(first, seq));
            }
        }
        Ok(Position::start_of(first, 0))
    }

    /// Tells whether reading from the oldest record on comes to stand exactly at `cursor`.
    ///
    /// Only the cursor's own segment is walked through: its header vouches for those before.
    fn reaches(&mut self, oldest: Position, cursor: Position) -> Result<bool, DiskError> {
        let segments = listing::segments(&self.directory)?;
        let from = match segments.iter().rev().find(|&&number| number <= cursor.segment) {
            None => return Ok(segments.is_empty()),
            Some(&number) if number == oldest.segment => oldest,
            Some(&number) => match self.open_segment(number)?.and_then(|open| open.identity) {
                Some(identity) => Position::start_of(number, identity.base_seq),
                None => return Ok(false),
            },
        };
        self.position = from;
        let mut chunk = Chunk::default();
        while (self.position.segment, self.position.offset) < (cursor.segment, cursor.offset) {
            chunk.clear(self.position);
            let stop_at = if self.position.segment == cursor.segment { cursor.offset } else { u32::MAX };
            if !self.advance(&mut chunk, Limits { records: 4096, bytes: 256 << 10, stop_at })? {
                break;
            }
        }
        Ok(self.position == cursor)
    }
}
