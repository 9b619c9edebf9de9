-- Event files. A file without a row here does not exist.
CREATE TABLE file (
    tenant          TEXT   NOT NULL,
    -- Path below the lake's URL.
    name            TEXT   NOT NULL,
    -- Whole UTC days (since 1970) that it covers, both inclusive.
    day_first       INTEGER NOT NULL,
    day_last        INTEGER NOT NULL,
    event_rows      INTEGER NOT NULL,
    bytes           INTEGER NOT NULL,
    footer_bytes    INTEGER NOT NULL,
    footer_checksum INTEGER NOT NULL,
    -- JSON: per row group its event, rows, smallest and largest person and time.
    groups_json     TEXT   NOT NULL,
    created_us      INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) WITHOUT ROWID;

-- Last batch of a partition of `resolved` whose events of this tenant are in files.
CREATE TABLE flushed (
    tenant       TEXT   NOT NULL,
    partition_id INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    PRIMARY KEY (tenant, partition_id)
) WITHOUT ROWID;

-- Where to start reading a partition: everything before is in files, or is covered by `skipped`.
CREATE TABLE log_position (
    topic        TEXT   NOT NULL,
    partition_id INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    PRIMARY KEY (topic, partition_id)
) WITHOUT ROWID;

-- First batch that was passed by while analytics was off for the tenant.
CREATE TABLE skipped (
    tenant       TEXT   NOT NULL,
    partition_id INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    PRIMARY KEY (tenant, partition_id)
) WITHOUT ROWID;

-- Persons that became part of another.
CREATE TABLE redirect (
    tenant      TEXT   NOT NULL,
    person_from INTEGER NOT NULL,
    person_into INTEGER NOT NULL,
    -- Number of the record in identity's link log.
    link        INTEGER NOT NULL,
    PRIMARY KEY (tenant, person_from)
) WITHOUT ROWID;

-- Properties that events have carried, with the type of their column.
CREATE TABLE property (
    tenant TEXT   NOT NULL,
    -- 0 registered, 1 unregistered, 2 of items.
    scope  INTEGER NOT NULL,
    name   TEXT   NOT NULL,
    kind   TEXT   NOT NULL,
    PRIMARY KEY (tenant, scope, name)
) WITHOUT ROWID;
