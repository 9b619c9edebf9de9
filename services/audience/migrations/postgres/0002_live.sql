-- Where live membership of a tenant is. One process works on it at a time: `owner`, whose commits name the epoch.
CREATE TABLE live_tenant (
    tenant     TEXT NOT NULL PRIMARY KEY,
    owner      TEXT NOT NULL,
    epoch      BIGINT NOT NULL,
    -- The claim lasts so long.
    until_us   BIGINT NOT NULL,
    -- JSON: per topic and partition the last batch dealt with.
    positions  TEXT NOT NULL,
    -- Membership is true as of this moment.
    as_of_us   BIGINT NOT NULL,
    -- Number of the last transition.
    sequence   BIGINT NOT NULL,
    -- The chunks of members are as of this transition.
    checkpoint BIGINT NOT NULL,
    audits     BIGINT NOT NULL,
    repaired   BIGINT NOT NULL
);

-- What the members of an audience are of.
CREATE TABLE live_audience (
    tenant       TEXT NOT NULL,
    audience     TEXT NOT NULL,
    version      BIGINT NOT NULL,
    -- Of everything that decides who is in, but for the persons of lists; in hexadecimal.
    fingerprint  TEXT NOT NULL,
    holdout      BIGINT NOT NULL,
    evaluated_us BIGINT NOT NULL,
    audited_us   BIGINT NOT NULL,
    size         BIGINT NOT NULL,
    held_out     BIGINT NOT NULL,
    PRIMARY KEY (tenant, audience)
);

-- Who meets the condition of an audience, members and those held out, as of the tenant's checkpoint: as in list_chunk.
CREATE TABLE member_chunk (
    tenant   TEXT NOT NULL,
    audience TEXT NOT NULL,
    chunk    BIGINT NOT NULL,
    persons  BYTEA NOT NULL,
    PRIMARY KEY (tenant, audience, chunk)
);

-- Transitions that are not on the log yet, or not in the chunks: encoded segue.events.v1.TransitionBatch.
CREATE TABLE transition_batch (
    tenant        TEXT NOT NULL,
    last_sequence BIGINT NOT NULL,
    transitions   BIGINT NOT NULL,
    payload       BYTEA NOT NULL,
    relayed       BOOLEAN NOT NULL,
    PRIMARY KEY (tenant, last_sequence)
);

-- How large audiences were, by the hour.
CREATE TABLE audience_hour (
    tenant   TEXT NOT NULL,
    audience TEXT NOT NULL,
    hour_us  BIGINT NOT NULL,
    size     BIGINT NOT NULL,
    held_out BIGINT NOT NULL,
    entered  BIGINT NOT NULL,
    left_    BIGINT NOT NULL,
    PRIMARY KEY (tenant, audience, hour_us)
);
