-- Scenarios, their versions and calls to enter.

-- Scenarios as they are now; what they say is that of their newest version.
CREATE TABLE scenario (
    tenant          TEXT NOT NULL,
    id              TEXT NOT NULL,
    name            TEXT NOT NULL,
    description     TEXT NOT NULL,
    -- The newest; counts from 1.
    version         INTEGER NOT NULL,
    -- 'draft', 'running', 'paused', 'ended' or 'archived'.
    state           TEXT NOT NULL,
    -- The version that persons enter; 0: it was never started.
    started_version INTEGER NOT NULL,
    -- How often it was started.
    starts          INTEGER NOT NULL,
    -- Whether those who were members at the last start enter.
    enters_present  BOOLEAN NOT NULL,
    -- Nobody enters by what happened before.
    started_us      INTEGER NOT NULL,
    -- Counts changes of any kind; the etag.
    revision        INTEGER NOT NULL,
    created_us      INTEGER NOT NULL,
    updated_us      INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- Every version of every scenario.
CREATE TABLE scenario_version (
    tenant     TEXT NOT NULL,
    scenario   TEXT NOT NULL,
    version    INTEGER NOT NULL,
    -- Encoded segue.campaign.v1.ScenarioDefinition.
    definition BLOB NOT NULL,
    -- Whether persons could ever enter it.
    started    BOOLEAN NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, scenario, version)
) WITHOUT ROWID;

-- What versions send with. `kind` is 'template' or 'channel'.
CREATE TABLE scenario_use (
    tenant   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    name     TEXT NOT NULL,
    scenario TEXT NOT NULL,
    version  INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, name, scenario, version)
) WITHOUT ROWID;

-- Counts changes of a tenant's scenarios that the worker has to see; its row is the lock under which scenarios change.
CREATE TABLE scenario_counter (
    tenant  TEXT NOT NULL PRIMARY KEY,
    changes INTEGER NOT NULL
) WITHOUT ROWID;

-- Who is to enter by call and was not dealt with yet.
CREATE TABLE scenario_call (
    tenant    TEXT NOT NULL,
    -- Ascending per tenant, in the order of commits.
    sequence  INTEGER NOT NULL,
    scenario  TEXT NOT NULL,
    person    INTEGER NOT NULL,
    entry_key TEXT NOT NULL,
    -- JSON: what templates see as `event`.
    event     TEXT NOT NULL,
    PRIMARY KEY (tenant, sequence)
) WITHOUT ROWID;

-- The sequence given out last; its row is the lock under which calls are written.
CREATE TABLE scenario_call_counter (
    tenant   TEXT NOT NULL PRIMARY KEY,
    sequence INTEGER NOT NULL
) WITHOUT ROWID;

-- Requests to enter that were answered, so that each counts once.
CREATE TABLE scenario_call_request (
    tenant      TEXT NOT NULL,
    scenario    TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    -- Of what was asked for.
    fingerprint TEXT NOT NULL,
    -- One digit per entrant: 1 is known.
    known       TEXT NOT NULL,
    made_us     INTEGER NOT NULL,
    PRIMARY KEY (tenant, scenario, request_id)
) WITHOUT ROWID;
CREATE INDEX scenario_call_request_by_age ON scenario_call_request (tenant, made_us);
