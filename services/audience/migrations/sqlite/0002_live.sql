-- Where live membership of a tenant is. One process works on it at a time: `owner`, whose commits name the epoch.
CREATE TABLE live_tenant (
    tenant     TEXT NOT NULL PRIMARY KEY,
    owner      TEXT NOT NULL,
    epoch      INTEGER NOT NULL,
    -- The claim lasts so long.
    until_us   INTEGER NOT NULL,
    -- JSON: per topic and partition the last batch dealt with.
    positions  TEXT NOT NULL,
    -- Membership is true as of this moment.
    as_of_us   INTEGER NOT NULL,
    -- Number of the last transition.
    sequence   INTEGER NOT NULL,
    -- The chunks of members are as of this transition.
    checkpoint INTEGER NOT NULL,
    audits     INTEGER NOT NULL,
    repaired   INTEGER NOT NULL
) WITHOUT ROWID;

-- What the members of an audience are of.
CREATE TABLE live_audience (
    tenant       TEXT NOT NULL,
    audience     TEXT NOT NULL,
    version      INTEGER NOT NULL,
    -- Of everything that decides who is in, but for the persons of lists; in hexadecimal.
    fingerprint  TEXT NOT NULL,
    holdout      INTEGER NOT NULL,
    evaluated_us INTEGER NOT NULL,
    audited_us   INTEGER NOT NULL,
    size         INTEGER NOT NULL,
    held_out     INTEGER NOT NULL,
    PRIMARY KEY (tenant, audience)
) WITHOUT ROWID;

-- Who meets the condition of an audience, members and those held out, as of the tenant's checkpoint: as in list_chunk.
CREATE TABLE member_chunk (
    tenant   TEXT NOT NULL,
    audience TEXT NOT NULL,
    chunk    INTEGER NOT NULL,
    persons  BLOB NOT NULL,
    PRIMARY KEY (tenant, audience, chunk)
) WITHOUT ROWID;

-- Transitions that are not on the log yet, or not in the chunks: encoded segue.events.v1.TransitionBatch.
CREATE TABLE transition_batch (
    tenant        TEXT NOT NULL,
    last_sequence INTEGER NOT NULL,
    transitions   INTEGER NOT NULL,
    payload       BLOB NOT NULL,
    relayed       BOOLEAN NOT NULL,
    PRIMARY KEY (tenant, last_sequence)
) WITHOUT ROWID;

-- How large audiences were, by the hour.
CREATE TABLE audience_hour (
    tenant   TEXT NOT NULL,
    audience TEXT NOT NULL,
    hour_us  INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    held_out INTEGER NOT NULL,
    entered  INTEGER NOT NULL,
    left_    INTEGER NOT NULL,
    PRIMARY KEY (tenant, audience, hour_us)
) WITHOUT ROWID;
