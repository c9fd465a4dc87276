CREATE TABLE IF NOT EXISTS audit_sql_logs (
  -- One row for each statement that an application ran, written by auditq.
  -- Times are UTC microseconds since 1970: datetime(occurred_at / 1000000, 'unixepoch') makes them readable.
  -- Unsigned 64-bit numbers of 2^63 and above stand as the negative number with the same bits.
  id                  INTEGER PRIMARY KEY AUTOINCREMENT, -- order in which rows were stored; never given twice
  stored_at           INTEGER NOT NULL, -- when this row was stored
  event_id            BLOB    NOT NULL UNIQUE, -- identity of the event, 16 bytes (UUID): what is delivered twice is stored once
  producer_id         BLOB    NOT NULL, -- the process that recorded it, 16 random bytes
  producer_seq        INTEGER NOT NULL, -- number within that process, without gaps: a hole proves a loss
  occurred_at         INTEGER NOT NULL, -- when the statement began
  recorded_at         INTEGER NOT NULL, -- when it was recorded, after it ended
  duration_us         INTEGER NOT NULL, -- how long it took, in microseconds
  query_hash          INTEGER NOT NULL, -- identity of this statement with these bindings for this user
  fingerprint         INTEGER NOT NULL, -- identity of the statement's shape, without literals and bindings
  operation           TEXT    NOT NULL, -- select, insert, update, delete, merge, replace, ddl, transaction, call, session, copy, maintenance, gap, other
  tables              TEXT    NOT NULL, -- JSON array of the tables it names
  status              TEXT    NOT NULL, -- ok, error, cancelled
  error_code          TEXT, -- the database's own code
  error_message       TEXT, -- the database's message
  rows_affected       INTEGER, -- rows inserted, updated or deleted
  rows_returned       INTEGER, -- rows the caller received
  transaction_id      TEXT, -- identity of the transaction, unique within producer_id
  transaction_outcome TEXT    NOT NULL, -- committed, rolled back, autocommit, unknown
  username            TEXT, -- who it ran for: the name people know the user by
  user_id             TEXT, -- who it ran for: the application's id of the user
  actor_type          TEXT    NOT NULL, -- user, job, system, anonymous
  session_hash        TEXT, -- keyed hash of the session id, never the id
  tenant              TEXT, -- the tenant, in applications that have several
  request_id          TEXT, -- ties the statements of one request together
  trace_id            TEXT, -- W3C trace id
  ip                  TEXT, -- the client's address
  http_method         TEXT, -- such as GET
  url_path            TEXT, -- path of the request, without the query string
  user_agent          TEXT, -- the client's name of itself
  origin              TEXT    NOT NULL, -- http, cli, job, unknown
  connection          TEXT, -- the application's name of its database connection
  db_system           TEXT    NOT NULL, -- sqlite, postgresql, mysql, mariadb, other
  db_name             TEXT, -- the database it ran on
  app                 TEXT, -- the application
  host                TEXT, -- the host the application ran on
  pid                 INTEGER, -- the application's process id
  repeat_count        INTEGER NOT NULL, -- how often the same statement was asked in this context
  last_at             INTEGER NOT NULL, -- when it was asked last
  sql                 TEXT    NOT NULL, -- the statement's text, secrets taken out
  bindings            TEXT    NOT NULL, -- its bindings in order, as typed JSON
  truncated           TEXT -- what of the above is not the whole, as JSON; NULL when nothing was cut
) STRICT;

CREATE INDEX IF NOT EXISTS auditq_logs_by_time ON audit_sql_logs (occurred_at);
CREATE INDEX IF NOT EXISTS auditq_logs_by_username ON audit_sql_logs (username, occurred_at) WHERE username IS NOT NULL;
-- People look for a user by name or by id. Without this one a user with few rows costs a walk through the whole log.
CREATE INDEX IF NOT EXISTS auditq_logs_by_user_id ON audit_sql_logs (user_id, occurred_at) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS auditq_logs_by_request ON audit_sql_logs (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS auditq_logs_by_fingerprint ON audit_sql_logs (fingerprint, occurred_at);
CREATE INDEX IF NOT EXISTS auditq_logs_by_query_hash ON audit_sql_logs (query_hash);

CREATE TABLE IF NOT EXISTS auditq_amendments (
  -- What became known of an event before the event itself was stored; merged into its row when it comes.
  event_id            BLOB PRIMARY KEY NOT NULL, -- the event, as in audit_sql_logs
  repeat_count        INTEGER, -- NULL when nothing is known of repeats
  last_at             INTEGER, -- with repeat_count
  transaction_outcome TEXT, -- NULL when nothing is known of the transaction
  noted_at            INTEGER NOT NULL -- when it was first heard of
) STRICT, WITHOUT ROWID;
