-- Accounts (companies, households) that GROUP events were about.
CREATE TABLE accounts (
    tenant        TEXT    NOT NULL,
    account       TEXT    NOT NULL,
    first_seen_us INTEGER NOT NULL,
    last_seen_us  INTEGER NOT NULL,
    PRIMARY KEY (tenant, account)
) WITHOUT ROWID;

CREATE TABLE account_traits (
    tenant  TEXT    NOT NULL,
    account TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    value   BLOB    NOT NULL,
    time_us INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    PRIMARY KEY (tenant, account, name)
) WITHOUT ROWID;

-- person is the number that the membership was noted for; a merged person's memberships stay under its own number.
CREATE TABLE memberships (
    tenant        TEXT    NOT NULL,
    person        INTEGER NOT NULL,
    account       TEXT    NOT NULL,
    first_seen_us INTEGER NOT NULL,
    last_seen_us  INTEGER NOT NULL,
    PRIMARY KEY (tenant, person, account)
) WITHOUT ROWID;
CREATE INDEX memberships_of_account ON memberships (tenant, account);
