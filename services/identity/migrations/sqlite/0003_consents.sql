-- What holds of what was said of a number, by channel and purpose: state 1 granted, 2 refused. A merged person's stay under its own number.
-- digest is of everything but the time.
CREATE TABLE consents (
    tenant  TEXT    NOT NULL,
    person  INTEGER NOT NULL,
    channel TEXT    NOT NULL,
    purpose TEXT    NOT NULL,
    state   INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    digest  INTEGER NOT NULL,
    source  TEXT    NOT NULL,
    proof   TEXT    NOT NULL,
    PRIMARY KEY (tenant, person, channel, purpose)
) WITHOUT ROWID;

-- What was said. What holds now may be missing here.
CREATE TABLE consent_log (
    tenant  TEXT    NOT NULL,
    person  INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    digest  INTEGER NOT NULL,
    channel TEXT    NOT NULL,
    purpose TEXT    NOT NULL,
    state   INTEGER NOT NULL,
    source  TEXT    NOT NULL,
    proof   TEXT    NOT NULL,
    PRIMARY KEY (tenant, person, time_us, digest)
) WITHOUT ROWID;
