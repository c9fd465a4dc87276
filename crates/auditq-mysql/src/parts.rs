use std::ops::Range;

/// How many rows one statement may have. A few sizes, so that each is prepared once for a connection; the first is what a
/// worker takes of Laravel's jobs at a time.
const ROWS: [usize; 6] = [1_000, 256, 64, 16, 4, 1];

/// How many values one statement may have. The servers take 65,535; but a table of 42 columns took a quarter fewer rows a second
/// in statements of 1,000 rows than of 256 (`auditq-bench pipeline --engine mysql`), and one of 11 took more.
const VALUES_MAX: usize = 11_000;

/// Cuts rows of these sizes in bytes and of so many `columns` into statements of a few counts of rows; each fits into a
/// packet of so many bytes, unless it is of one row.
pub fn parts(sizes: &[usize], columns: usize, packet: usize) -> impl Iterator<Item = Range<usize>> + Send {
    let mut begin = 0;
    let rows_max = (VALUES_MAX / columns.max(1)).min(ROWS[0]);
    std::iter::from_fn(move || {
        let left = &sizes[begin..];
        let mut bytes = 0;
        let fitting = left.iter().take(rows_max).take_while(|size| {
            bytes += *size;
            bytes <= packet
        });
        let fits = fitting.count().max(1).min(left.len());
        let count = ROWS.into_iter().find(|count| *count <= fits)?;
        begin += count;
        Some(begin - count..begin)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: usize, bytes: usize, packet: usize) -> Vec<usize> {
        parts(&vec![bytes; rows], 42, packet).map(|part| part.len()).collect()
    }

    #[test]
    fn a_batch_is_cut_into_few_sizes() {
        assert_eq!(counts(0, 10, 1 << 24), [0_usize; 0]);
        assert_eq!(counts(600, 10, 1 << 24), [256, 256, 64, 16, 4, 4]);
        assert_eq!(counts(3, 10, 1 << 24), [1, 1, 1]);
    }

    #[test]
    fn the_more_columns_there_are_the_fewer_rows_has_a_statement() {
        let counts = |columns| parts(&vec![10; 1_000], columns, 1 << 24).map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(counts(11), [1_000]);
        assert_eq!(counts(12)[0], 256);
        assert_eq!(counts(1_017)[0], 4);
        assert_eq!(counts(20_000), [1; 1_000]);
    }

    #[test]
    fn a_statement_fits_into_a_packet_or_is_one_row() {
        assert_eq!(counts(6, 200, 1_000), [4, 1, 1]);
        assert_eq!(counts(2, 2_000, 1_000), [1, 1]);
    }
}
