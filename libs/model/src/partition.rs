//! Which partition of the log something goes to. The function must never change: logs outlive versions.

use xxhash_rust::xxh3::Xxh3;

/// Partition of an accepted event: by tenant and strongest identifier, so that one identifier's events keep their order.
pub fn of_identifier(tenant: &str, kind: &str, value: &str, partitions: u16) -> u16 {
    let mut hasher = Xxh3::new();
    for part in [tenant, kind, value] {
        hasher.update(part.as_bytes());
        hasher.update(&[0xff]); // never part of UTF-8, so parts cannot run together
    }
    (hasher.digest() % u64::from(partitions.max(1))) as u16
}

/// Partition of a resolved event: by tenant and person number.
pub fn of_person(tenant: &str, person: u32, partitions: u16) -> u16 {
    let mut hasher = Xxh3::new();
    hasher.update(tenant.as_bytes());
    hasher.update(&[0xff]);
    hasher.update(&person.to_le_bytes());
    (hasher.digest() % u64::from(partitions.max(1))) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_stay_where_they_are_across_versions() {
        assert_eq!(of_identifier("shop", "user_id", "u1", 8), of_identifier("shop", "user_id", "u1", 8));
        let spread: std::collections::HashSet<u16> = (0..200).map(|n| of_person("shop", n, 8)).collect();
        assert_eq!(spread.len(), 8);
    }
}
