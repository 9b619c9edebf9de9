-- Event files. A file without a row here does not exist.
CREATE TABLE file (
    tenant          TEXT   NOT NULL,
    -- Path below the lake's URL.
    name            TEXT   NOT NULL,
    -- Whole UTC days (since 1970) that it covers, both inclusive.
    day_first       BIGINT NOT NULL,
    day_last        BIGINT NOT NULL,
    event_rows      BIGINT NOT NULL,
    bytes           BIGINT NOT NULL,
    footer_bytes    BIGINT NOT NULL,
    footer_checksum BIGINT NOT NULL,
    -- JSON: per row group its event, rows, smallest and largest person and time.
    groups_json     TEXT   NOT NULL,
    created_us      BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- Last batch of a partition of `resolved` whose events of this tenant are in files.
CREATE TABLE flushed (
    tenant       TEXT   NOT NULL,
    partition_id BIGINT NOT NULL,
    position     BIGINT NOT NULL,
    PRIMARY KEY (tenant, partition_id)
);

-- Where to start reading a partition: everything before is in files, or is covered by `skipped`.
CREATE TABLE log_position (
    topic        TEXT   NOT NULL,
    partition_id BIGINT NOT NULL,
    position     BIGINT NOT NULL,
    PRIMARY KEY (topic, partition_id)
);

-- First batch that was passed by while analytics was off for the tenant.
CREATE TABLE skipped (
    tenant       TEXT   NOT NULL,
    partition_id BIGINT NOT NULL,
    position     BIGINT NOT NULL,
    PRIMARY KEY (tenant, partition_id)
);

-- Persons that became part of another.
CREATE TABLE redirect (
    tenant      TEXT   NOT NULL,
    person_from BIGINT NOT NULL,
    person_into BIGINT NOT NULL,
    -- Number of the record in identity's link log.
    link        BIGINT NOT NULL,
    PRIMARY KEY (tenant, person_from)
);

-- Properties that events have carried, with the type of their column.
CREATE TABLE property (
    tenant TEXT   NOT NULL,
    -- 0 registered, 1 unregistered, 2 of items.
    scope  BIGINT NOT NULL,
    name   TEXT   NOT NULL,
    kind   TEXT   NOT NULL,
    PRIMARY KEY (tenant, scope, name)
);
