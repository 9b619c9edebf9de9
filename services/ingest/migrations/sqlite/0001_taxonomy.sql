-- Which events and properties a tenant has. `revision` grows with every change of anything here; the row of a tenant is
-- written first in every change, so changes of one tenant wait for each other.
CREATE TABLE taxonomy (
    tenant TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    mode TEXT NOT NULL DEFAULT 'open',
    inferred_properties_max INTEGER NOT NULL DEFAULT 1000,
    inferred_events_max INTEGER NOT NULL DEFAULT 1000,
    -- Grows with mode and limits alone: the etag.
    version INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE event_definition (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    -- JSON array of names.
    required_properties TEXT NOT NULL DEFAULT '[]',
    inferred BOOLEAN NOT NULL DEFAULT FALSE,
    archived BOOLEAN NOT NULL DEFAULT FALSE,
    created_at_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE event_alias (
    tenant TEXT NOT NULL,
    alias TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (tenant, alias),
    FOREIGN KEY (tenant, name) REFERENCES event_definition (tenant, name)
);

CREATE TABLE property_definition (
    tenant TEXT NOT NULL,
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    value_type TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    string_bytes_max INTEGER NOT NULL,
    inferred BOOLEAN NOT NULL DEFAULT FALSE,
    archived BOOLEAN NOT NULL DEFAULT FALSE,
    created_at_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, scope, name)
);
