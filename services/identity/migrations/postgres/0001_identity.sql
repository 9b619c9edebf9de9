-- Numbers given out per tenant, and the version that tells a process whether its cache still holds.
CREATE TABLE tenants (
    tenant   TEXT   NOT NULL PRIMARY KEY,
    salt     BYTEA    NOT NULL,
    version  BIGINT NOT NULL,
    persons  BIGINT NOT NULL,
    devices  BIGINT NOT NULL,
    links    BIGINT NOT NULL,
    merged   BIGINT NOT NULL,
    ordinals BIGINT NOT NULL
);

-- root is the surviving person, the number itself unless it was merged.
CREATE TABLE persons (
    tenant        TEXT   NOT NULL,
    number        BIGINT NOT NULL,
    root          BIGINT NOT NULL,
    first_seen_us BIGINT NOT NULL,
    last_seen_us  BIGINT NOT NULL,
    PRIMARY KEY (tenant, number)
);
CREATE INDEX persons_merged ON persons (tenant, root) WHERE root <> number;

-- person is the number that the identifier was linked to (0: to nobody); who that is now says persons.root, so that a merge
-- moves nothing and can be undone. device is the number of the device that the identifier names (0: none). noted is the
-- person for whom a conflict or limit of this identifier was recorded last.
CREATE TABLE identifiers (
    tenant       TEXT   NOT NULL,
    kind         TEXT   NOT NULL,
    value        TEXT   NOT NULL,
    person       BIGINT NOT NULL,
    device       BIGINT NOT NULL,
    noted        BIGINT NOT NULL,
    linked_at_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, kind, value)
);
CREATE INDEX identifiers_of_person ON identifiers (tenant, person) WHERE person <> 0;

CREATE TABLE link_log (
    tenant           TEXT   NOT NULL,
    sequence         BIGINT NOT NULL,
    kind             BIGINT NOT NULL,
    person           BIGINT NOT NULL,
    other_person     BIGINT NOT NULL,
    identifier_kind  TEXT   NOT NULL,
    identifier_value TEXT   NOT NULL,
    time_us          BIGINT NOT NULL,
    reason           TEXT   NOT NULL,
    PRIMARY KEY (tenant, sequence)
);
CREATE INDEX link_log_of_person ON link_log (tenant, person);
CREATE INDEX link_log_of_other ON link_log (tenant, other_person) WHERE other_person <> 0;

-- person is the number that the trait was set on; a merged person's traits stay under its own number.
CREATE TABLE traits (
    tenant  TEXT   NOT NULL,
    person  BIGINT NOT NULL,
    name    TEXT   NOT NULL,
    value   BYTEA    NOT NULL,
    time_us BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    PRIMARY KEY (tenant, person, name)
);

-- The last answer of each caller.
CREATE TABLE answers (
    tenant   TEXT   NOT NULL,
    source   TEXT   NOT NULL,
    sequence BIGINT NOT NULL,
    body     BYTEA    NOT NULL,
    PRIMARY KEY (tenant, source)
);

-- Identity changes that are not on the log yet.
CREATE TABLE outbox (
    tenant   TEXT   NOT NULL,
    sequence BIGINT NOT NULL,
    payload  BYTEA    NOT NULL,
    changes  BIGINT NOT NULL,
    PRIMARY KEY (tenant, sequence)
);

CREATE TABLE merge_requests (
    tenant      TEXT   NOT NULL,
    request_id  TEXT   NOT NULL,
    from_person BIGINT NOT NULL,
    into_person BIGINT NOT NULL,
    made_at_us  BIGINT NOT NULL,
    PRIMARY KEY (tenant, request_id)
);
