-- What holds of what was said of a number, by channel and purpose: state 1 granted, 2 refused. A merged person's stay under its own number.
-- digest is of everything but the time.
CREATE TABLE consents (
    tenant  TEXT    NOT NULL,
    person  BIGINT  NOT NULL,
    channel TEXT    NOT NULL,
    purpose TEXT    NOT NULL,
    state   BIGINT  NOT NULL,
    time_us BIGINT  NOT NULL,
    digest  BIGINT  NOT NULL,
    source  TEXT    NOT NULL,
    proof   TEXT    NOT NULL,
    PRIMARY KEY (tenant, person, channel, purpose)
);

-- What was said. What holds now may be missing here.
CREATE TABLE consent_log (
    tenant  TEXT    NOT NULL,
    person  BIGINT  NOT NULL,
    time_us BIGINT  NOT NULL,
    digest  BIGINT  NOT NULL,
    channel TEXT    NOT NULL,
    purpose TEXT    NOT NULL,
    state   BIGINT  NOT NULL,
    source  TEXT    NOT NULL,
    proof   TEXT    NOT NULL,
    PRIMARY KEY (tenant, person, time_us, digest)
);
