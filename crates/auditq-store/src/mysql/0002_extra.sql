ALTER TABLE audit_sql_logs ADD COLUMN
  `extra`               longtext    NULL COMMENT 'what else the application said of it, as a JSON object; NULL when nothing';
