-- Number of the last change to any tenant; one row. Writers queue on it, so changes become visible in the order of their numbers.
CREATE TABLE state (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    version BIGINT NOT NULL
);
INSERT INTO state (id, version) VALUES (1, 0);

CREATE TABLE tenant (
    id TEXT NOT NULL PRIMARY KEY,
    display_name TEXT NOT NULL,
    time_zone TEXT NOT NULL,
    currency TEXT NOT NULL,
    -- Bit n is the n-th module in order of dependency.
    modules BIGINT NOT NULL,
    requests_per_second BIGINT NOT NULL,
    ingest_bytes_per_second BIGINT NOT NULL,
    created_at_us BIGINT NOT NULL,
    -- state.version of its last change.
    version BIGINT NOT NULL
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
    secret_sha256 BYTEA NOT NULL UNIQUE,
    created_at_us BIGINT NOT NULL,
    revoked_at_us BIGINT
);
CREATE INDEX api_key_by_tenant ON api_key (tenant, id);

-- Who changed what, when. Written with the change, never changed.
CREATE TABLE audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_us BIGINT NOT NULL,
    actor TEXT NOT NULL,
    tenant TEXT,
    action TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_by_tenant ON audit (tenant, id);
