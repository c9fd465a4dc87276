CREATE TABLE audit_sql_logs (
  "id" bigserial NOT NULL,
  "stored_at" bigint NOT NULL,
  "event_id" uuid NOT NULL,
  "producer_id" uuid NOT NULL,
  "producer_seq" bigint NOT NULL,
  "occurred_at" bigint NOT NULL,
  "recorded_at" bigint NOT NULL,
  "duration_us" bigint NOT NULL,
  "query_hash" bigint NOT NULL,
  "fingerprint" bigint NOT NULL,
  "operation" text NOT NULL,
  "tables" text NOT NULL,
  "status" text NOT NULL,
  "error_code" text,
  "error_message" text,
  "rows_affected" bigint,
  "rows_returned" bigint,
  "transaction_id" text,
  "transaction_outcome" text NOT NULL,
  "username" text,
  "user_id" text,
  "actor_type" text NOT NULL,
  "session_hash" text,
  "tenant" text,
  "request_id" text,
  "trace_id" text,
  "ip" text,
  "http_method" text,
  "url_path" text,
  "user_agent" text,
  "origin" text NOT NULL,
  "connection" text,
  "db_system" text NOT NULL,
  "db_name" text,
  "app" text,
  "host" text,
  "pid" bigint,
  "repeat_count" bigint NOT NULL,
  "last_at" bigint NOT NULL,
  "sql" text NOT NULL,
  "bindings" text NOT NULL,
  "truncated" text,
  "extra" text
){partitioned};
ALTER TABLE audit_sql_logs ADD PRIMARY KEY (id{with_time});
CREATE UNIQUE INDEX ON audit_sql_logs (event_id{with_time});
CREATE INDEX ON audit_sql_logs (occurred_at);
CREATE INDEX ON audit_sql_logs (left(username, 191), occurred_at);
CREATE INDEX ON audit_sql_logs (left(user_id, 64), occurred_at);
CREATE INDEX ON audit_sql_logs (left(request_id, 64));
CREATE INDEX ON audit_sql_logs (fingerprint, occurred_at);
CREATE INDEX ON audit_sql_logs (query_hash);

COMMENT ON TABLE audit_sql_logs IS 'One row for each statement that an application ran, written by auditq. Times are UTC microseconds since 1970: to_timestamp(occurred_at / 1e6) makes them readable. Unsigned 64-bit numbers of 2^63 and above stand as the negative number with the same bits. A NUL character, which no text here can hold, stands as U+10FFFD and 0, and U+10FFFD itself as U+10FFFD twice.';
COMMENT ON COLUMN audit_sql_logs."id" IS 'order in which rows were stored; never given twice';
COMMENT ON COLUMN audit_sql_logs."stored_at" IS 'when this row was stored';
COMMENT ON COLUMN audit_sql_logs."event_id" IS 'identity of the event: what is delivered twice is stored once';
COMMENT ON COLUMN audit_sql_logs."producer_id" IS 'the process that recorded it';
COMMENT ON COLUMN audit_sql_logs."producer_seq" IS 'number within that process, without gaps: a hole proves a loss';
COMMENT ON COLUMN audit_sql_logs."occurred_at" IS 'when the statement began';
COMMENT ON COLUMN audit_sql_logs."recorded_at" IS 'when it was recorded, after it ended';
COMMENT ON COLUMN audit_sql_logs."duration_us" IS 'how long it took, in microseconds';
COMMENT ON COLUMN audit_sql_logs."query_hash" IS 'identity of this statement with these bindings for this user';
COMMENT ON COLUMN audit_sql_logs."fingerprint" IS 'identity of the statement''s shape, without literals and bindings';
COMMENT ON COLUMN audit_sql_logs."operation" IS 'select, insert, update, delete, merge, replace, ddl, transaction, call, session, copy, maintenance, gap, other';
COMMENT ON COLUMN audit_sql_logs."tables" IS 'JSON array of the tables it names, in which a NUL stands as above';
COMMENT ON COLUMN audit_sql_logs."status" IS 'ok, error, cancelled';
COMMENT ON COLUMN audit_sql_logs."error_code" IS 'the database''s own code';
COMMENT ON COLUMN audit_sql_logs."error_message" IS 'the database''s message';
COMMENT ON COLUMN audit_sql_logs."rows_affected" IS 'rows inserted, updated or deleted';
COMMENT ON COLUMN audit_sql_logs."rows_returned" IS 'rows the caller received';
COMMENT ON COLUMN audit_sql_logs."transaction_id" IS 'identity of the transaction, unique within producer_id';
COMMENT ON COLUMN audit_sql_logs."transaction_outcome" IS 'committed, rolled back, autocommit, unknown';
COMMENT ON COLUMN audit_sql_logs."username" IS 'who it ran for: the name people know the user by';
COMMENT ON COLUMN audit_sql_logs."user_id" IS 'who it ran for: the application''s id of the user';
COMMENT ON COLUMN audit_sql_logs."actor_type" IS 'user, job, system, anonymous';
COMMENT ON COLUMN audit_sql_logs."session_hash" IS 'keyed hash of the session id, never the id';
COMMENT ON COLUMN audit_sql_logs."tenant" IS 'the tenant, in applications that have several';
COMMENT ON COLUMN audit_sql_logs."request_id" IS 'ties the statements of one request together';
COMMENT ON COLUMN audit_sql_logs."trace_id" IS 'W3C trace id';
COMMENT ON COLUMN audit_sql_logs."ip" IS 'the client''s address';
COMMENT ON COLUMN audit_sql_logs."http_method" IS 'such as GET';
COMMENT ON COLUMN audit_sql_logs."url_path" IS 'path of the request, without the query string';
COMMENT ON COLUMN audit_sql_logs."user_agent" IS 'the client''s name of itself';
COMMENT ON COLUMN audit_sql_logs."origin" IS 'http, cli, job, unknown';
COMMENT ON COLUMN audit_sql_logs."connection" IS 'the application''s name of its database connection';
COMMENT ON COLUMN audit_sql_logs."db_system" IS 'sqlite, postgresql, mysql, mariadb, other';
COMMENT ON COLUMN audit_sql_logs."db_name" IS 'the database it ran on';
COMMENT ON COLUMN audit_sql_logs."app" IS 'the application';
COMMENT ON COLUMN audit_sql_logs."host" IS 'the host the application ran on';
COMMENT ON COLUMN audit_sql_logs."pid" IS 'the application''s process id';
COMMENT ON COLUMN audit_sql_logs."repeat_count" IS 'how often the same statement was asked in this context';
COMMENT ON COLUMN audit_sql_logs."last_at" IS 'when it was asked last';
COMMENT ON COLUMN audit_sql_logs."sql" IS 'the statement''s text, secrets taken out';
COMMENT ON COLUMN audit_sql_logs."bindings" IS 'its bindings in order, as typed JSON';
COMMENT ON COLUMN audit_sql_logs."truncated" IS 'what of the above is not the whole, as JSON; NULL when nothing was cut';
COMMENT ON COLUMN audit_sql_logs."extra" IS 'what else the application said of it, as a JSON object; NULL when nothing';

CREATE TABLE IF NOT EXISTS auditq_amendments (
  event_id            uuid   PRIMARY KEY,
  repeat_count        bigint,
  last_at             bigint,
  transaction_outcome text,
  noted_at            bigint NOT NULL
);
COMMENT ON TABLE auditq_amendments IS 'What became known of an event before the event itself was stored; merged into its row when it comes.';
COMMENT ON COLUMN auditq_amendments.event_id IS 'the event, as in audit_sql_logs';
COMMENT ON COLUMN auditq_amendments.repeat_count IS 'NULL when nothing is known of repeats';
COMMENT ON COLUMN auditq_amendments.last_at IS 'with repeat_count';
COMMENT ON COLUMN auditq_amendments.transaction_outcome IS 'NULL when nothing is known of the transaction';
COMMENT ON COLUMN auditq_amendments.noted_at IS 'when it was first heard of';
