-- What is to be told to other services, until it was told. Numbers are never used twice, so that who deletes by number deletes what it read.
CREATE TABLE outbox (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    tenant      TEXT NOT NULL,
    -- Who is told: 'ingest', 'audience' or 'identity'.
    destination TEXT NOT NULL,
    person      INTEGER NOT NULL,
    -- Of 'audience' the list; else empty.
    list        TEXT NOT NULL,
    -- Of 'audience': off the list rather than on it.
    remove      BOOLEAN NOT NULL,
    -- Of 'ingest' an encoded segue.events.v1.Event without who, of 'identity' an encoded segue.identity.v1.Consent.
    payload     BLOB NOT NULL
);
CREATE INDEX outbox_oldest ON outbox (destination, tenant, id);

-- Who tells a destination on behalf of a tenant now.
CREATE TABLE outbox_claim (
    destination TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    owner       TEXT NOT NULL,
    -- The claim lasts so long.
    until_us    INTEGER NOT NULL,
    PRIMARY KEY (destination, tenant)
) WITHOUT ROWID;

-- What links of a tenant are signed with.
CREATE TABLE link_secret (
    tenant TEXT NOT NULL PRIMARY KEY,
    secret BLOB NOT NULL
) WITHOUT ROWID;

-- The in-app feed.
CREATE TABLE inbox (
    tenant        TEXT NOT NULL,
    -- That of the send.
    id            TEXT NOT NULL,
    person        INTEGER NOT NULL,
    title         TEXT NOT NULL,
    body          TEXT NOT NULL,
    url           TEXT NOT NULL,
    -- JSON: an object, or empty.
    data          TEXT NOT NULL,
    sent_us       INTEGER NOT NULL,
    keep_until_us INTEGER NOT NULL,
    -- 0: not read.
    read_us       INTEGER NOT NULL,
    dismissed     BOOLEAN NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX inbox_newest ON inbox (tenant, person, sent_us, id);
CREATE INDEX inbox_old ON inbox (keep_until_us);
