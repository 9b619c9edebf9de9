-- Imports of files. The file itself lies in the data directory of the node that took it.
CREATE TABLE import (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    -- Which node has the file.
    node TEXT NOT NULL,
    -- Order of creation, for lists.
    created_at_us BIGINT NOT NULL,
    finished_at_us BIGINT NOT NULL,
    -- As in the contract: 1 running, 2 succeeded, 3 failed, 4 cancelled.
    state BIGINT NOT NULL,
    file_name TEXT NOT NULL,
    -- SHA-256 of the decompressed content, and of the mapping.
    content_digest BYTEA NOT NULL,
    mapping_digest BYTEA NOT NULL,
    -- prost Mapping, its format decided.
    mapping BYTEA NOT NULL,
    compressed BOOLEAN NOT NULL,
    rows_read BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    quarantined BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    bytes_read BIGINT NOT NULL,
    bytes_total BIGINT NOT NULL,
    -- prost Import with nothing but the faults.
    faults BYTEA NOT NULL,
    error TEXT NOT NULL
);
-- The same file with the same mapping is imported once, unless it failed or was cancelled.
CREATE UNIQUE INDEX import_once ON import (tenant, content_digest, mapping_digest) WHERE state IN (1, 2);
CREATE INDEX import_by_time ON import (tenant, created_at_us, id);
