//! TPC-H's 22 queries in SQLite's dialect.
//!
//! Their text is that of the specification, as the crate `tpchgen` has it. Only the dialect is changed: dates are
//! texts, intervals are modifiers of `date()`, and substitution parameters are bindings.

use tpchgen::q_and_a::queries;

/// One of the queries, ready to run.
#[derive(Debug)]
pub(super) struct Query {
    /// Its text in SQLite's dialect.
    pub(super) sql: String,
    /// Its bindings: those that the specification validates with; for Q11 and Q18 such that there are rows at this scale.
    pub(super) bindings: &'static [Parameter],
    /// The tables that it reads, sorted.
    pub(super) tables: &'static str,
}

/// A substitution parameter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parameter {
    /// Text, and dates.
    Text(&'static str),
    /// Whole numbers.
    Integer(i64),
    /// Shares and prices.
    Real(f64),
}

use Parameter::{Integer as I, Real as R, Text as T};

/// Bindings and tables of Q1 to Q22.
const QUERIES: [(&[Parameter], &str); 22] = [
    (&[I(90)], "lineitem"),
    (&[I(15), T("BRASS"), T("EUROPE")], "nation part partsupp region supplier"),
    (&[T("BUILDING"), T("1995-03-15")], "customer lineitem orders"),
    (&[T("1993-07-01")], "lineitem orders"),
    (&[T("ASIA"), T("1994-01-01")], "customer lineitem nation orders region supplier"),
    (&[T("1994-01-01"), R(0.06), I(24)], "lineitem"),
    (&[T("FRANCE"), T("GERMANY")], "customer lineitem nation orders supplier"),
    (&[T("BRAZIL"), T("AMERICA"), T("ECONOMY ANODIZED STEEL")], "customer lineitem nation orders part region supplier"),
    (&[T("green")], "lineitem nation orders part partsupp supplier"),
    (&[T("1993-10-01")], "customer lineitem nation orders"),
    (&[T("GERMANY"), R(0.01)], "nation partsupp supplier"),
    (&[T("MAIL"), T("SHIP"), T("1994-01-01")], "lineitem orders"),
    (&[T("special"), T("requests")], "customer orders"),
    (&[T("1995-09-01")], "lineitem part"),
    (&[T("1996-01-01")], "lineitem supplier"),
    (
        &[T("Brand#45"), T("MEDIUM POLISHED"), I(49), I(14), I(23), I(45), I(19), I(3), I(36), I(9)],
        "part partsupp supplier",
    ),
    (&[T("Brand#23"), T("MED BOX")], "lineitem part"),
    (&[I(250)], "customer lineitem orders"),
    (&[T("Brand#12"), T("Brand#23"), T("Brand#34"), I(1), I(10), I(20)], "lineitem part"),
    (&[T("forest"), T("1994-01-01"), T("CANADA")], "lineitem nation part partsupp supplier"),
    (&[T("SAUDI ARABIA")], "lineitem nation orders supplier"),
    (&[T("13"), T("31"), T("23"), T("29"), T("30"), T("18"), T("17")], "customer orders"),
];

/// What SQLite says otherwise, tried in this order; a query may have none of them.
const DIALECT: &[(&str, &str)] = &[
    ("date '1998-12-01' - interval ':1' day (3)", "date('1998-12-01', '-' || ?1 || ' days')"),
    ("date ':1' + interval '3' month", "date(?1, '+3 months')"),
    ("date ':1' + interval '1' month", "date(?1, '+1 month')"),
    ("date ':1' + interval '1' year", "date(?1, '+1 year')"),
    ("date ':2' + interval '1' year", "date(?2, '+1 year')"),
    ("date ':3' + interval '1' year", "date(?3, '+1 year')"),
    ("extract(year from l_shipdate)", "CAST(strftime('%Y', l_shipdate) AS INTEGER)"),
    ("extract(year from o_orderdate)", "CAST(strftime('%Y', o_orderdate) AS INTEGER)"),
    ("substring(c_phone from 1 for 2)", "substr(c_phone, 1, 2)"),
    ("date '", "'"),
    // Columns are named where they are made, not where the subquery is.
    ("count(o_orderkey)\n", "count(o_orderkey) as c_count\n"),
    (" as c_orders (c_custkey, c_count)", " as c_orders"),
    // The variant of Q15 that the specification approves for systems without views.
    ("create view revenue:s (supplier_no, total_revenue) as\n", "with revenue (supplier_no, total_revenue) as (\n"),
    ("l_suppkey;\n", "l_suppkey)\n"),
    ("drop view revenue:s;", ""),
    ("revenue:s", "revenue"),
];

/// All 22, Q1 first.
pub(super) fn queries() -> Vec<Query> {
    let query = |(number, &(bindings, tables)): (i32, &(&'static [Parameter], &'static str))| {
        let sql = in_dialect(queries::query(number).unwrap_or_default());
        Query { sql, bindings, tables }
    };
    (1..).zip(&QUERIES).map(query).collect()
}

fn in_dialect(query: &str) -> String {
    let sql = DIALECT.iter().fold(query.to_owned(), |sql, (theirs, ours)| sql.replace(theirs, ours));
    let sql = with_bindings(&sql);
    sql.trim().trim_end_matches(';').to_owned()
}

/// Makes `?1` of `:1`, and of `'%:1%'` the text put together with it.
fn with_bindings(sql: &str) -> String {
    let mut bound = String::with_capacity(sql.len());
    for (index, piece) in sql.split('\'').enumerate() {
        let is_literal = index % 2 == 1;
        if !is_literal {
            bound.push_str(&piece.replace(':', "?"));
        } else if piece.contains(':') {
            bound.push_str(&literal_with_bindings(piece));
        } else {
            bound.push_str(&format!("'{piece}'"));
        }
    }
    bound
}

/// `%:1%:2%` becomes `'%' || ?1 || '%' || ?2 || '%'`.
fn literal_with_bindings(literal: &str) -> String {
    let mut parts = Vec::new();
    for (index, piece) in literal.split(':').enumerate() {
        let digits = if index == 0 { 0 } else { piece.bytes().take_while(u8::is_ascii_digit).count() };
        let (number, text) = piece.split_at(digits);
        if !number.is_empty() {
            parts.push(format!("?{number}"));
        }
        if !text.is_empty() {
            parts.push(format!("'{text}'"));
        }
    }
    parts.join(" || ")
}

#[cfg(test)]
mod tests {
    use auditq_sqlite::rusqlite::types::Value;
    use auditq_sqlite::rusqlite::{Connection, params_from_iter};

    use super::*;

    #[test]
    fn every_query_runs_on_the_shop_and_finds_something() {
        let file = tempfile::NamedTempFile::new().unwrap();
        super::super::tpch::fill(file.path(), || {}).unwrap();
        let connection = Connection::open(file.path()).unwrap();
        for (number, query) in (1..).zip(queries()) {
            let mut statement = connection.prepare(&query.sql).unwrap_or_else(|error| panic!("Q{number}: {error}"));
            assert_eq!(statement.parameter_count(), query.bindings.len(), "Q{number}");
            let values = query.bindings.iter().map(|binding| match *binding {
                T(text) => Value::Text(text.to_owned()),
                I(number) => Value::Integer(number),
                R(number) => Value::Real(number),
            });
            let rows = statement.query(params_from_iter(values)).unwrap();
            let rows = rows.mapped(|_| Ok(())).collect::<Result<Vec<()>, _>>().unwrap().len();
            assert!(rows > 0, "Q{number} finds nothing");
        }
    }

    #[test]
    fn a_parameter_within_a_text_is_put_together_with_it() {
        assert_eq!(
            with_bindings("a like '%:1%:2%' and b = ':10' and c < :3"),
            "a like '%' || ?1 || '%' || ?2 || '%' and b = ?10 and c < ?3"
        );
        assert_eq!(with_bindings("r = 'R'"), "r = 'R'");
    }
}
