-- Accounts (companies, households) that GROUP events were about.
CREATE TABLE accounts (
    tenant        TEXT   NOT NULL,
    account       TEXT   NOT NULL,
    first_seen_us BIGINT NOT NULL,
    last_seen_us  BIGINT NOT NULL,
    PRIMARY KEY (tenant, account)
);

CREATE TABLE account_traits (
    tenant  TEXT   NOT NULL,
    account TEXT   NOT NULL,
    name    TEXT   NOT NULL,
    value   BYTEA  NOT NULL,
    time_us BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    PRIMARY KEY (tenant, account, name)
);

-- person is the number that the membership was noted for; a merged person's memberships stay under its own number.
CREATE TABLE memberships (
    tenant        TEXT   NOT NULL,
    person        BIGINT NOT NULL,
    account       TEXT   NOT NULL,
    first_seen_us BIGINT NOT NULL,
    last_seen_us  BIGINT NOT NULL,
    PRIMARY KEY (tenant, person, account)
);
CREATE INDEX memberships_of_account ON memberships (tenant, account, person);
