-- The send ledger: one row to a message of one run at one visit of a step. Small numbers (kind, purpose, state, reason) are those of the
-- contract's enums.
CREATE TABLE send (
    tenant          TEXT NOT NULL,
    id              TEXT NOT NULL,
    scenario        TEXT NOT NULL,
    version         INTEGER NOT NULL,
    step            TEXT NOT NULL,
    run             INTEGER NOT NULL,
    person          INTEGER NOT NULL,
    entry_key       TEXT NOT NULL,
    attempt_group   TEXT NOT NULL,
    channel         TEXT NOT NULL,
    -- 0 until it is decided.
    kind            INTEGER NOT NULL,
    template        TEXT NOT NULL,
    purpose         INTEGER NOT NULL,
    variant         TEXT NOT NULL,
    held_out        BOOLEAN NOT NULL,
    time_zone       TEXT NOT NULL,
    -- JSON: what templates see.
    content         TEXT NOT NULL,
    state           INTEGER NOT NULL,
    reason          INTEGER NOT NULL,
    reason_detail   TEXT NOT NULL,
    planned_us      INTEGER NOT NULL,
    -- When it is looked at next: while somebody holds it, the end of that hold. NULL: never again.
    due_us          INTEGER,
    expires_us      INTEGER NOT NULL,
    -- Counts claims. Who holds the send names the last one; whoever held it before can change nothing any more.
    claim           INTEGER NOT NULL,
    -- Of whoever claimed it last; for people.
    claimed_by      TEXT NOT NULL,
    attempts        INTEGER NOT NULL,
    policy_version  INTEGER NOT NULL,
    -- It is among the counts of cap_count.
    counted         BOOLEAN NOT NULL,
    sent_us         INTEGER,
    delivered_us    INTEGER,
    opened_us       INTEGER,
    clicked_us      INTEGER,
    unsubscribed_us INTEGER,
    -- JSON: one object per address, in the order of their numbers. Empty array: not decided.
    addresses       TEXT NOT NULL,
    -- One JSON array [time, check, outcome, detail] to a line, the oldest first.
    decisions       TEXT NOT NULL,
    decision_count  INTEGER NOT NULL,
    PRIMARY KEY (id, tenant)
);

-- What is to be done, channel by channel: one that is down or paused does not hold up others. `expires_us` finds what is too late without
-- looking at the rows.
CREATE INDEX send_due ON send (tenant, channel, due_us, expires_us) WHERE due_us IS NOT NULL;
CREATE INDEX send_of_run ON send (tenant, run) WHERE due_us IS NOT NULL;
CREATE INDEX send_newest ON send (tenant, planned_us, id);
CREATE INDEX send_of_scenario ON send (tenant, scenario, planned_us, id);
CREATE INDEX send_of_person ON send (tenant, person, planned_us, id);

-- What came back about messages, so that it is told once. `kind`: delivered, failed, opened, clicked, unsubscribed.
CREATE TABLE send_report (
    tenant  TEXT NOT NULL,
    send    TEXT NOT NULL,
    address INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    PRIMARY KEY (tenant, send, address, kind)
) WITHOUT ROWID;

-- Messages of a person by the days (since 1970-01-01) of their calendar, under every counter that a cap looked at.
CREATE TABLE cap_count (
    tenant  TEXT NOT NULL,
    person  INTEGER NOT NULL,
    counter TEXT NOT NULL,
    day     INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (tenant, person, counter, day)
) WITHOUT ROWID;

-- Who unsubscribed by a link. `channel` as consents name it.
CREATE TABLE unsubscribed (
    tenant  TEXT NOT NULL,
    person  INTEGER NOT NULL,
    channel TEXT NOT NULL,
    time_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, person, channel)
) WITHOUT ROWID;
