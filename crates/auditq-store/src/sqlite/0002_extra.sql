-- SQLite copies the text into the table's own, to the end of the comment.
ALTER TABLE audit_sql_logs ADD COLUMN extra TEXT /* what else the application said of it, as a JSON object; NULL when nothing */;
