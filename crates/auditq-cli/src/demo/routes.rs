//! What the application does for its users. Each handler answers with what it executed, by its own count.

use std::sync::Arc;

use auditq_sqlx::AuditedTransaction;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::{Json, http};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Error, Sqlite};

use super::analytics::Parameter;
use super::app::Shop;
use super::ledger::{COMMITTED, Ledger, ROLLED_BACK, Statement};
use super::refresh::NewOrder;
use super::sessions::{SignedIn, random_hex};
use super::tpch::order_key;

type Answer = (StatusCode, Json<Ledger>);

const CUSTOMER: Statement =
    Statement { sql: "SELECT * FROM customer WHERE c_custkey = ?", operation: "select", tables: "customer" };
const ORDER: Statement =
    Statement { sql: "SELECT * FROM orders WHERE o_orderkey = ?", operation: "select", tables: "orders" };
const LINES: Statement = Statement {
    sql: "SELECT l_linenumber, l_quantity, p_name FROM lineitem JOIN part ON p_partkey = l_partkey \
          WHERE l_orderkey = ? ORDER BY l_linenumber",
    operation: "select",
    tables: "lineitem part",
};
const PART: Statement =
    Statement { sql: "SELECT * FROM part WHERE p_partkey = ?", operation: "select", tables: "part" };
const OFFERS: Statement = Statement {
    sql: "SELECT s_name, ps_supplycost FROM partsupp, supplier WHERE ps_partkey = ? AND s_suppkey = ps_suppkey",
    operation: "select",
    tables: "partsupp supplier",
};
const NATIONS: Statement = Statement {
    sql: "SELECT n_name, r_name FROM nation JOIN region ON r_regionkey = n_regionkey ORDER BY n_name",
    operation: "select",
    tables: "nation region",
};
const PLACE_ORDER: Statement =
    Statement { sql: "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", operation: "insert", tables: "orders" };
const PLACE_LINE: Statement = Statement {
    sql: "INSERT INTO lineitem VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    operation: "insert",
    tables: "lineitem",
};
const REMOVE_LINES: Statement =
    Statement { sql: "DELETE FROM lineitem WHERE l_orderkey = ?", operation: "delete", tables: "lineitem" };
const REMOVE_ORDER: Statement =
    Statement { sql: "DELETE FROM orders WHERE o_orderkey = ?", operation: "delete", tables: "orders" };
const RAISE_PRICE: Statement = Statement {
    sql: "UPDATE part SET p_retailprice = p_retailprice * ? WHERE p_partkey = ?",
    operation: "update",
    tables: "part",
};
const EMPTY_CART: Statement = Statement {
    sql: "UPDATE customer SET c_acctbal = c_acctbal - ? WHERE c_custkey = ?",
    operation: "update",
    tables: "customer",
};
/// Refused: every region has its number already.
const ADD_REGION: Statement =
    Statement { sql: "INSERT INTO region VALUES (?, ?, NULL)", operation: "insert", tables: "region" };
const RENAME_REGION: Statement =
    Statement { sql: "UPDATE region SET r_comment = ? WHERE r_regionkey = ?", operation: "update", tables: "region" };
/// Refused: a nation has a name.
const ADD_NATION: Statement =
    Statement { sql: "INSERT INTO nation VALUES (?, NULL, ?, NULL)", operation: "insert", tables: "nation" };
/// Refused: there is no such table.
const RETURNS: Statement = Statement {
    sql: "SELECT * FROM returned_goods WHERE r_custkey = ?",
    operation: "select",
    tables: "returned_goods",
};
const ACCOUNT: Statement = Statement {
    sql: "SELECT user_id, username FROM account WHERE session_token = ?",
    operation: "select",
    tables: "account",
};
const CHANGE_PASSWORD: Statement =
    Statement { sql: "UPDATE account SET password = ? WHERE user_id = ?", operation: "update", tables: "account" };

impl Shop {
    /// Notes one execution in the application's own count.
    fn note<T>(&self, asked: &mut Ledger, statement: &Statement, result: Result<T, Error>) -> Result<T, Error> {
        if asked.user.is_some() {
            self.meter.sample(statement.sql);
        }
        asked.note(statement, result)
    }

    /// Reads the rows of one key.
    async fn read(&self, asked: &mut Ledger, statement: &Statement, key: i64) -> Result<Vec<SqliteRow>, Error> {
        let rows = sqlx::query(statement.sql).bind(key).fetch_all(&self.pool).await;
        self.note(asked, statement, rows)
    }

    /// Begins a transaction and lets it be known to the count.
    async fn begin(&self, asked: &mut Ledger) -> Result<AuditedTransaction<'static, Sqlite>, StatusCode> {
        let transaction = self.pool.begin().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        asked.begin();
        Ok(transaction)
    }
}

/// Answers with the count, whatever came of the statements: that is what the client is here for.
fn answer<T>(asked: Ledger, outcome: Result<T, Error>) -> Answer {
    let status = match outcome {
        Ok(_) => StatusCode::OK,
        Err(Error::Database(error)) if error.is_unique_violation() => StatusCode::CONFLICT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(asked))
}

/// Commits where all went well, and rolls back where it did not.
async fn finish<T>(
    asked: &mut Ledger,
    transaction: AuditedTransaction<'_, Sqlite>,
    outcome: Result<T, Error>,
) -> Result<(), Error> {
    let (ended, word) = match outcome {
        Ok(_) => match transaction.commit().await {
            Ok(()) => (Ok(()), COMMITTED),
            Err(error) => (Err(error), ROLLED_BACK),
        },
        Err(error) => (transaction.rollback().await.and(Err(error)), ROLLED_BACK),
    };
    asked.end(word);
    ended
}

pub(super) async fn customer(State(shop): State<Arc<Shop>>, Path(id): Path<i64>, mut asked: Ledger) -> Answer {
    let rows = shop.read(&mut asked, &CUSTOMER, id).await;
    answer(asked, rows)
}

pub(super) async fn order(State(shop): State<Arc<Shop>>, Path(number): Path<i64>, mut asked: Ledger) -> Answer {
    let order = shop.read(&mut asked, &ORDER, order_key(number)).await;
    let lines = shop.read(&mut asked, &LINES, order_key(number)).await;
    answer(asked, order.and(lines))
}

pub(super) async fn part(State(shop): State<Arc<Shop>>, Path(id): Path<i64>, mut asked: Ledger) -> Answer {
    let part = shop.read(&mut asked, &PART, id).await;
    let offers = shop.read(&mut asked, &OFFERS, id).await;
    answer(asked, part.and(offers))
}

/// A page whose parts do not know of each other: each asks for the same list.
pub(super) async fn nations(State(shop): State<Arc<Shop>>, mut asked: Ledger) -> Answer {
    let mut outcome = Ok(());
    for time in 0..3 {
        let rows = sqlx::query_as::<_, (String, String)>(NATIONS.sql).fetch_all(&shop.pool).await;
        let rows = shop.note(&mut asked, &NATIONS, rows).map(drop);
        asked.repeats += u64::from(time > 0 && rows.is_ok() && outcome.is_ok());
        outcome = outcome.and(rows);
    }
    answer(asked, outcome)
}

/// One of TPC-H's analytic queries.
pub(super) async fn report(State(shop): State<Arc<Shop>>, Path(number): Path<usize>, mut asked: Ledger) -> Answer {
    let report = &shop.reports[number % shop.reports.len()];
    let query =
        report.bindings.iter().fold(sqlx::query(AssertSqlSafe(report.sql.clone())), |query, binding| match *binding {
            Parameter::Text(text) => query.bind(text),
            Parameter::Integer(number) => query.bind(number),
            Parameter::Real(number) => query.bind(number),
        });
    let rows = query.fetch_all(&shop.pool).await;
    if asked.user.is_some() {
        shop.meter.sample(&report.sql);
    }
    let rows = asked.note_execution("select", report.tables, rows);
    answer(asked, rows)
}

/// TPC-H's first refresh function: a new order and its line items, in one transaction.
pub(super) async fn place_order(State(shop): State<Arc<Shop>>, mut asked: Ledger) -> Result<Answer, http::StatusCode> {
    let Some(order) = shop.refresh.take_waiting() else { return remove_order(State(shop), asked).await };
    let mut transaction = match shop.begin(&mut asked).await {
        Ok(transaction) => transaction,
        Err(status) => {
            shop.refresh.give_back(order, false);
            return Err(status);
        }
    };
    let inserted = insert(&shop, &mut asked, &mut transaction, &order).await;
    let placed = finish(&mut asked, transaction, inserted).await;
    shop.refresh.give_back(order, placed.is_ok());
    Ok(answer(asked, placed))
}

async fn insert(
    shop: &Shop,
    asked: &mut Ledger,
    transaction: &mut AuditedTransaction<'static, Sqlite>,
    order: &NewOrder,
) -> Result<(), Error> {
    let rows = [(&PLACE_ORDER, &order.fields)].into_iter();
    for (statement, fields) in rows.chain(order.lines.iter().map(|line| (&PLACE_LINE, line))) {
        let query = sqlx::query(statement.sql).bind(order.key);
        let query = fields.iter().fold(query, |query, field| query.bind(field.clone()));
        let done = query.execute(&mut *transaction).await;
        shop.note(asked, statement, done)?;
    }
    Ok(())
}

/// TPC-H's second refresh function: an order goes, with its line items.
pub(super) async fn remove_order(State(shop): State<Arc<Shop>>, mut asked: Ledger) -> Result<Answer, http::StatusCode> {
    let order = shop.refresh.take_placed();
    let key = order.as_ref().map_or(-1, |order| order.key);
    let mut removed = Err(StatusCode::SERVICE_UNAVAILABLE);
    if let Ok(mut transaction) = shop.begin(&mut asked).await {
        let mut deleted = Ok(());
        for statement in [&REMOVE_LINES, &REMOVE_ORDER] {
            if deleted.is_ok() {
                let done = sqlx::query(statement.sql).bind(key).execute(&mut transaction).await;
                deleted = shop.note(&mut asked, statement, done).map(drop);
            }
        }
        removed = Ok(finish(&mut asked, transaction, deleted).await);
    }
    if let Some(order) = order {
        shop.refresh.give_back(order, !matches!(removed, Ok(Ok(()))));
    }
    Ok(answer(asked, removed?))
}

/// What would a higher price look like? Nothing of it stays.
pub(super) async fn try_price(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<i64>,
    mut asked: Ledger,
) -> Result<Answer, http::StatusCode> {
    let mut transaction = shop.begin(&mut asked).await?;
    let raised = sqlx::query(RAISE_PRICE.sql).bind(1.05).bind(id).execute(&mut transaction).await;
    let raised = shop.note(&mut asked, &RAISE_PRICE, raised);
    let shown = sqlx::query(PART.sql).bind(id).fetch_optional(&mut transaction).await;
    let shown = shop.note(&mut asked, &PART, shown);
    let ended = transaction.rollback().await;
    asked.end(ROLLED_BACK);
    Ok(answer(asked, raised.and(shown).and(ended)))
}

/// A handler that leaves early: its transaction is dropped, and so rolled back.
pub(super) async fn abandon_cart(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<i64>,
    mut asked: Ledger,
) -> Result<Answer, http::StatusCode> {
    let mut transaction = shop.begin(&mut asked).await?;
    let emptied = sqlx::query(EMPTY_CART.sql).bind(9.99).bind(id).execute(&mut transaction).await;
    let emptied = shop.note(&mut asked, &EMPTY_CART, emptied);
    drop(transaction);
    asked.end(ROLLED_BACK);
    Ok(answer(asked, emptied))
}

/// Refused by the database: the number is taken.
pub(super) async fn add_region(State(shop): State<Arc<Shop>>, mut asked: Ledger) -> Answer {
    let added = sqlx::query(ADD_REGION.sql).bind(0).bind("ATLANTIS").execute(&shop.pool).await;
    let added = shop.note(&mut asked, &ADD_REGION, added);
    answer(asked, added)
}

/// Refused half-way, so that what went before it in the transaction is rolled back too.
pub(super) async fn add_nation(State(shop): State<Arc<Shop>>, mut asked: Ledger) -> Result<Answer, http::StatusCode> {
    let mut transaction = shop.begin(&mut asked).await?;
    let renamed = sqlx::query(RENAME_REGION.sql).bind("has a new nation").bind(1).execute(&mut transaction).await;
    let renamed = shop.note(&mut asked, &RENAME_REGION, renamed);
    let added = sqlx::query(ADD_NATION.sql).bind(25).bind(1).execute(&mut transaction).await;
    let added = shop.note(&mut asked, &ADD_NATION, added);
    let ended = finish(&mut asked, transaction, renamed.and(added)).await;
    Ok(answer(asked, ended))
}

/// Refused by the database: somebody forgot a migration.
pub(super) async fn returns(State(shop): State<Arc<Shop>>, mut asked: Ledger) -> Answer {
    let rows = shop.read(&mut asked, &RETURNS, 1).await;
    answer(asked, rows)
}

/// Looks an account up by its session token: a secret in a binding.
pub(super) async fn account(State(shop): State<Arc<Shop>>, headers: http::HeaderMap, mut asked: Ledger) -> Answer {
    let header = headers.get(http::header::AUTHORIZATION).and_then(|header| header.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
    shop.secrets.add(&token);
    asked.with_secret += 1;
    let found = sqlx::query_as::<_, (i64, String)>(ACCOUNT.sql).bind(token).fetch_optional(&shop.pool).await;
    let found = shop.note(&mut asked, &ACCOUNT, found);
    answer(asked, found)
}

/// Stores a new password: a secret in a binding.
pub(super) async fn change_password(
    State(shop): State<Arc<Shop>>,
    Extension(signed_in): Extension<SignedIn>,
    mut asked: Ledger,
) -> Answer {
    let password = format!("pwd-{}", random_hex());
    shop.secrets.add(&password);
    asked.with_secret += 1;
    let query = sqlx::query(CHANGE_PASSWORD.sql).bind(password).bind(signed_in.user_id);
    let changed = query.execute(&shop.pool).await;
    let changed = shop.note(&mut asked, &CHANGE_PASSWORD, changed);
    answer(asked, changed)
}

/// Compares a password as nobody should: a secret in the SQL text itself.
pub(super) async fn check_password(
    State(shop): State<Arc<Shop>>,
    Extension(signed_in): Extension<SignedIn>,
    mut asked: Ledger,
) -> Answer {
    let password = format!("pwd-{}", random_hex());
    shop.secrets.add(&password);
    asked.with_secret += 1;
    let sql = format!("SELECT count(*) FROM account WHERE user_id = {} AND password = '{password}'", signed_in.user_id);
    let matches = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).fetch_one(&shop.pool).await;
    let matches = asked.note_execution("select", "account", matches);
    answer(asked, matches)
}
