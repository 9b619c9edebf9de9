-- The send ledger: one row to a message of one run at one visit of a step. Small numbers (kind, purpose, state, reason) are those of the
-- contract's enums.
CREATE TABLE send (
    tenant          TEXT NOT NULL,
    id              TEXT NOT NULL,
    scenario        TEXT NOT NULL,
    version         BIGINT NOT NULL,
    step            TEXT NOT NULL,
    run             BIGINT NOT NULL,
    person          BIGINT NOT NULL,
    entry_key       TEXT NOT NULL,
    attempt_group   TEXT NOT NULL,
    channel         TEXT NOT NULL,
    -- 0 until it is decided.
    kind            BIGINT NOT NULL,
    template        TEXT NOT NULL,
    purpose         BIGINT NOT NULL,
    variant         TEXT NOT NULL,
    held_out        BOOLEAN NOT NULL,
    time_zone       TEXT NOT NULL,
    -- JSON: what templates see.
    content         TEXT NOT NULL,
    state           BIGINT NOT NULL,
    reason          BIGINT NOT NULL,
    reason_detail   TEXT NOT NULL,
    planned_us      BIGINT NOT NULL,
    -- When it is looked at next: while somebody holds it, the end of that hold. NULL: never again.
    due_us          BIGINT,
    expires_us      BIGINT NOT NULL,
    -- Counts claims. Who holds the send names the last one; whoever held it before can change nothing any more.
    claim           BIGINT NOT NULL,
    -- Of whoever claimed it last; for people.
    claimed_by      TEXT NOT NULL,
    attempts        BIGINT NOT NULL,
    policy_version  BIGINT NOT NULL,
    -- It is among the counts of cap_count.
    counted         BOOLEAN NOT NULL,
    sent_us         BIGINT,
    delivered_us    BIGINT,
    opened_us       BIGINT,
    clicked_us      BIGINT,
    unsubscribed_us BIGINT,
    -- JSON: one object per address, in the order of their numbers. Empty array: not decided.
    addresses       TEXT NOT NULL,
    -- One JSON array [time, check, outcome, detail] to a line, the oldest first.
    decisions       TEXT NOT NULL,
    decision_count  BIGINT NOT NULL,
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
    address BIGINT NOT NULL,
    kind    TEXT NOT NULL,
    PRIMARY KEY (tenant, send, address, kind)
);

-- Messages of a person by the days (since 1970-01-01) of their calendar, under every counter that a cap looked at.
CREATE TABLE cap_count (
    tenant  TEXT NOT NULL,
    person  BIGINT NOT NULL,
    counter TEXT NOT NULL,
    day     BIGINT NOT NULL,
    count   BIGINT NOT NULL,
    PRIMARY KEY (tenant, person, counter, day)
);

-- Who unsubscribed by a link. `channel` as consents name it.
CREATE TABLE unsubscribed (
    tenant  TEXT NOT NULL,
    person  BIGINT NOT NULL,
    channel TEXT NOT NULL,
    time_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, person, channel)
);
