-- Runs of persons through scenarios, and where a tenant is.

-- Where the scenarios of a tenant are. One process works on it at a time: `owner`, whose commits name the epoch.
CREATE TABLE flow_tenant (
    tenant     TEXT NOT NULL PRIMARY KEY,
    owner      TEXT NOT NULL,
    epoch      BIGINT NOT NULL,
    -- The claim lasts so long.
    until_us   BIGINT NOT NULL,
    -- JSON: per topic and partition the last batch dealt with.
    positions  TEXT NOT NULL,
    -- The last number given out: of runs, waves and what is held back.
    numbers    BIGINT NOT NULL,
    -- Calls up to this one were dealt with.
    calls      BIGINT NOT NULL,
    -- Number of the last command.
    commands   BIGINT NOT NULL,
    -- Whoever wants to know how far it is counts up `asked`; `answered` follows when nothing is left to do.
    asked      BIGINT NOT NULL,
    answered   BIGINT NOT NULL,
    -- Everything before this moment was dealt with.
    done_us    BIGINT NOT NULL,
    -- Since the owner took it up.
    steps_done BIGINT NOT NULL,
    rounds     BIGINT NOT NULL,
    problem    TEXT NOT NULL
);

CREATE TABLE flow_run (
    tenant         TEXT NOT NULL,
    id             BIGINT NOT NULL,
    scenario       TEXT NOT NULL,
    version        BIGINT NOT NULL,
    person         BIGINT NOT NULL,
    entry_key      TEXT NOT NULL,
    -- Counts the entries of the person and key.
    entry          BIGINT NOT NULL,
    entered_us     BIGINT NOT NULL,
    held_out       BOOLEAN NOT NULL,
    -- 0: it is active; else its id: of a person, scenario and key one run is active.
    slot           BIGINT NOT NULL,
    -- When it goes on by itself; the largest number: not before something happens.
    due_us         BIGINT NOT NULL,
    -- Events of the person are looked at until then: always while it is active, afterwards for its goals.
    watch_until_us BIGINT NOT NULL,
    ended_us       BIGINT,
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
    person          BIGINT NOT NULL,
    scenario        TEXT NOT NULL,
    entry_key       TEXT NOT NULL,
    entry           BIGINT NOT NULL,
    last_entered_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, person, scenario, entry_key)
);

-- Variants of experiments: for good.
CREATE TABLE assignment (
    tenant      TEXT NOT NULL,
    person      BIGINT NOT NULL,
    scenario    TEXT NOT NULL,
    step        TEXT NOT NULL,
    variant     TEXT NOT NULL,
    assigned_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, person, scenario, step)
);

-- Whose runs went to whom: what still comes in under the old number is the survivor's.
CREATE TABLE flow_merged (
    tenant      TEXT NOT NULL,
    person      BIGINT NOT NULL,
    into_person BIGINT NOT NULL,
    PRIMARY KEY (tenant, person)
);
CREATE INDEX flow_merged_into ON flow_merged (tenant, into_person);

-- Something that happened to many persons at once, dealt with in parts.
CREATE TABLE flow_wave (
    tenant       TEXT NOT NULL,
    number       BIGINT NOT NULL,
    -- JSON: what happened.
    body         TEXT NOT NULL,
    -- A Roaring bitmap in its portable serialisation.
    persons      BYTEA NOT NULL,
    -- Persons up to this one were dealt with.
    after_person BIGINT NOT NULL,
    PRIMARY KEY (tenant, number)
);

-- What happened to a person and cannot be dealt with yet, since what has to be known for it cannot be learned now. JSON, in order.
CREATE TABLE flow_held (
    tenant TEXT NOT NULL,
    number BIGINT NOT NULL,
    person BIGINT NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (tenant, number)
);
CREATE INDEX flow_held_of_person ON flow_held (tenant, person);

-- What calls want done to runs: JSON.
CREATE TABLE flow_command (
    tenant TEXT NOT NULL,
    number BIGINT NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (tenant, number)
);

-- What was done for a scenario as a whole.
CREATE TABLE flow_scenario (
    tenant   TEXT NOT NULL,
    scenario TEXT NOT NULL,
    -- Its schedule is that of this version, which began at `base_us`; what was to happen up to `after_us` did.
    version  BIGINT NOT NULL,
    base_us  BIGINT NOT NULL,
    after_us BIGINT NOT NULL,
    -- The start for which present members entered.
    present  BIGINT NOT NULL,
    PRIMARY KEY (tenant, scenario)
);
