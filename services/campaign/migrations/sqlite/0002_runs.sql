-- Runs of persons through scenarios, and where a tenant is.

-- Where the scenarios of a tenant are. One process works on it at a time: `owner`, whose commits name the epoch.
CREATE TABLE flow_tenant (
    tenant     TEXT NOT NULL PRIMARY KEY,
    owner      TEXT NOT NULL,
    epoch      INTEGER NOT NULL,
    -- The claim lasts so long.
    until_us   INTEGER NOT NULL,
    -- JSON: per topic and partition the last batch dealt with.
    positions  TEXT NOT NULL,
    -- The last number given out: of runs, waves and what is held back.
    numbers    INTEGER NOT NULL,
    -- Calls up to this one were dealt with.
    calls      INTEGER NOT NULL,
    -- Number of the last command.
    commands   INTEGER NOT NULL,
    -- Whoever wants to know how far it is counts up `asked`; `answered` follows when nothing is left to do.
    asked      INTEGER NOT NULL,
    answered   INTEGER NOT NULL,
    -- Everything before this moment was dealt with.
    done_us    INTEGER NOT NULL,
    -- Since the owner took it up.
    steps_done INTEGER NOT NULL,
    rounds     INTEGER NOT NULL,
    problem    TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE flow_run (
    tenant         TEXT NOT NULL,
    id             INTEGER NOT NULL,
    scenario       TEXT NOT NULL,
    version        INTEGER NOT NULL,
    person         INTEGER NOT NULL,
    entry_key      TEXT NOT NULL,
    -- Counts the entries of the person and key.
    entry          INTEGER NOT NULL,
    entered_us     INTEGER NOT NULL,
    held_out       BOOLEAN NOT NULL,
    -- 0: it is active; else its id: of a person, scenario and key one run is active.
    slot           INTEGER NOT NULL,
    -- When it goes on by itself; the largest number: not before something happens.
    due_us         INTEGER NOT NULL,
    -- Events of the person are looked at until then: always while it is active, afterwards for its goals.
    watch_until_us INTEGER NOT NULL,
    ended_us       INTEGER,
    end_reason     TEXT NOT NULL,
    -- JSON.
    state          TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX flow_run_of_person ON flow_run (tenant, person, scenario, entry_key, slot);
CREATE INDEX flow_run_due ON flow_run (tenant, scenario, due_us, id) WHERE slot = 0;
CREATE INDEX flow_run_of_scenario ON flow_run (tenant, scenario, id);
CREATE INDEX flow_run_old ON flow_run (tenant, watch_until_us) WHERE slot <> 0;

-- Entries whose runs were removed.
CREATE TABLE flow_entry (
    tenant          TEXT NOT NULL,
    person          INTEGER NOT NULL,
    scenario        TEXT NOT NULL,
    entry_key       TEXT NOT NULL,
    entry           INTEGER NOT NULL,
    last_entered_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, person, scenario, entry_key)
) WITHOUT ROWID;

-- Variants of experiments: for good.
CREATE TABLE assignment (
    tenant      TEXT NOT NULL,
    person      INTEGER NOT NULL,
    scenario    TEXT NOT NULL,
    step        TEXT NOT NULL,
    variant     TEXT NOT NULL,
    assigned_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, person, scenario, step)
) WITHOUT ROWID;

-- Whose runs went to whom: what still comes in under the old number is the survivor's.
CREATE TABLE flow_merged (
    tenant      TEXT NOT NULL,
    person      INTEGER NOT NULL,
    into_person INTEGER NOT NULL,
    PRIMARY KEY (tenant, person)
) WITHOUT ROWID;
CREATE INDEX flow_merged_into ON flow_merged (tenant, into_person);

-- Something that happened to many persons at once, dealt with in parts.
CREATE TABLE flow_wave (
    tenant       TEXT NOT NULL,
    number       INTEGER NOT NULL,
    -- JSON: what happened.
    body         TEXT NOT NULL,
    -- A Roaring bitmap in its portable serialisation.
    persons      BLOB NOT NULL,
    -- Persons up to this one were dealt with.
    after_person INTEGER NOT NULL,
    PRIMARY KEY (tenant, number)
) WITHOUT ROWID;

-- What happened to a person and cannot be dealt with yet, since what has to be known for it cannot be learned now. JSON, in order.
CREATE TABLE flow_held (
    tenant TEXT NOT NULL,
    number INTEGER NOT NULL,
    person INTEGER NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (tenant, number)
) WITHOUT ROWID;
CREATE INDEX flow_held_of_person ON flow_held (tenant, person);

-- What calls want done to runs: JSON.
CREATE TABLE flow_command (
    tenant TEXT NOT NULL,
    number INTEGER NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (tenant, number)
) WITHOUT ROWID;

-- What was done for a scenario as a whole.
CREATE TABLE flow_scenario (
    tenant   TEXT NOT NULL,
    scenario TEXT NOT NULL,
    -- Its schedule is that of this version, which began at `base_us`; what was to happen up to `after_us` did.
    version  INTEGER NOT NULL,
    base_us  INTEGER NOT NULL,
    after_us INTEGER NOT NULL,
    -- The start for which present members entered.
    present  INTEGER NOT NULL,
    PRIMARY KEY (tenant, scenario)
) WITHOUT ROWID;
