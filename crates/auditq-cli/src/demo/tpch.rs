//! TPC-H's tables in a SQLite file: the shop that the demo's application serves.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Context as _, Result};
use auditq_sqlite::rusqlite::{Connection, Transaction, params_from_iter};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

/// 1,500 customers, 2,000 parts, 15,000 orders with about 60,000 line items.
pub(super) const SCALE: f64 = 0.01;
/// Customers at that scale, numbered from 1.
pub(super) const CUSTOMERS: i64 = 1_500;
/// Parts at that scale, numbered from 1.
pub(super) const PARTS: i64 = 2_000;
/// Orders at that scale; [`order_key`] numbers them.
pub(super) const ORDERS: i64 = 15_000;

/// Numbers and dates as SQLite has them, and besides TPC-H's tables the one that the application's sign-in needs.
const TABLES: &str = "
CREATE TABLE region (r_regionkey INTEGER PRIMARY KEY, r_name TEXT NOT NULL, r_comment TEXT);
CREATE TABLE nation (
  n_nationkey INTEGER PRIMARY KEY, n_name TEXT NOT NULL, n_regionkey INTEGER NOT NULL, n_comment TEXT);
CREATE TABLE part (
  p_partkey INTEGER PRIMARY KEY, p_name TEXT NOT NULL, p_mfgr TEXT NOT NULL, p_brand TEXT NOT NULL,
  p_type TEXT NOT NULL, p_size INTEGER NOT NULL, p_container TEXT NOT NULL, p_retailprice REAL NOT NULL,
  p_comment TEXT NOT NULL);
CREATE TABLE supplier (
  s_suppkey INTEGER PRIMARY KEY, s_name TEXT NOT NULL, s_address TEXT NOT NULL, s_nationkey INTEGER NOT NULL,
  s_phone TEXT NOT NULL, s_acctbal REAL NOT NULL, s_comment TEXT NOT NULL);
CREATE TABLE partsupp (
  ps_partkey INTEGER NOT NULL, ps_suppkey INTEGER NOT NULL, ps_availqty INTEGER NOT NULL,
  ps_supplycost REAL NOT NULL, ps_comment TEXT NOT NULL, PRIMARY KEY (ps_partkey, ps_suppkey));
CREATE TABLE customer (
  c_custkey INTEGER PRIMARY KEY, c_name TEXT NOT NULL, c_address TEXT NOT NULL, c_nationkey INTEGER NOT NULL,
  c_phone TEXT NOT NULL, c_acctbal REAL NOT NULL, c_mktsegment TEXT NOT NULL, c_comment TEXT NOT NULL);
CREATE TABLE orders (
  o_orderkey INTEGER PRIMARY KEY, o_custkey INTEGER NOT NULL, o_orderstatus TEXT NOT NULL,
  o_totalprice REAL NOT NULL, o_orderdate TEXT NOT NULL, o_orderpriority TEXT NOT NULL, o_clerk TEXT NOT NULL,
  o_shippriority INTEGER NOT NULL, o_comment TEXT NOT NULL);
CREATE TABLE lineitem (
  l_orderkey INTEGER NOT NULL, l_partkey INTEGER NOT NULL, l_suppkey INTEGER NOT NULL,
  l_linenumber INTEGER NOT NULL, l_quantity REAL NOT NULL, l_extendedprice REAL NOT NULL,
  l_discount REAL NOT NULL, l_tax REAL NOT NULL, l_returnflag TEXT NOT NULL, l_linestatus TEXT NOT NULL,
  l_shipdate TEXT NOT NULL, l_commitdate TEXT NOT NULL, l_receiptdate TEXT NOT NULL, l_shipinstruct TEXT NOT NULL,
  l_shipmode TEXT NOT NULL, l_comment TEXT NOT NULL, PRIMARY KEY (l_orderkey, l_linenumber));
CREATE TABLE account (
  user_id INTEGER PRIMARY KEY, username TEXT NOT NULL UNIQUE, session_token TEXT NOT NULL, password TEXT NOT NULL);
";

/// What keeps TPC-H's queries under a tenth of a second: the keys that they join by.
const INDEXES: &str = "
CREATE INDEX lineitem_part ON lineitem (l_partkey, l_suppkey);
CREATE INDEX lineitem_shipped ON lineitem (l_shipdate);
CREATE INDEX orders_customer ON orders (o_custkey);
CREATE INDEX orders_dated ON orders (o_orderdate);
CREATE INDEX partsupp_supplier ON partsupp (ps_suppkey);
ANALYZE;
";

/// Makes the database file and fills it, in one transaction; `loaded` is told after each table.
///
/// Nothing of it is audited: it is what was there before the application started.
pub(super) fn fill(file: &Path, loaded: impl Fn()) -> Result<()> {
    let make = || format!("cannot make the demo's shop in {}", file.display());
    let mut connection = Connection::open(file).with_context(make)?;
    connection.pragma_update(None, "journal_mode", "WAL").with_context(make)?;
    let transaction = connection.transaction().with_context(make)?;
    transaction.execute_batch(TABLES).with_context(make)?;
    let load = |transaction: &Transaction<'_>| -> Result<()> {
        insert(transaction, "region", RegionGenerator::new(SCALE, 1, 1).iter(), &loaded)?;
        insert(transaction, "nation", NationGenerator::new(SCALE, 1, 1).iter(), &loaded)?;
        insert(transaction, "part", PartGenerator::new(SCALE, 1, 1).iter(), &loaded)?;
        insert(transaction, "supplier", SupplierGenerator::new(SCALE, 1, 1).iter(), &loaded)?;
        insert(transaction, "partsupp", PartSuppGenerator::new(SCALE, 1, 1).iter(), &loaded)?;
        insert(transaction, "customer", CustomerGenerator::new(SCALE, 1, 1).iter(), &loaded)?;
        insert(transaction, "orders", OrderGenerator::new(SCALE, 1, 1).iter(), &loaded)?;
        insert(transaction, "lineitem", LineItemGenerator::new(SCALE, 1, 1).iter(), &loaded)
    };
    load(&transaction).with_context(make)?;
    transaction.execute_batch(INDEXES).with_context(make)?;
    transaction.commit().with_context(make)
}

/// How often [`fill`] reports.
pub(super) const TABLES_FILLED: u64 = 8;

/// Inserts rows in the format that TPC-H's own generator writes: fields that end in `|`. SQLite's column types make
/// numbers of those that are.
fn insert(
    transaction: &Transaction<'_>,
    table: &str,
    rows: impl Iterator<Item = impl Display>,
    loaded: impl Fn(),
) -> Result<()> {
    let columns = transaction.prepare(&format!("SELECT * FROM {table}"))?.column_count();
    let places = vec!["?"; columns].join(", ");
    let mut statement = transaction.prepare(&format!("INSERT INTO {table} VALUES ({places})"))?;
    for row in rows {
        let row = row.to_string();
        statement.execute(params_from_iter(fields(&row)))?;
    }
    loaded();
    Ok(())
}

/// The fields of one row of TPC-H's text format.
pub(super) fn fields(row: &str) -> impl Iterator<Item = &str> {
    row.strip_suffix('|').unwrap_or(row).split('|')
}

/// The key of the order with this number (from 1): TPC-H uses eight of every 32 keys.
pub(super) fn order_key(number: i64) -> i64 {
    OrderGenerator::make_order_key(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_text_format_has_as_many_fields_as_columns() {
        let region = RegionGenerator::new(SCALE, 1, 1).iter().next().unwrap().to_string();
        assert_eq!(fields(&region).count(), 3);
        assert_eq!(fields("1|a||").collect::<Vec<_>>(), ["1", "a", ""]);
    }

    #[test]
    fn every_order_that_is_asked_for_exists() {
        let last = OrderGenerator::new(SCALE, 1, 1).iter().last().unwrap();
        assert_eq!(last.o_orderkey, order_key(ORDERS));
    }
}
