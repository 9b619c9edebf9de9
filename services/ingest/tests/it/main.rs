//! Everything about ingest against real backends: SQLite and the embedded log always, PostgreSQL and NATS where the
//! environment names them.

mod accept;
mod collect;
mod harness;
mod import;
mod pipeline;
mod quarantine;
mod taxonomy;
