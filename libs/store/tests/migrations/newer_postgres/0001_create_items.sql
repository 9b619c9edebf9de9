CREATE TABLE owner (id BIGINT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE item (
    tenant BIGINT NOT NULL,
    key TEXT NOT NULL,
    amount BIGINT CHECK (amount >= 0),
    body BYTEA,
    ratio DOUBLE PRECISION,
    live BOOLEAN NOT NULL DEFAULT TRUE,
    owner BIGINT REFERENCES owner (id),
    PRIMARY KEY (tenant, key)
);
