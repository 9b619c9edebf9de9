-- Versions of the sending policy; before the first update of a tenant there is none.
CREATE TABLE sending_policy (
    tenant     TEXT NOT NULL,
    version    INTEGER NOT NULL,
    -- Encoded segue.campaign.v1.SendingPolicy, without what the columns say.
    content    BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, version)
) WITHOUT ROWID;
