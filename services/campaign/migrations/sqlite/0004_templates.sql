-- Templates as they are now.
CREATE TABLE template (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    name       TEXT NOT NULL,
    -- Number of segue.campaign.v1.ChannelKind; 0: a partial.
    kind       INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    -- Encoded segue.campaign.v1.Template: locales, default_locale and missing alone.
    content    BLOB NOT NULL,
    -- Counts changes of any kind; the etag.
    revision   INTEGER NOT NULL,
    archived   BOOLEAN NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- Every version of every template.
CREATE TABLE template_version (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    version    INTEGER NOT NULL,
    content    BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, id, version)
) WITHOUT ROWID;

-- Which partials the newest version of a template that is not archived includes.
CREATE TABLE template_include (
    tenant   TEXT NOT NULL,
    id       TEXT NOT NULL,
    included TEXT NOT NULL,
    PRIMARY KEY (tenant, id, included)
) WITHOUT ROWID;
CREATE INDEX template_included ON template_include (tenant, included);

-- Counts changes of a tenant's templates, so that every process sees them; its row is the lock under which templates change.
CREATE TABLE template_counter (
    tenant  TEXT NOT NULL PRIMARY KEY,
    changes INTEGER NOT NULL
) WITHOUT ROWID;
