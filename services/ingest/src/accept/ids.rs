//! Message ids for events that come without one: UUID version 7, so that they sort by time of receipt.

use uuid::{Builder, Uuid};

/// Gives out ids for the events of one call. Random bits are drawn once per call; each id adds one to them, since drawing
/// per event costs a system call each.
pub(crate) struct MessageIds {
    millis: u64,
    next: Option<u64>,
}

impl MessageIds {
    pub(crate) fn new(received_at_us: i64) -> Self {
        Self { millis: u64::try_from(received_at_us / 1_000).unwrap_or(0), next: None }
    }

    pub(crate) fn next(&mut self) -> String {
        let random = self.next.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().1.rotate_left(7));
        self.next = Some(random.wrapping_add(1));
        let mut bytes = [0u8; 10];
        // Two of the ten bytes' bits go to version and variant: spread the number over the eight that are whole.
        bytes[1] = (random >> 56) as u8;
        bytes[3..10].copy_from_slice(&random.to_be_bytes()[1..]);
        bytes[2] = (random >> 50) as u8 & 0x3f;
        Builder::from_unix_timestamp_millis(self.millis, &bytes).into_uuid().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_version_7_and_differ_within_and_between_calls() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10 {
            let mut ids = MessageIds::new(1_790_000_000_000_000);
            for _ in 0..1_000 {
                let id = ids.next();
                assert_eq!(id.parse::<Uuid>().map(|uuid| uuid.get_version_num()), Ok(7));
                assert!(seen.insert(id));
            }
        }
    }
}
