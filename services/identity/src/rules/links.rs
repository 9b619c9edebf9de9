//! How identifiers come to name persons: attached, moved, detached, and persons merged. Each is noted in the link log.

use segue_proto::identity::v1::LinkKind;

use super::Turn;
use crate::effects::LinkRecord;
use crate::identifier::{Id, Kind};
use crate::merge;
use crate::registry::{Link, RegistryError};

impl Turn<'_> {
    /// Step 2 for one identifier.
    pub(super) fn link(&mut self, person: u32, id: &Id, login: bool, logout: bool, first: bool) -> Result<(), RegistryError> {
        let owner = self.registry.owner(id.key)?;
        if owner == person {
            return Ok(());
        }
        let of_device = id.kind.is_of_device();
        let state = self.registry.person(person)?;
        let (full, anonymous) = (state.count(&id.kind) >= self.rules.limits.of(&id.kind), state.is_anonymous());
        if owner == 0 {
            if logout && of_device && !anonymous {
                return Ok(()); // it would be detached again at once
            }
            if full {
                return self.note(LinkKind::Limit, person, 0, id, "the person has as many of this kind as allowed");
            }
            let reason = match (first, login && id.kind == Kind::UserId) {
                (true, _) => "new person",
                (false, true) => "first login",
                (false, false) => "seen together",
            };
            return self.attach(person, id, reason);
        }
        let from = self.registry.person(owner)?.clone();
        if from.is_anonymous() {
            if merge::fits(&from, self.registry.person(person)?, &self.rules.limits) {
                let reason = if login { "login of an anonymous person" } else { "anonymous person seen together" };
                return self.merge(person, owner, Some(id), reason);
            }
            return self.note(LinkKind::Limit, person, owner, id, "merging would give the person more of a kind than allowed");
        }
        if !(login && of_device && !logout) {
            return self.note(LinkKind::Conflict, person, owner, id, "the identifier belongs to another person with a user id");
        }
        self.take_from(person, owner, id, full)
    }

    /// Somebody logs in on a device that was another user's.
    fn take_from(&mut self, person: u32, owner: u32, id: &Id, full: bool) -> Result<(), RegistryError> {
        let link = *self.registry.link(id.key)?;
        self.registry.person(owner)?.remove(&id.kind);
        if full {
            // It cannot be this person's, but what happens on it is not the other's any more either.
            self.set_link(id, Link { person: 0, ..link })?;
            self.record(LinkKind::Detached, owner, person, Some(id), "login of another user, who has as many of this kind as allowed");
            return self.note(LinkKind::Limit, person, 0, id, "the person has as many of this kind as allowed");
        }
        self.registry.person(person)?.add(&id.kind, 1);
        self.set_link(id, Link { person, linked_at_us: self.time_us, ..link })?;
        self.record(LinkKind::Moved, person, owner, Some(id), "login of another user on the device");
        Ok(())
    }

    /// Step 3.
    pub(super) fn log_out(&mut self, person: u32, ids: &[&Id]) -> Result<(), RegistryError> {
        for id in ids.iter().filter(|id| id.kind.is_of_device()) {
            if self.registry.owner(id.key)? == person {
                self.detach(person, id, "logout")?;
            }
        }
        Ok(())
    }

    pub(super) fn attach(&mut self, person: u32, id: &Id, reason: &str) -> Result<(), RegistryError> {
        let link = *self.registry.link(id.key)?;
        self.registry.person(person)?.add(&id.kind, 1);
        self.set_link(id, Link { person, linked_at_us: self.time_us, ..link })?;
        self.record(LinkKind::Attached, person, 0, Some(id), reason);
        Ok(())
    }

    pub(super) fn merge(&mut self, into: u32, from: u32, id: Option<&Id>, reason: &str) -> Result<(), RegistryError> {
        let absorbed = self.registry.redirect(from, into)?;
        let survivor = self.registry.person(into)?;
        merge::absorb(survivor, absorbed);
        self.effects.persons.insert(into, (survivor.first_seen_us, survivor.last_seen_us));
        self.effects.merges.push((from, into));
        self.registry.counters.merged += 1;
        self.record(LinkKind::Merged, into, from, id, reason);
        Ok(())
    }

    /// Records a conflict or limit, unless it was the last one recorded of this identifier.
    pub(super) fn note(&mut self, kind: LinkKind, person: u32, other: u32, id: &Id, reason: &str) -> Result<(), RegistryError> {
        let link = *self.registry.link(id.key)?;
        if link.noted == person {
            return Ok(());
        }
        self.set_link(id, Link { noted: person, ..link })?;
        self.record(kind, person, other, Some(id), reason);
        Ok(())
    }

    pub(super) fn set_link(&mut self, id: &Id, link: Link) -> Result<(), RegistryError> {
        *self.registry.link(id.key)? = link;
        self.effects.set_identifier(id, link);
        Ok(())
    }

    fn record(&mut self, kind: LinkKind, person: u32, other_person: u32, id: Option<&Id>, reason: &str) {
        self.registry.counters.links += 1;
        self.effects.links.push(LinkRecord {
            sequence: self.registry.counters.links,
            kind,
            person,
            other_person,
            identifier_kind: id.map_or_else(String::new, |id| id.kind.name().to_owned()),
            identifier_value: id.map_or_else(String::new, |id| id.value.clone()),
            time_us: self.time_us,
            reason: reason.to_owned(),
        });
    }

    /// Takes an identifier away from whom it names, if it names anybody.
    pub(super) fn unlink(&mut self, id: &Id, reason: &str) -> Result<(), RegistryError> {
        let owner = self.registry.owner(id.key)?;
        if owner == 0 {
            return Ok(());
        }
        self.detach(owner, id, reason)
    }

    fn detach(&mut self, person: u32, id: &Id, reason: &str) -> Result<(), RegistryError> {
        let link = *self.registry.link(id.key)?;
        self.registry.person(person)?.remove(&id.kind);
        self.set_link(id, Link { person: 0, ..link })?;
        self.record(LinkKind::Detached, person, 0, Some(id), reason);
        Ok(())
    }
}
