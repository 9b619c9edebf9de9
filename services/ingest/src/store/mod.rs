//! Ingest's state, one file per owner; all SQL is here. Migrations: `migrations/{sqlite,postgres}/NNNN_what_it_does.sql`.

pub mod import;
pub mod marks;
pub mod pipeline;
pub mod quarantine;
pub mod taxonomy;

use segue_store::Migrations;
use segue_store::sqlx::migrate::Migrator;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// The schema of the namespace `ingest`.
pub const MIGRATIONS: Migrations = Migrations { sqlite: &SQLITE, postgres: &POSTGRES };
