-- Where each worker of the pipeline is, who may work, what is skipped for whom, and the marks of seen message ids.

CREATE TABLE pipeline_partition (
    partition INTEGER PRIMARY KEY,
    -- Last accepted position whose effect is committed.
    position INTEGER NOT NULL,
    -- The next group ends here; 0: it is one batch.
    planned_until INTEGER NOT NULL,
    -- Latest append time of the log seen so far; the clock of duplicate marks.
    high_water_us INTEGER NOT NULL,
    -- Number of the last committed group of catching up, and the next one, if it is planned.
    catchup_sequence INTEGER NOT NULL,
    catchup_tenant TEXT NOT NULL,
    catchup_until INTEGER NOT NULL,
    -- The lease. Every write of a worker names its epoch.
    owner TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    until_us INTEGER NOT NULL
);

CREATE TABLE pipeline_member (
    owner TEXT PRIMARY KEY,
    until_us INTEGER NOT NULL
);

-- Tenants whose events a worker leaves on the log, since their module identity is (or was) off.
CREATE TABLE pipeline_skip (
    partition INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    -- Everything of the tenant up to here is resolved.
    reached INTEGER NOT NULL,
    -- Batches that retention removed before they could be caught up.
    lost INTEGER NOT NULL,
    PRIMARY KEY (partition, tenant)
);

CREATE TABLE pipeline_count (
    tenant TEXT NOT NULL,
    partition INTEGER NOT NULL,
    resolved INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    PRIMARY KEY (tenant, partition)
);

-- Marks of one group, 16 bytes each, ascending; moved into segments.
CREATE TABLE mark_row (
    partition INTEGER NOT NULL,
    number INTEGER NOT NULL,
    day INTEGER NOT NULL,
    fingerprints BLOB NOT NULL,
    PRIMARY KEY (partition, number)
);

CREATE TABLE mark_segment (
    id INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    day INTEGER NOT NULL,
    level INTEGER NOT NULL,
    marks INTEGER NOT NULL,
    -- There are 2^chunk_bits chunks; the leading bits of a fingerprint are its chunk.
    chunk_bits INTEGER NOT NULL,
    -- 0 being written, 1 in use, 2 to be removed.
    state INTEGER NOT NULL,
    filter_version INTEGER NOT NULL,
    filter BLOB NOT NULL
);
CREATE INDEX mark_segment_by_partition ON mark_segment (partition, state);

-- id = segment × 2^22 + chunk.
CREATE TABLE mark_chunk (
    id INTEGER PRIMARY KEY,
    fingerprints BLOB NOT NULL
);
