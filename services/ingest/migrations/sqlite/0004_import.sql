-- Imports of files. The file itself lies in the data directory of the node that took it.
CREATE TABLE import (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    -- Which node has the file.
    node TEXT NOT NULL,
    -- Order of creation, for lists.
    created_at_us INTEGER NOT NULL,
    finished_at_us INTEGER NOT NULL,
    -- As in the contract: 1 running, 2 succeeded, 3 failed, 4 cancelled.
    state INTEGER NOT NULL,
    file_name TEXT NOT NULL,
    -- SHA-256 of the decompressed content, and of the mapping.
    content_digest BLOB NOT NULL,
    mapping_digest BLOB NOT NULL,
    -- prost Mapping, its format decided.
    mapping BLOB NOT NULL,
    compressed BOOLEAN NOT NULL,
    rows_read INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    quarantined INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    bytes_read INTEGER NOT NULL,
    bytes_total INTEGER NOT NULL,
    -- prost Import with nothing but the faults.
    faults BLOB NOT NULL,
    error TEXT NOT NULL
);
-- The same file with the same mapping is imported once, unless it failed or was cancelled.
CREATE UNIQUE INDEX import_once ON import (tenant, content_digest, mapping_digest) WHERE state IN (1, 2);
CREATE INDEX import_by_time ON import (tenant, created_at_us, id);
