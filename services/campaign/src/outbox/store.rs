//! Statements of the outbox: rows, and who tells them.

use segue_model::TenantId;
use segue_store::{Db, DbKind, Run, Tx, on_db, on_tx, on_writer};
use serde::Serialize;

use crate::error::CampaignError;
use crate::store::{json, number};

const INSERT_SQLITE: &str = "INSERT INTO outbox (tenant, destination, person, list, remove, payload)
    SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4) FROM json_each($2)";
const INSERT_POSTGRES: &str = "INSERT INTO outbox (tenant, destination, person, list, remove, payload)
    SELECT $1, value ->> 0, (value ->> 1)::bigint, value ->> 2, (value ->> 3)::boolean, decode(value ->> 4, 'hex')
    FROM json_array_elements($2::json) WITH ORDINALITY AS rows (value, at) ORDER BY at";
/// From tenant to tenant along the index: it costs by the number of tenants, not of rows.
const LIST_TENANTS: &str = "WITH RECURSIVE waiting (tenant) AS (
        SELECT min(tenant) FROM outbox WHERE destination = $1
        UNION ALL
        SELECT (SELECT min(outbox.tenant) FROM outbox WHERE outbox.destination = $1 AND outbox.tenant > waiting.tenant)
        FROM waiting WHERE waiting.tenant IS NOT NULL
    ) SELECT tenant FROM waiting WHERE tenant IS NOT NULL";
const PAGE: &str = "SELECT id, person, list, remove, payload FROM outbox
    WHERE destination = $1 AND tenant = $2 AND id > $3 ORDER BY id LIMIT $4";
const DELETE_SQLITE: &str = "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each($1))";
const DELETE_POSTGRES: &str = "DELETE FROM outbox WHERE id IN (SELECT value::bigint FROM json_array_elements_text($1::json))";
const CLAIM: &str = "INSERT INTO outbox_claim (destination, tenant, owner, until_us) VALUES ($1, $2, $3, $4)
    ON CONFLICT (destination, tenant) DO UPDATE SET owner = excluded.owner, until_us = excluded.until_us
    WHERE outbox_claim.until_us <= $5 OR outbox_claim.owner = excluded.owner
    RETURNING owner";
const RENEW: &str = "UPDATE outbox_claim SET until_us = $4 WHERE destination = $1 AND tenant = $2 AND owner = $3";

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Destination {
    /// Events.
    Ingest,
    /// Static lists.
    Audience,
    /// Consents.
    Identity,
}

impl Destination {
    pub(super) const ALL: [Destination; 3] = [Destination::Ingest, Destination::Audience, Destination::Identity];

    pub(super) fn name(self) -> &'static str {
        match self {
            Destination::Ingest => "ingest",
            Destination::Audience => "audience",
            Destination::Identity => "identity",
        }
    }
}

/// Destination, person, list, whether off it, payload in hexadecimal.
#[derive(Debug, Serialize)]
pub(super) struct NewRow<'t>(pub(super) &'static str, pub(super) u32, pub(super) &'t str, pub(super) bool, pub(super) String);

/// Something to tell, as written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) person: u32,
    pub(super) list: String,
    pub(super) remove: bool,
    pub(super) payload: Vec<u8>,
}

/// The right of a process to tell a destination on behalf of a tenant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'c> {
    pub(super) destination: Destination,
    pub(super) tenant: &'c TenantId,
    pub(super) owner: &'c str,
}

pub(super) async fn insert(tx: &mut Tx, tenant: &TenantId, rows: &[NewRow<'_>]) -> Result<(), CampaignError> {
    let rows = json(rows)?;
    let sql = tx.sql(INSERT_SQLITE, INSERT_POSTGRES);
    on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(rows).run(conn).await)?;
    Ok(())
}

/// Tenants for which something is to be told to a destination.
pub(super) async fn tenants(db: &Db, destination: Destination) -> Result<Vec<TenantId>, CampaignError> {
    let ids: Vec<String> = on_db!(db, pool => sqlx::query_scalar(LIST_TENANTS).bind(destination.name()).fetch_all(pool).await)?;
    ids.iter().map(|id| id.parse().map_err(|_| CampaignError::Corrupt { what: "tenant" })).collect()
}

/// The oldest rows after `after` that are written down now, at most `most`.
pub(super) async fn page(db: &Db, destination: Destination, tenant: &TenantId, after: i64, most: usize) -> Result<Vec<Row>, CampaignError> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows: Vec<(i64, i64, String, bool, Vec<u8>)> = on_db!(db, pool => sqlx::query_as(PAGE)
        .bind(destination.name()).bind(tenant.as_str()).bind(after).bind(most).fetch_all(pool).await)?;
    rows.into_iter().map(|(id, person, list, remove, payload)| Ok(Row { id, person: number(person)?, list, remove, payload })).collect()
}

impl Claim<'_> {
    /// Takes it, unless another process has one that lasts. With SQLite there is one process, so any other is gone.
    pub(super) async fn take(self, db: &Db, now_us: i64, until_us: i64) -> Result<bool, CampaignError> {
        let gone_us = if db.kind() == DbKind::Sqlite { i64::MAX } else { now_us };
        let taken: Option<String> = on_writer!(db, pool => sqlx::query_scalar(CLAIM).bind(self.destination.name())
            .bind(self.tenant.as_str()).bind(self.owner).bind(until_us).bind(gone_us).fetch_optional(pool).await)?;
        Ok(taken.is_some())
    }

    /// Deletes rows that were told, and prolongs the claim; false: it is another's by now.
    pub(super) async fn done(self, db: &Db, ids: &[i64], until_us: i64) -> Result<bool, CampaignError> {
        let ids = json(ids)?;
        let mut tx = db.begin().await?;
        let sql = tx.sql(DELETE_SQLITE, DELETE_POSTGRES);
        on_tx!(tx, conn => sqlx::query(sql).bind(ids).run(conn).await)?;
        let renewed = on_tx!(tx, conn => sqlx::query(RENEW).bind(self.destination.name()).bind(self.tenant.as_str())
            .bind(self.owner).bind(until_us).run(conn).await)?;
        tx.commit().await?;
        Ok(renewed > 0)
    }

    /// Gives it back.
    pub(super) async fn release(self, db: &Db) -> Result<(), CampaignError> {
        on_writer!(db, pool => sqlx::query(RENEW).bind(self.destination.name()).bind(self.tenant.as_str())
            .bind(self.owner).bind(0_i64).run(pool).await)?;
        Ok(())
    }
}

const WAITING: &str = "SELECT count(*) FROM outbox WHERE destination IN ('ingest', 'audience', 'identity') AND tenant = $1";

/// Rows of a tenant.
pub(super) async fn waiting(db: &Db, tenant: &TenantId) -> Result<u64, CampaignError> {
    let count: i64 = on_db!(db, pool => sqlx::query_scalar(WAITING).bind(tenant.as_str()).fetch_one(pool).await)?;
    crate::store::counter(count)
}

#[cfg(test)]
mod tests {
    use segue_proto::events::v1::{Event, EventKind, Value, value::Kind};
    use segue_store::Db;
    use segue_testkit::stores;

    use super::super::{Told, put};
    use super::*;
    use crate::store::{MIGRATIONS, NAMESPACE};

    fn event(n: u32) -> Told {
        let properties = vec![("df_message_id", Value { kind: Some(Kind::StringValue(format!("nul \0 and quote \" {n}"))) })];
        Told::Event {
            message_id: format!("m{n}"),
            name: "df_message_sent",
            time_us: 1_748_426_400_000_001,
            person: n,
            properties,
            items: Vec::new(),
        }
    }

    fn tenant(id: &str) -> TenantId {
        id.parse().expect("an id")
    }

    async fn tell(db: &Db, tenant: &TenantId, told: &[Told]) {
        let mut tx = db.begin().await.expect("a transaction");
        put(&mut tx, tenant, told).await.expect("written");
        tx.commit().await.expect("committed");
    }

    fn persons(rows: &[Row]) -> Vec<u32> {
        rows.iter().map(|row| row.person).collect()
    }

    #[tokio::test]
    async fn what_is_put_is_read_in_order_per_tenant_and_destination() {
        use prost::Message;
        for place in stores() {
            let db = place.open(NAMESPACE, MIGRATIONS).await.expect("opens");
            let (shop, rival) = (tenant("shop"), tenant("rival"));
            // More than one statement's worth.
            let many: Vec<Told> = (1..=12_000).map(event).collect();
            tell(&db, &shop, &many).await;
            tell(&db, &rival, &[Told::List { person: 7, list: "vips".to_owned(), remove: true }, event(8)]).await;
            tell(&db, &shop, &[]).await;
            assert_eq!(tenants(&db, Destination::Ingest).await.expect("listed"), [rival.clone(), shop.clone()]);
            assert_eq!(tenants(&db, Destination::Audience).await.expect("listed"), std::slice::from_ref(&rival));
            assert_eq!(tenants(&db, Destination::Identity).await.expect("listed"), []);

            let first = page(&db, Destination::Ingest, &shop, 0, 5_000).await.expect("read");
            assert_eq!(persons(&first), (1..=5_000).collect::<Vec<_>>());
            let rest = page(&db, Destination::Ingest, &shop, first[4_999].id, 20_000).await.expect("read");
            assert_eq!(persons(&rest), (5_001..=12_000).collect::<Vec<_>>());
            let decoded = Event::decode(&first[0].payload[..]).expect("an event");
            assert_eq!((decoded.message_id.as_str(), decoded.kind(), decoded.name.as_str()), ("m1", EventKind::Track, "df_message_sent"));
            assert_eq!(decoded.time.expect("a time").nanos, 1_000);
            assert_eq!(decoded.properties["df_message_id"].kind, Some(Kind::StringValue("nul \0 and quote \" 1".to_owned())));
            let list = page(&db, Destination::Audience, &rival, 0, 10).await.expect("read");
            assert_eq!((list[0].person, list[0].list.as_str(), list[0].remove), (7, "vips", true));
        }
    }

    #[tokio::test]
    async fn a_row_that_is_committed_late_is_neither_skipped_nor_deleted_with_others() {
        for place in stores() {
            let db = place.open(NAMESPACE, MIGRATIONS).await.expect("opens");
            let shop = tenant("shop");
            let claim = Claim { destination: Destination::Ingest, tenant: &shop, owner: "one" };
            assert!(claim.take(&db, 0, 100).await.expect("claimed"));
            if db.kind() == DbKind::Postgres {
                // It has its number first, and is seen last.
                let mut late = db.begin().await.expect("a transaction");
                put(&mut late, &shop, &[event(1)]).await.expect("written");
                tell(&db, &shop, &[event(2)]).await;
                let seen = page(&db, Destination::Ingest, &shop, 0, 10).await.expect("read");
                assert_eq!(persons(&seen), [2]);
                late.commit().await.expect("committed");
                assert!(claim.done(&db, &[seen[0].id], 200).await.expect("deleted"));
            } else {
                tell(&db, &shop, &[event(2), event(1)]).await;
                let seen = page(&db, Destination::Ingest, &shop, 0, 1).await.expect("read");
                assert!(claim.done(&db, &[seen[0].id], 200).await.expect("deleted"));
            }
            let left = page(&db, Destination::Ingest, &shop, 0, 10).await.expect("read");
            assert_eq!(persons(&left), [1]);
            // Numbers are not used again, so a second deletion by number takes nothing else away.
            assert!(claim.done(&db, &[left[0].id], 200).await.expect("deleted"));
            tell(&db, &shop, &[event(3)]).await;
            assert!(claim.done(&db, &[left[0].id], 200).await.expect("nothing to delete"));
            assert_eq!(persons(&page(&db, Destination::Ingest, &shop, 0, 10).await.expect("read")), [3]);
        }
    }

    #[tokio::test]
    async fn what_a_process_claimed_and_did_not_finish_is_told_by_the_next() {
        for place in stores() {
            let db = place.open(NAMESPACE, MIGRATIONS).await.expect("opens");
            let shop = tenant("shop");
            tell(&db, &shop, &[event(1), event(2)]).await;
            let by = |owner: &'static str| Claim { destination: Destination::Ingest, tenant: &shop, owner };
            assert!(by("one").take(&db, 0, 100).await.expect("claimed"));
            let seen = page(&db, Destination::Ingest, &shop, 0, 10).await.expect("read");
            // With SQLite another process means that the first is gone; elsewhere the claim lasts.
            let at_once = by("two").take(&db, 99, 199).await.expect("asked");
            assert_eq!(at_once, db.kind() == DbKind::Sqlite);
            assert!(by("two").take(&db, 100, 200).await.expect("claimed"));
            assert_eq!(page(&db, Destination::Ingest, &shop, 0, 10).await.expect("read"), seen, "told again");
            // The first comes back: it sees that it is not its turn any more.
            assert!(!by("one").done(&db, &[seen[0].id], 300).await.expect("deleted"));
            assert!(by("two").done(&db, &[seen[0].id, seen[1].id], 300).await.expect("deleted"));
            by("one").release(&db).await.expect("none of its own");
            if db.kind() == DbKind::Postgres {
                assert!(!by("one").take(&db, 299, 400).await.expect("asked"));
            }
            by("two").release(&db).await.expect("released");
            assert!(by("one").take(&db, 201, 400).await.expect("claimed"));
            // Another destination of the same tenant is another claim.
            assert!(Claim { destination: Destination::Audience, ..by("two") }.take(&db, 201, 400).await.expect("claimed"));
        }
    }
}
