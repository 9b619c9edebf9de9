//! Temporary databases.

use segue_store::{Db, DbKind, Migrations, StoreError};
use tempfile::TempDir;

/// A place for the databases of one test, of one kind; removed when dropped.
#[derive(Debug)]
pub struct TempStore {
    url: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Folder(TempDir),
    Schemas { server: String, prefix: String },
}

/// One of each kind that there is.
pub fn stores() -> Vec<TempStore> {
    let mut stores = vec![TempStore::sqlite()];
    stores.extend(TempStore::postgres());
    stores
}

impl TempStore {
    /// A folder for SQLite files.
    pub fn sqlite() -> TempStore {
        let folder = TempDir::with_prefix("segue-store-").expect("the temporary folder is writable");
        TempStore { url: format!("sqlite:{}", folder.path().display()), place: Place::Folder(folder) }
    }

    /// Schemas of a random prefix in the PostgreSQL of `SEGUE_TEST_POSTGRES_URL`, if that is set.
    pub fn postgres() -> Option<TempStore> {
        let server = crate::server_url("SEGUE_TEST_POSTGRES_URL")?;
        // Short, since a schema's name has at most 63 characters.
        let prefix = format!("{}_", &crate::unique_name()[..18]);
        let joiner = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{joiner}schema_prefix={prefix}&connections_max=5");
        Some(TempStore { url, place: Place::Schemas { server, prefix } })
    }

    /// Which kind it is.
    pub fn kind(&self) -> DbKind {
        match self.place {
            Place::Folder(_) => DbKind::Sqlite,
            Place::Schemas { .. } => DbKind::Postgres,
        }
    }

    /// The folder of SQLite files.
    pub fn folder(&self) -> Option<&std::path::Path> {
        match &self.place {
            Place::Folder(folder) => Some(folder.path()),
            Place::Schemas { .. } => None,
        }
    }

    /// What to put into `store.url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens the database of a namespace; again for another handle to the same.
    pub async fn open(&self, namespace: &str, migrations: Migrations) -> Result<Db, StoreError> {
        Db::open(&self.url, namespace, migrations).await
    }
}

impl Drop for TempStore {
    fn drop(&mut self) {
        if let Place::Schemas { server, prefix } = &self.place {
            let (server, prefix) = (server.clone(), prefix.clone());
            crate::run_to_end(async move { Ok(segue_store::drop_schemas_with_prefix(&server, &prefix).await?) });
        }
    }
}
