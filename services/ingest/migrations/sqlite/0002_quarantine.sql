-- Events set aside. One entry per (source, message id): an event that is sent again takes the place of its entry.
CREATE TABLE quarantine (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    source TEXT NOT NULL,
    message_id TEXT NOT NULL,
    event_name TEXT NOT NULL,
    received_at_us INTEGER NOT NULL,
    time_is_final BOOLEAN NOT NULL,
    -- segue.events.v1.Event
    event BLOB NOT NULL,
    -- segue.ingest.v1.EventOutcome, for its reasons
    reasons BLOB NOT NULL,
    -- Grows when the entry changes; who read an entry removes it only as it was read.
    revision INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, source, message_id)
);
CREATE INDEX quarantine_by_time ON quarantine (tenant, received_at_us, id);

-- The distinct reasons of an entry, for selecting and counting. Positions in lists are left out of `field`.
CREATE TABLE quarantine_reason (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    code INTEGER NOT NULL,
    field TEXT NOT NULL,
    PRIMARY KEY (tenant, id, code, field),
    FOREIGN KEY (tenant, id) REFERENCES quarantine (tenant, id) ON DELETE CASCADE
);

-- Entries there are, and entries there ever were.
CREATE TABLE quarantine_count (
    tenant TEXT PRIMARY KEY,
    entries INTEGER NOT NULL,
    ever INTEGER NOT NULL
);

CREATE TABLE correction_rule (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    -- Order of creation.
    position INTEGER NOT NULL,
    -- segue.ingest.v1.CorrectionRule
    rule BLOB NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, position)
);
