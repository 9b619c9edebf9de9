-- Transitions that are not on the log yet.
CREATE INDEX transition_batch_waiting ON transition_batch (tenant, last_sequence) WHERE NOT relayed;

-- Destinations that are told who enters and leaves, and how far they know.
CREATE TABLE sync (
    tenant             TEXT NOT NULL,
    id                 TEXT NOT NULL,
    audience           TEXT NOT NULL,
    url                TEXT NOT NULL,
    -- `whsec_…`: signs what is sent.
    secret             TEXT NOT NULL,
    -- JSON: an array of texts.
    identifier_kinds   TEXT NOT NULL,
    paused             BOOLEAN NOT NULL,
    revision           INTEGER NOT NULL,
    created_us         INTEGER NOT NULL,
    -- 'begin': nothing is decided; 'first': all members are being sent; 'follow': differences are.
    phase              TEXT NOT NULL,
    -- Of the phase 'first': the least person of sync_members that no batch has.
    next_person        INTEGER NOT NULL,
    -- Transitions up to this one are in the members or in batches.
    sequence           INTEGER NOT NULL,
    -- Where those behind it are on the log; empty: to be found by number.
    place              TEXT NOT NULL,
    -- Number of the last batch.
    batches            INTEGER NOT NULL,
    delivered_sequence INTEGER NOT NULL,
    -- 0: nothing was.
    delivered_us       INTEGER NOT NULL,
    -- Of the batch at hand; and since when it fails, 0: it does not.
    failures           INTEGER NOT NULL,
    failing_since_us   INTEGER NOT NULL,
    problem            TEXT NOT NULL,
    -- Not to be worked on before.
    due_us             INTEGER NOT NULL,
    -- The process that works on it, until when.
    owner              TEXT NOT NULL,
    until_us           INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- The batch that a destination is to take next: decided, and sent as it is until it is taken.
CREATE TABLE sync_batch (
    tenant   TEXT NOT NULL,
    sync     TEXT NOT NULL,
    number   INTEGER NOT NULL,
    -- Transitions up to this one are with the destination once it has taken the batch; 0: as before.
    sequence INTEGER NOT NULL,
    -- The body.
    payload  BLOB NOT NULL,
    PRIMARY KEY (tenant, sync, number)
) WITHOUT ROWID;

-- Of a sync in the phase 'first': who is sent, members as of the transition `sequence`; a Roaring bitmap in its portable serialisation.
CREATE TABLE sync_members (
    tenant  TEXT NOT NULL,
    sync    TEXT NOT NULL,
    persons BLOB NOT NULL,
    PRIMARY KEY (tenant, sync)
) WITHOUT ROWID;
