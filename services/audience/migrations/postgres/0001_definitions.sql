-- Segments and audiences as they are now. `kind` is 'segment' or 'audience'.
CREATE TABLE definition (
    tenant      TEXT NOT NULL,
    kind        TEXT NOT NULL,
    id          TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    -- 'live' or 'snapshot'; of audiences.
    mode        TEXT NOT NULL,
    version     BIGINT NOT NULL,
    -- Encoded segue.query.v1.Condition.
    condition   BYTEA NOT NULL,
    -- Hundredths of a percent; of audiences.
    holdout     BIGINT NOT NULL,
    -- IANA; empty: the tenant's. Of audiences.
    time_zone   TEXT NOT NULL,
    -- Counts changes of any kind; the etag.
    revision    BIGINT NOT NULL,
    archived    BOOLEAN NOT NULL,
    created_us  BIGINT NOT NULL,
    updated_us  BIGINT NOT NULL,
    PRIMARY KEY (tenant, kind, id)
);

-- Every version of every definition.
CREATE TABLE definition_version (
    tenant     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    id         TEXT NOT NULL,
    version    BIGINT NOT NULL,
    condition  BYTEA NOT NULL,
    holdout    BIGINT NOT NULL,
    time_zone  TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, kind, id, version)
);

-- Counts changes of a tenant's definitions, so that other processes see them; its row is the lock under which definitions change.
CREATE TABLE definition_counter (
    tenant TEXT NOT NULL PRIMARY KEY,
    changes BIGINT NOT NULL
);

-- Static lists.
CREATE TABLE list (
    tenant      TEXT NOT NULL,
    id          TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    size        BIGINT NOT NULL,
    revision    BIGINT NOT NULL,
    archived    BOOLEAN NOT NULL,
    created_us  BIGINT NOT NULL,
    updated_us  BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);

-- The persons of a list, 65,536 numbers to a row: a Roaring bitmap in its portable serialisation. Empty chunks have no row.
CREATE TABLE list_chunk (
    tenant  TEXT NOT NULL,
    list    TEXT NOT NULL,
    chunk   BIGINT NOT NULL,
    persons BYTEA NOT NULL,
    PRIMARY KEY (tenant, list, chunk)
);

-- Persons who were put on or taken off a list and whom live membership has not looked at yet.
CREATE TABLE list_change (
    tenant   TEXT NOT NULL,
    list     TEXT NOT NULL,
    revision BIGINT NOT NULL,
    persons  BYTEA NOT NULL,
    PRIMARY KEY (tenant, list, revision)
);
