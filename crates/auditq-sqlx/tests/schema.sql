CREATE TABLE orders (
    id INTEGER PRIMARY KEY NOT NULL,
    customer TEXT NOT NULL,
    total REAL NOT NULL,
    note TEXT,
    receipt BLOB
);
CREATE TABLE users (name TEXT PRIMARY KEY NOT NULL, password TEXT NOT NULL);
