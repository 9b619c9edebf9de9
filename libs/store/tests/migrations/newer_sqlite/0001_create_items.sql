CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE item (
    tenant INTEGER NOT NULL,
    key TEXT NOT NULL,
    amount INTEGER CHECK (amount >= 0),
    body BLOB,
    ratio REAL,
    live BOOLEAN NOT NULL DEFAULT TRUE,
    owner INTEGER REFERENCES owner (id),
    PRIMARY KEY (tenant, key)
);
