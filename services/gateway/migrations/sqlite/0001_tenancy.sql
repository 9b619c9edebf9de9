-- Number of the last change to any tenant; one row. Writers queue on it, so changes become visible in the order of their numbers.
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL
);
INSERT INTO state (id, version) VALUES (1, 0);

CREATE TABLE tenant (
    id TEXT NOT NULL PRIMARY KEY,
    display_name TEXT NOT NULL,
    time_zone TEXT NOT NULL,
    currency TEXT NOT NULL,
    -- Bit n is the n-th module in order of dependency.
    modules INTEGER NOT NULL,
    requests_per_second INTEGER NOT NULL,
    ingest_bytes_per_second INTEGER NOT NULL,
    created_at_us INTEGER NOT NULL,
    -- state.version of its last change.
    version INTEGER NOT NULL
);
CREATE INDEX tenant_by_version ON tenant (version);

CREATE TABLE api_key (
    id TEXT NOT NULL PRIMARY KEY,
    -- Null for operators.
    tenant TEXT REFERENCES tenant (id),
    kind TEXT NOT NULL CHECK (kind IN ('write', 'secret', 'operator')),
    role TEXT NOT NULL,
    display_name TEXT NOT NULL,
    source TEXT NOT NULL,
    secret_sha256 BLOB NOT NULL UNIQUE,
    created_at_us INTEGER NOT NULL,
    revoked_at_us INTEGER
);
CREATE INDEX api_key_by_tenant ON api_key (tenant, id);

-- Who changed what, when. Written with the change, never changed.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_us INTEGER NOT NULL,
    actor TEXT NOT NULL,
    tenant TEXT,
    action TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_by_tenant ON audit (tenant, id);
