//! Reading for people: persons with all that belongs to them, the link log, counts. Each call reads one state of the
//! database.

use std::collections::{BTreeMap, BTreeSet};

use segue_model::TenantId;
use segue_proto::events::v1::Identifier;
use segue_proto::identity::v1::{GetIdentityStatusResponse, LinkKind, LinkRecord, LinkedIdentifier, Person, Trait};
use segue_store::{Db, Tx, on_db, on_tx};

use super::{accounts, consents, counter, json, number, select, timestamp, trait_value};
use crate::consent::{Consent, Topic, topic};
use crate::error::IdentityError;
use crate::person_id;
use crate::registry::TraitValue;

// SQLite has no statistics here, and would walk the primary key of a whole tenant where an index is named.
const FIND_SALT: &str = "SELECT salt FROM tenants WHERE tenant = $1";
const FIND_ROOT_BY_NUMBER: &str = "SELECT root FROM persons WHERE tenant = $1 AND number = $2";
const FIND_ROOT_BY_IDENTIFIER: &str = "SELECT p.root FROM identifiers i JOIN persons p ON p.tenant = i.tenant AND p.number = i.person
    WHERE i.tenant = $1 AND i.kind = $2 AND i.value = $3";
const LIST_ROOTS: &str = "SELECT number FROM persons WHERE tenant = $1 AND number > $2 AND root = number ORDER BY number LIMIT $3";

const LIST_MEMBERS_SQLITE: &str = "SELECT p.root, p.number, p.first_seen_us, p.last_seen_us
    FROM json_each($2) k CROSS JOIN persons p WHERE p.tenant = $1 AND p.number = k.value
    UNION
    SELECT p.root, p.number, p.first_seen_us, p.last_seen_us FROM json_each($2) k
    CROSS JOIN persons p INDEXED BY persons_merged WHERE p.tenant = $1 AND p.root = k.value AND p.root <> p.number
    ORDER BY 1, 2";
const LIST_MEMBERS_POSTGRES: &str = "SELECT p.root, p.number, p.first_seen_us, p.last_seen_us
    FROM json_array_elements_text($2::json) k(value) JOIN persons p ON p.tenant = $1 AND p.number = k.value::bigint
    UNION
    SELECT p.root, p.number, p.first_seen_us, p.last_seen_us FROM json_array_elements_text($2::json) k(value)
    JOIN persons p ON p.tenant = $1 AND p.root = k.value::bigint AND p.root <> p.number
    ORDER BY 1, 2";

const LIST_IDENTIFIERS_SQLITE: &str = "SELECT i.person, i.kind, i.value, i.linked_at_us
    FROM json_each($2) k CROSS JOIN identifiers i INDEXED BY identifiers_of_person
    WHERE i.tenant = $1 AND i.person = k.value AND i.person <> 0
    ORDER BY i.linked_at_us, i.kind, i.value";
const LIST_IDENTIFIERS_POSTGRES: &str = "SELECT i.person, i.kind, i.value, i.linked_at_us
    FROM json_array_elements_text($2::json) k(value)
    JOIN identifiers i ON i.tenant = $1 AND i.person = k.value::bigint AND i.person <> 0
    ORDER BY i.linked_at_us, i.kind, i.value";

const LIST_TRAITS_SQLITE: &str = "SELECT t.person, t.name, t.value, t.time_us, t.ordinal
    FROM json_each($2) k CROSS JOIN traits t WHERE t.tenant = $1 AND t.person = k.value";
const LIST_TRAITS_POSTGRES: &str = "SELECT t.person, t.name, t.value, t.time_us, t.ordinal
    FROM json_array_elements_text($2::json) k(value) JOIN traits t ON t.tenant = $1 AND t.person = k.value::bigint";

const LIST_LINKS: &str = "SELECT sequence, kind, person, other_person, identifier_kind, identifier_value, time_us, reason
    FROM link_log WHERE tenant = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";
const LIST_LINKS_OF_SQLITE: &str = "SELECT sequence, kind, person, other_person, identifier_kind, identifier_value, time_us, reason
    FROM link_log INDEXED BY link_log_of_person WHERE tenant = $1 AND sequence > $2 AND person IN (SELECT value FROM json_each($4))
    UNION
    SELECT sequence, kind, person, other_person, identifier_kind, identifier_value, time_us, reason
    FROM link_log INDEXED BY link_log_of_other WHERE tenant = $1 AND sequence > $2 AND other_person <> 0 AND other_person IN (SELECT value FROM json_each($4))
    ORDER BY 1 LIMIT $3";
const LIST_LINKS_OF_POSTGRES: &str = "SELECT sequence, kind, person, other_person, identifier_kind, identifier_value, time_us, reason
    FROM link_log WHERE tenant = $1 AND sequence > $2
        AND person = ANY (SELECT value::bigint FROM json_array_elements_text($4::json) k(value))
    UNION
    SELECT sequence, kind, person, other_person, identifier_kind, identifier_value, time_us, reason
    FROM link_log WHERE tenant = $1 AND sequence > $2 AND other_person <> 0
        AND other_person = ANY (SELECT value::bigint FROM json_array_elements_text($4::json) k(value))
    ORDER BY 1 LIMIT $3";

const FIND_COUNTS: &str = "SELECT persons, devices, merged FROM tenants WHERE tenant = $1";

/// The person with this number, or the one that it was merged into.
pub(crate) async fn find_by_number(db: &Db, tenant: &TenantId, person: u32) -> Result<Option<Person>, IdentityError> {
    let mut tx = db.read().await?;
    let root: Option<i64> = on_tx!(tx, conn => sqlx::query_scalar(FIND_ROOT_BY_NUMBER)
        .bind(tenant.as_str()).bind(i64::from(person)).fetch_optional(conn).await)?;
    find_root(&mut tx, tenant, root).await
}

/// The tenant's salt, if it has any persons.
async fn salt(tx: &mut Tx, tenant: &TenantId) -> Result<Option<Vec<u8>>, IdentityError> {
    Ok(on_tx!(tx, conn => sqlx::query_scalar(FIND_SALT).bind(tenant.as_str()).fetch_optional(conn).await)?)
}

/// The number that each text is the stable id of; whether it was given out is for the caller to know.
pub(super) async fn numbers_of_ids(tx: &mut Tx, tenant: &TenantId, ids: &[&str]) -> Result<Vec<Option<u32>>, IdentityError> {
    let salt = if ids.is_empty() { None } else { salt(tx, tenant).await? };
    let number = |id: &&str| person_id::number(salt.as_ref()?, &uuid::Uuid::try_parse(id).ok()?);
    Ok(ids.iter().map(number).collect())
}

/// The person whose stable id this is, or the one that it was merged into.
pub(crate) async fn find_by_id(db: &Db, tenant: &TenantId, id: &str) -> Result<Option<Person>, IdentityError> {
    let number = numbers_of_ids(&mut db.read().await?, tenant, &[id]).await?.pop().flatten();
    match number {
        Some(number) => find_by_number(db, tenant, number).await,
        None => Ok(None),
    }
}

/// The person whom an identifier names.
pub(crate) async fn find_by_identifier(db: &Db, tenant: &TenantId, kind: &str, value: &str) -> Result<Option<Person>, IdentityError> {
    let mut tx = db.read().await?;
    let root: Option<i64> = on_tx!(tx, conn => sqlx::query_scalar(FIND_ROOT_BY_IDENTIFIER)
        .bind(tenant.as_str()).bind(kind).bind(value).fetch_optional(conn).await)?;
    find_root(&mut tx, tenant, root).await
}

async fn find_root(tx: &mut Tx, tenant: &TenantId, root: Option<i64>) -> Result<Option<Person>, IdentityError> {
    match root {
        Some(root) => Ok(load(tx, tenant, &[number(root)?]).await?.pop()),
        None => Ok(None),
    }
}

/// The persons that these numbers are part of, by ascending number of the survivor, and each number that was given out with its survivor.
pub(crate) async fn find_by_numbers(
    db: &Db,
    tenant: &TenantId,
    numbers: &[u32],
) -> Result<(Vec<Person>, BTreeMap<u32, u32>), IdentityError> {
    let mut tx = db.read().await?;
    let root_of = select::roots(&mut tx, tenant, numbers).await?;
    let roots: BTreeSet<u32> = root_of.values().copied().collect();
    let persons = load(&mut tx, tenant, &roots.into_iter().collect::<Vec<_>>()).await?;
    Ok((persons, root_of))
}

/// Persons with a number above `after`, ascending, merged ones left out.
pub(crate) async fn list_persons(db: &Db, tenant: &TenantId, after: u32, rows_max: i64) -> Result<Vec<Person>, IdentityError> {
    let mut tx = db.read().await?;
    let roots: Vec<i64> = on_tx!(tx, conn => sqlx::query_scalar(LIST_ROOTS)
        .bind(tenant.as_str()).bind(i64::from(after)).bind(rows_max).fetch_all(conn).await)?;
    let roots = roots.into_iter().map(number).collect::<Result<Vec<u32>, _>>()?;
    load(&mut tx, tenant, &roots).await
}

/// Persons with all that belongs to them, by ascending number.
async fn load(tx: &mut Tx, tenant: &TenantId, roots: &[u32]) -> Result<Vec<Person>, IdentityError> {
    let (Some(salt), false) = (salt(tx, tenant).await?, roots.is_empty()) else { return Ok(Vec::new()) };
    let sql = tx.sql(LIST_MEMBERS_SQLITE, LIST_MEMBERS_POSTGRES);
    let list = json(roots)?;
    let members: Vec<(i64, i64, i64, i64)> =
        on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(&list).fetch_all(conn).await)?;

    let mut persons: BTreeMap<u32, Person> = BTreeMap::new();
    let mut root_of: BTreeMap<u32, u32> = BTreeMap::new();
    for (root, member, first_seen_us, last_seen_us) in members {
        let (root, member) = (number(root)?, number(member)?);
        root_of.insert(member, root);
        let person =
            persons.entry(root).or_insert_with(|| Person { number: root, id: person_id::of(&salt, root).to_string(), ..Person::default() });
        if root == member {
            person.first_seen_at = Some(timestamp(first_seen_us));
            person.last_seen_at = Some(timestamp(last_seen_us));
        } else {
            person.merged_numbers.push(member);
        }
    }
    let list = json(&root_of.keys().collect::<Vec<_>>())?;
    add_identifiers(tx, tenant, &list, &root_of, &mut persons).await?;
    add_traits(tx, tenant, &list, &root_of, &mut persons).await?;
    add_consents(tx, tenant, &list, &root_of, &mut persons).await?;
    for (member, account) in accounts::of_members(tx, tenant, &list).await? {
        let person = person_of(member, &root_of, &mut persons)?;
        // Several members of one person may belong to the account: the last time that one was seen gives the place.
        if !person.account_ids.contains(&account) {
            person.account_ids.push(account);
        }
    }
    Ok(persons.into_values().collect())
}

fn person_of<'a>(
    member: i64,
    root_of: &BTreeMap<u32, u32>,
    persons: &'a mut BTreeMap<u32, Person>,
) -> Result<&'a mut Person, IdentityError> {
    let root = root_of.get(&number(member)?).copied().unwrap_or_default();
    persons.get_mut(&root).ok_or(IdentityError::Corrupt { what: "member of a person" })
}

async fn add_identifiers(
    tx: &mut Tx,
    tenant: &TenantId,
    members: &str,
    root_of: &BTreeMap<u32, u32>,
    persons: &mut BTreeMap<u32, Person>,
) -> Result<(), IdentityError> {
    let sql = tx.sql(LIST_IDENTIFIERS_SQLITE, LIST_IDENTIFIERS_POSTGRES);
    let rows: Vec<(i64, String, String, i64)> =
        on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(members).fetch_all(conn).await)?;
    for (member, kind, value, linked_at_us) in rows {
        let linked = LinkedIdentifier { identifier: Some(Identifier { kind, value }), linked_at: Some(timestamp(linked_at_us)) };
        person_of(member, root_of, persons)?.identifiers.push(linked);
    }
    Ok(())
}

async fn add_traits(
    tx: &mut Tx,
    tenant: &TenantId,
    members: &str,
    root_of: &BTreeMap<u32, u32>,
    persons: &mut BTreeMap<u32, Person>,
) -> Result<(), IdentityError> {
    let sql = tx.sql(LIST_TRAITS_SQLITE, LIST_TRAITS_POSTGRES);
    let rows: Vec<(i64, String, Vec<u8>, i64, i64)> =
        on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(members).fetch_all(conn).await)?;
    // Several members of one person may carry the trait: the later value is the person's.
    let mut winners: BTreeMap<(u32, String), TraitValue> = BTreeMap::new();
    for (member, name, value, time_us, ordinal) in rows {
        let root = root_of.get(&number(member)?).copied().unwrap_or_default();
        let candidate = TraitValue { value: trait_value(&value)?, time_us, ordinal: counter(ordinal)? };
        let key = (root, name);
        if winners.get(&key).is_none_or(|known| candidate.wins_over(known)) {
            winners.insert(key, candidate);
        }
    }
    for ((root, name), winner) in winners {
        let set = Trait { name, value: Some(winner.value), set_at: Some(timestamp(winner.time_us)) };
        person_of(i64::from(root), root_of, persons)?.traits.push(set);
    }
    Ok(())
}

async fn add_consents(
    tx: &mut Tx,
    tenant: &TenantId,
    members: &str,
    root_of: &BTreeMap<u32, u32>,
    persons: &mut BTreeMap<u32, Person>,
) -> Result<(), IdentityError> {
    // Something may have been said of several members of one person: one of it holds.
    let mut winners: BTreeMap<Topic, Consent> = BTreeMap::new();
    for (member, consent) in consents::of_members(tx, tenant, members).await? {
        let topic = topic(root_of.get(&member).copied().unwrap_or_default(), &consent);
        if winners.get(&topic).is_none_or(|known| consent.wins_over(known)) {
            winners.insert(topic, consent);
        }
    }
    for ((root, ..), consent) in winners {
        person_of(i64::from(root), root_of, persons)?.consents.push(consent.into_proto());
    }
    Ok(())
}

/// Records of the link log after `after`, oldest first: all, or those that name a person or what was merged into it.
pub(crate) async fn list_links(
    db: &Db,
    tenant: &TenantId,
    person: Option<u32>,
    after: u64,
    rows_max: i64,
) -> Result<Vec<LinkRecord>, IdentityError> {
    type Row = (i64, i64, i64, i64, String, String, i64, String);
    let mut tx = db.read().await?;
    let rows: Vec<Row> = match person {
        None => on_tx!(tx, conn => sqlx::query_as(LIST_LINKS)
            .bind(tenant.as_str()).bind(after as i64).bind(rows_max).fetch_all(conn).await)?,
        Some(person) => {
            let members = members_of(&mut tx, tenant, person).await?.unwrap_or_else(|| vec![i64::from(person)]);
            let members = json(&members)?;
            let sql = tx.sql(LIST_LINKS_OF_SQLITE, LIST_LINKS_OF_POSTGRES);
            on_tx!(tx, conn => sqlx::query_as(sql)
                .bind(tenant.as_str()).bind(after as i64).bind(rows_max).bind(&members).fetch_all(conn).await)?
        }
    };
    rows.into_iter()
        .map(|(sequence, kind, person, other, identifier_kind, identifier_value, time_us, reason)| {
            let kind = i32::try_from(kind).ok().and_then(|kind| LinkKind::try_from(kind).ok());
            let identifier = Identifier { kind: identifier_kind, value: identifier_value };
            Ok(LinkRecord {
                sequence: counter(sequence)?,
                kind: kind.ok_or(IdentityError::Corrupt { what: "kind of a link record" })? as i32,
                person: number(person)?,
                other_person: number(other)?,
                identifier: if identifier.kind.is_empty() { None } else { Some(identifier) },
                time: Some(timestamp(time_us)),
                reason,
            })
        })
        .collect()
}

/// The numbers that are one person with `person`; `None` if it was never given out.
pub(super) async fn members_of(tx: &mut Tx, tenant: &TenantId, person: u32) -> Result<Option<Vec<i64>>, IdentityError> {
    let root: Option<i64> = on_tx!(tx, conn => sqlx::query_scalar(FIND_ROOT_BY_NUMBER)
        .bind(tenant.as_str()).bind(i64::from(person)).fetch_optional(conn).await)?;
    let Some(root) = root else { return Ok(None) };
    let sql = tx.sql(LIST_MEMBERS_SQLITE, LIST_MEMBERS_POSTGRES);
    let members: Vec<(i64, i64, i64, i64)> =
        on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(json(&[root])?).fetch_all(conn).await)?;
    Ok(Some(members.into_iter().map(|(_, member, _, _)| member).collect()))
}

/// How many persons and devices there are.
pub(crate) async fn status(db: &Db, tenant: &TenantId) -> Result<GetIdentityStatusResponse, IdentityError> {
    let row: Option<(i64, i64, i64)> = on_db!(db, pool => sqlx::query_as(FIND_COUNTS).bind(tenant.as_str()).fetch_optional(pool).await)?;
    let (persons, devices, merged) = row.unwrap_or_default();
    let (persons, devices, merged) = (counter(persons)?, counter(devices)?, counter(merged)?);
    Ok(GetIdentityStatusResponse { persons: persons.saturating_sub(merged), devices, merged })
}
