//! What is in a producer's directory.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::error::{Attempt as _, DiskError};
use crate::label;
use crate::scan::read_full;
use crate::segment;

/// Lists the numbers of the segments, oldest first.
pub(crate) fn segments(directory: &Path) -> Result<Vec<u64>, DiskError> {
    let mut numbers: Vec<u64> = names(directory)?.iter().filter_map(|name| segment::number_of(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Returns the number of the first segment after `number`.
pub(crate) fn segment_after(directory: &Path, number: u64) -> Result<Option<u64>, DiskError> {
    let following = number.checked_add(1);
    if following.is_some_and(|number| directory.join(segment::file_name(number)).exists()) {
        return Ok(following);
    }
    Ok(segments(directory)?.into_iter().find(|&other| other > number))
}

/// Lists the names in a directory that are text; none when it is not there.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, DiskError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::new("list", directory, error)),
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect::<io::Result<_>>().attempt("list", directory)
}

/// Reads the header page of a segment, or as much of it as there is.
pub(crate) fn header_page(file: &File) -> io::Result<Vec<u8>> {
    let mut page = vec![0; segment::HEADER_BYTES as usize];
    let count = read_full(file, &mut page, 0)?;
    page.truncate(count);
    Ok(page)
}

/// Reads what a producer said of itself; nothing when that is missing or damaged.
pub(crate) fn label(directory: &Path) -> Result<Vec<u8>, DiskError> {
    let path = directory.join(label::FILE_NAME);
    match fs::read(&path) {
        Ok(bytes) => Ok(label::decode(&bytes).unwrap_or_default().to_vec()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(DiskError::new("read", &path, error)),
    }
}
