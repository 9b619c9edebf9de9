-- Where each worker of the pipeline is, who may work, what is skipped for whom, and the marks of seen message ids.

CREATE TABLE pipeline_partition (
    partition BIGINT PRIMARY KEY,
    -- Last accepted position whose effect is committed.
    position BIGINT NOT NULL,
    -- The next group ends here; 0: it is one batch.
    planned_until BIGINT NOT NULL,
    -- Latest append time of the log seen so far; the clock of duplicate marks.
    high_water_us BIGINT NOT NULL,
    -- Number of the last committed group of catching up, and the next one, if it is planned.
    catchup_sequence BIGINT NOT NULL,
    catchup_tenant TEXT NOT NULL,
    catchup_until BIGINT NOT NULL,
    -- The lease. Every write of a worker names its epoch.
    owner TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    until_us BIGINT NOT NULL
);

CREATE TABLE pipeline_member (
    owner TEXT PRIMARY KEY,
    until_us BIGINT NOT NULL
);

-- Tenants whose events a worker leaves on the log, since their module identity is (or was) off.
CREATE TABLE pipeline_skip (
    partition BIGINT NOT NULL,
    tenant TEXT NOT NULL,
    -- Everything of the tenant up to here is resolved.
    reached BIGINT NOT NULL,
    -- Batches that retention removed before they could be caught up.
    lost BIGINT NOT NULL,
    PRIMARY KEY (partition, tenant)
);

CREATE TABLE pipeline_count (
    tenant TEXT NOT NULL,
    partition BIGINT NOT NULL,
    resolved BIGINT NOT NULL,
    duplicates BIGINT NOT NULL,
    PRIMARY KEY (tenant, partition)
);

-- Marks of one group, 16 bytes each, ascending; moved into segments.
CREATE TABLE mark_row (
    partition BIGINT NOT NULL,
    number BIGINT NOT NULL,
    day BIGINT NOT NULL,
    fingerprints BYTEA NOT NULL,
    PRIMARY KEY (partition, number)
);

CREATE TABLE mark_segment (
    id BIGINT PRIMARY KEY,
    partition BIGINT NOT NULL,
    day BIGINT NOT NULL,
    level BIGINT NOT NULL,
    marks BIGINT NOT NULL,
    -- There are 2^chunk_bits chunks; the leading bits of a fingerprint are its chunk.
    chunk_bits BIGINT NOT NULL,
    -- 0 being written, 1 in use, 2 to be removed.
    state BIGINT NOT NULL,
    filter_version BIGINT NOT NULL,
    filter BYTEA NOT NULL
);
CREATE INDEX mark_segment_by_partition ON mark_segment (partition, state);

-- id = segment × 2^22 + chunk.
CREATE TABLE mark_chunk (
    id BIGINT PRIMARY KEY,
    fingerprints BYTEA NOT NULL
);
-- Fingerprints are random bits: compressing them only costs.
ALTER TABLE mark_row ALTER COLUMN fingerprints SET STORAGE EXTERNAL;
ALTER TABLE mark_segment ALTER COLUMN filter SET STORAGE EXTERNAL;
ALTER TABLE mark_chunk ALTER COLUMN fingerprints SET STORAGE EXTERNAL;
