-- Numbers given out per tenant, and the version that tells a process whether its cache still holds.
CREATE TABLE tenants (
    tenant   TEXT    NOT NULL PRIMARY KEY,
    salt     BLOB    NOT NULL,
    version  INTEGER NOT NULL,
    persons  INTEGER NOT NULL,
    devices  INTEGER NOT NULL,
    links    INTEGER NOT NULL,
    merged   INTEGER NOT NULL,
    ordinals INTEGER NOT NULL
) WITHOUT ROWID;

-- root is the surviving person, the number itself unless it was merged.
CREATE TABLE persons (
    tenant        TEXT    NOT NULL,
    number        INTEGER NOT NULL,
    root          INTEGER NOT NULL,
    first_seen_us INTEGER NOT NULL,
    last_seen_us  INTEGER NOT NULL,
    PRIMARY KEY (tenant, number)
) WITHOUT ROWID;
CREATE INDEX persons_merged ON persons (tenant, root) WHERE root <> number;

-- person is the number that the identifier was linked to (0: to nobody); who that is now says persons.root, so that a merge
-- moves nothing and can be undone. device is the number of the device that the identifier names (0: none). noted is the
-- person for whom a conflict or limit of this identifier was recorded last.
CREATE TABLE identifiers (
    tenant       TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    value        TEXT    NOT NULL,
    person       INTEGER NOT NULL,
    device       INTEGER NOT NULL,
    noted        INTEGER NOT NULL,
    linked_at_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, value)
) WITHOUT ROWID;
CREATE INDEX identifiers_of_person ON identifiers (tenant, person) WHERE person <> 0;

CREATE TABLE link_log (
    tenant           TEXT    NOT NULL,
    sequence         INTEGER NOT NULL,
    kind             INTEGER NOT NULL,
    person           INTEGER NOT NULL,
    other_person     INTEGER NOT NULL,
    identifier_kind  TEXT    NOT NULL,
    identifier_value TEXT    NOT NULL,
    time_us          INTEGER NOT NULL,
    reason           TEXT    NOT NULL,
    PRIMARY KEY (tenant, sequence)
) WITHOUT ROWID;
CREATE INDEX link_log_of_person ON link_log (tenant, person);
CREATE INDEX link_log_of_other ON link_log (tenant, other_person) WHERE other_person <> 0;

-- person is the number that the trait was set on; a merged person's traits stay under its own number.
CREATE TABLE traits (
    tenant  TEXT    NOT NULL,
    person  INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    value   BLOB    NOT NULL,
    time_us INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    PRIMARY KEY (tenant, person, name)
) WITHOUT ROWID;

-- The last answer of each caller.
CREATE TABLE answers (
    tenant   TEXT    NOT NULL,
    source   TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    body     BLOB    NOT NULL,
    PRIMARY KEY (tenant, source)
) WITHOUT ROWID;

-- Identity changes that are not on the log yet.
CREATE TABLE outbox (
    tenant   TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    payload  BLOB    NOT NULL,
    changes  INTEGER NOT NULL,
    PRIMARY KEY (tenant, sequence)
) WITHOUT ROWID;

CREATE TABLE merge_requests (
    tenant      TEXT    NOT NULL,
    request_id  TEXT    NOT NULL,
    from_person INTEGER NOT NULL,
    into_person INTEGER NOT NULL,
    made_at_us  INTEGER NOT NULL,
    PRIMARY KEY (tenant, request_id)
) WITHOUT ROWID;
