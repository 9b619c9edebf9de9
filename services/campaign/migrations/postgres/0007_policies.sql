-- Versions of the sending policy; before the first update of a tenant there is none.
CREATE TABLE sending_policy (
    tenant     TEXT NOT NULL,
    version    BIGINT NOT NULL,
    -- Encoded segue.campaign.v1.SendingPolicy, without what the columns say.
    content    BYTEA NOT NULL,
    created_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, version)
);
