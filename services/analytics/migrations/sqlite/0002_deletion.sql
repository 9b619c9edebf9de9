-- Rows of this origin that were received up to a moment are deleted: hidden at once, gone from files by and by.
CREATE TABLE deleted_origin (
    tenant   TEXT    NOT NULL,
    origin   INTEGER NOT NULL,
    until_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, origin)
) WITHOUT ROWID;

-- Answers to requests for deletion, for those that are repeated.
CREATE TABLE deletion (
    tenant     TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    asked      INTEGER NOT NULL,
    -- The survivor that was deleted.
    person     INTEGER NOT NULL,
    deleted_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, request_id)
) WITHOUT ROWID;

-- Merges that hold no longer; files may have rows of the one person under the other's number.
-- (In `redirect`, the row of such a person then leads to itself.)
CREATE TABLE undone_merge (
    tenant      TEXT    NOT NULL,
    person_from INTEGER NOT NULL,
    person_into INTEGER NOT NULL,
    -- Number of the record in identity's link log that undid it.
    link        INTEGER NOT NULL,
    PRIMARY KEY (tenant, person_from, person_into)
) WITHOUT ROWID;
