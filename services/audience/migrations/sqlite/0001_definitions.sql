-- Segments and audiences as they are now. `kind` is 'segment' or 'audience'.
CREATE TABLE definition (
    tenant      TEXT NOT NULL,
    kind        TEXT NOT NULL,
    id          TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    -- 'live' or 'snapshot'; of audiences.
    mode        TEXT NOT NULL,
    version     INTEGER NOT NULL,
    -- Encoded segue.query.v1.Condition.
    condition   BLOB NOT NULL,
    -- Hundredths of a percent; of audiences.
    holdout     INTEGER NOT NULL,
    -- IANA; empty: the tenant's. Of audiences.
    time_zone   TEXT NOT NULL,
    -- Counts changes of any kind; the etag.
    revision    INTEGER NOT NULL,
    archived    BOOLEAN NOT NULL,
    created_us  INTEGER NOT NULL,
    updated_us  INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, id)
) WITHOUT ROWID;

-- Every version of every definition.
CREATE TABLE definition_version (
    tenant     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    id         TEXT NOT NULL,
    version    INTEGER NOT NULL,
    condition  BLOB NOT NULL,
    holdout    INTEGER NOT NULL,
    time_zone  TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, id, version)
) WITHOUT ROWID;

-- Counts changes of a tenant's definitions, so that other processes see them; its row is the lock under which definitions change.
CREATE TABLE definition_counter (
    tenant TEXT NOT NULL PRIMARY KEY,
    changes INTEGER NOT NULL
) WITHOUT ROWID;

-- Static lists.
CREATE TABLE list (
    tenant      TEXT NOT NULL,
    id          TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    size        INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    archived    BOOLEAN NOT NULL,
    created_us  INTEGER NOT NULL,
    updated_us  INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- The persons of a list, 65,536 numbers to a row: a Roaring bitmap in its portable serialisation. Empty chunks have no row.
CREATE TABLE list_chunk (
    tenant  TEXT NOT NULL,
    list    TEXT NOT NULL,
    chunk   INTEGER NOT NULL,
    persons BLOB NOT NULL,
    PRIMARY KEY (tenant, list, chunk)
) WITHOUT ROWID;

-- Persons who were put on or taken off a list and whom live membership has not looked at yet.
CREATE TABLE list_change (
    tenant   TEXT NOT NULL,
    list     TEXT NOT NULL,
    revision INTEGER NOT NULL,
    persons  BLOB NOT NULL,
    PRIMARY KEY (tenant, list, revision)
) WITHOUT ROWID;
