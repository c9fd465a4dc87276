//! Conditions that pick rows by their numbers.

/// How many terms one condition has at the most. From a thousand numbers on MariaDB turns an IN into a join with a table that it
/// makes of them (`in_predicate_conversion_threshold`), and reads the whole queue for it.
const TERMS_MAX: usize = 500;

/// Up to so many runs of numbers are one statement each.
const RUNS_MAX: usize = 32;

/// As [`among`], for statements that change rows which are all there and are mostly locked by us: what stands behind WHERE.
///
/// Each ends with its last row. Without a limit the server goes on to the row behind a range to see that it is over, and waits
/// for whoever has locked that one.
pub(super) fn each_among(column: &str, numbers: &[u64]) -> Vec<String> {
    let runs = runs_of(numbers);
    let picked: Vec<(String, usize)> = if runs.len() <= RUNS_MAX {
        runs.iter().map(|run| (condition(column, &[run]), run.len())).collect()
    } else {
        let single = |numbers: &[u64]| condition(column, &numbers.chunks(1).collect::<Vec<_>>());
        numbers.chunks(TERMS_MAX).map(|some| (single(some), some.len())).collect()
    };
    picked.into_iter().map(|(condition, count)| format!("{condition} ORDER BY {column} LIMIT {count}")).collect()
}

/// Conditions that together pick the rows of these numbers.
///
/// Numbers that follow each other are one range, as those of a queue mostly do once they are sorted: the server then goes
/// along its index, and does not look up each of them. There is nothing in numbers to escape.
pub(super) fn among(column: &str, numbers: &[u64]) -> Vec<String> {
    let runs = runs_of(numbers);
    runs.chunks(TERMS_MAX).map(|runs| condition(column, runs)).collect()
}

/// Numbers that follow each other, together.
fn runs_of(numbers: &[u64]) -> Vec<&[u64]> {
    numbers.chunk_by(|one, next| one.checked_add(1) == Some(*next)).collect()
}

fn condition(column: &str, runs: &[&[u64]]) -> String {
    let (mut terms, mut single) = (Vec::new(), Vec::new());
    for run in runs {
        match run {
            [] => {}
            [number] => single.push(number.to_string()),
            [first, .., last] => terms.push(format!("{column} BETWEEN {first} AND {last}")),
        }
    }
    if !single.is_empty() {
        terms.push(format!("{column} IN ({})", single.join(",")));
    }
    format!("({})", terms.join(" OR "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_each_other_are_a_range() {
        assert!(among("id", &[]).is_empty());
        assert_eq!(among("id", &[7]), ["(id IN (7))"]);
        assert_eq!(
            among("id", &[1, 2, 3, 5, 8, 9, 12]),
            ["(id BETWEEN 1 AND 3 OR id BETWEEN 8 AND 9 OR id IN (5,12))"]
        );
        assert_eq!(among("id", &[u64::MAX - 1, u64::MAX]), [format!("(id BETWEEN {} AND {})", u64::MAX - 1, u64::MAX)]);
    }

    #[test]
    fn a_change_ends_with_its_last_row() {
        assert!(each_among("id", &[]).is_empty());
        assert_eq!(
            each_among("id", &[1, 2, 3, 7]),
            ["(id BETWEEN 1 AND 3) ORDER BY id LIMIT 3", "(id IN (7)) ORDER BY id LIMIT 1"]
        );
        let even: Vec<u64> = (0..501).map(|n| n * 2).collect();
        let many = each_among("id", &even);
        assert!(many.len() == 2 && many[0].ends_with(",998)) ORDER BY id LIMIT 500"), "{many:?}");
        assert_eq!(many[1], "(id IN (1000)) ORDER BY id LIMIT 1");
    }

    #[test]
    fn no_condition_has_too_many_terms() {
        let even: Vec<u64> = (0..1_001).map(|n| n * 2).collect();
        let counts: Vec<_> = among("id", &even).iter().map(|one| one.matches(',').count() + 1).collect();
        assert_eq!(counts, [500, 500, 1]);
        let all: Vec<u64> = (0..10_000).collect();
        assert_eq!(among("job_id", &all), ["(job_id BETWEEN 0 AND 9999)"]);
    }
}
