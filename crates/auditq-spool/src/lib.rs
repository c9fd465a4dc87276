//! A crash-safe local log of opaque records in recycled, memory-mapped segments.
//!
//! A process opens a [`Spool`] and appends to it from any number of threads; a [`Reader`], in this process or another,
//! delivers every record at least once, in order, with its seq, also after the writer was killed. Nothing here is
//! async, and nothing needs a server.
//!
//! ```
//! use auditq_spool::{Chunk, Options, Reader, Spool};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! # let root = root.path();
//! let spool = Spool::open(root, Options { segment_bytes: 64 << 10, ..Options::default() })?;
//! assert_eq!(spool.append(&[b"select ", b"1"])?, 0);
//!
//! for producer in Reader::producers(root)? {
//!     let Some(mut reader) = Reader::open(root, producer)? else { continue };
//!     let mut chunk = Chunk::default();
//!     reader.read(&mut chunk, 1000, 1 << 20)?;
//!     let record = chunk.records().next().ok_or("nothing to read")?;
//!     assert_eq!((record.seq, record.payload), (0, &b"select 1"[..]));
//!     reader.commit(chunk.end())?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The records are the only truth on disk: a cursor is a hint that may lag, and is not believed when it leads.
//!
//! # Limits
//! Linux and other Unixes with `flock`, on a local file system: one that keeps allocated blocks writable (ext4, XFS,
//! tmpfs). Whoever truncates a living spool's files kills its process by SIGBUS; the directory is its owner's alone.

mod chunk;
mod cursor;
mod desk;
mod disk;
mod error;
mod frame;
mod id;
mod label;
mod listing;
mod maintenance;
mod mapping;
mod options;
mod reader;
pub mod scan;
mod segment;
mod spare;
mod sync;
mod tail;
mod writer;

pub use chunk::{Chunk, Gap, GapReason, Record};
pub use cursor::Position;
pub use disk::{Disk, RealDisk};
pub use error::{AppendError, DiskError, OpenError, ReadError};
pub use id::{ParseProducerIdError, ProducerId};
pub use options::{Durability, Options, WhenFull};
pub use reader::{Reader, Removal};
pub use writer::{Spool, SpoolStats};
