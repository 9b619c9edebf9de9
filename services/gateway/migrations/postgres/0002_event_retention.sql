-- For how many days events are kept; 0: forever.
ALTER TABLE tenant ADD COLUMN event_retention_days BIGINT NOT NULL DEFAULT 0;
