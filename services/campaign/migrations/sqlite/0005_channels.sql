-- How messages leave.
CREATE TABLE channel (
    tenant          TEXT NOT NULL,
    id              TEXT NOT NULL,
    name            TEXT NOT NULL,
    -- The number of the ChannelKind.
    kind            INTEGER NOT NULL,
    -- A `Channel` of channel.proto that has nothing but its settings, with their secrets.
    settings        BLOB NOT NULL,
    -- `whsec_…`: signs what is sent and what is reported; empty for kinds without.
    signing_secret  TEXT NOT NULL,
    rate_per_second INTEGER NOT NULL,
    paused          BOOLEAN NOT NULL,
    -- Counts changes.
    revision        INTEGER NOT NULL,
    created_us      INTEGER NOT NULL,
    updated_us      INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
