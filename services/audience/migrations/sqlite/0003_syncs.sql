-- Transitions that are not on the log yet.
CREATE INDEX transition_batch_waiting ON transition_batch (tenant, last_sequence) WHERE NOT relayed;
