//! Who an event's person is, and what becomes linked by it. Pure: it reads and changes the registry, and notes the changes.
//!
//! In the order of the events, for each:
//!
//! 1. The person is the one that the user id names. A user id that is new goes to the anonymous person (one without a user id)
//!    that the strongest other identifier names (first login); if there is none, a new person begins. Without a user id the
//!    person is that of the strongest identifier that is linked.
//! 2. Every other identifier, the stronger first:
//!    - linked to nobody: attached to the person, or recorded as over the limit;
//!    - linked to an anonymous person: that person becomes part of this one, unless a limit forbids;
//!    - linked to another person with a user id: an identifier of the device moves here if the event carries a user id (a
//!      login), since it is this user's from now on. Anything else stays where it is, and the conflict is recorded.
//! 3. A logout detaches the event's device identifiers from the person, if it has a user id.
//!
//! The traits of an event are the person's; those of a GROUP event are the account's, of which the person becomes a member. Boolean traits
//! of a person may be statements about messages: see [`crate::consent`].
//!
//! An event that names a person by its stable id is that person's, and links nothing.
//!
//! So persons that both have a user id never become one here. A conflict or limit is recorded once per identifier and
//! person, not with every event.

mod links;

use std::collections::BTreeMap;

use segue_proto::events::v1::value::Kind as ValueKind;
use segue_proto::events::v1::{EventKind, Value};
use segue_proto::identity::v1::LinkKind;
use uuid::Uuid;

use crate::consent::Consent;
use crate::effects::Effects;
use crate::identifier::{Id, Kind};
use crate::registry::{Link, Person, PersonState, Registry, RegistryError, TraitValue, profile_index};

/// How many identifiers of each kind a person may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    others: u32,
    of: BTreeMap<Kind, u32>,
}

impl Limits {
    /// Limits by name of the kind, and for all others.
    pub fn new(others: u32, of: &BTreeMap<String, u32>) -> Self {
        Self { others, of: of.iter().map(|(kind, limit)| (Kind::of(kind), *limit)).collect() }
    }

    /// The limit of `kind`.
    pub fn of(&self, kind: &Kind) -> u32 {
        self.of.get(kind).copied().unwrap_or(self.others)
    }
}

impl Default for Limits {
    /// User id 1, others 5.
    fn default() -> Self {
        Self { others: 5, of: BTreeMap::from([(Kind::UserId, 1)]) }
    }
}

/// What the rules need of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Identifiers per person.
    pub limits: Limits,
    /// By how much a person's last event must move on before it is written again.
    pub last_seen_precision_us: i64,
}

/// One event, as far as identity cares.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// Stable ids of persons. The first that is known says whose the event is.
    pub named: Vec<Uuid>,
    /// Identifiers that name somebody, the strongest first, each once.
    pub ids: Vec<Id>,
    /// Corrected event time.
    pub time_us: i64,
    /// What kind of call.
    pub kind: EventKind,
    /// Traits of the person; of the account for GROUP.
    pub traits: Vec<(String, Value)>,
    /// The account that a GROUP event is about; without one it only links identifiers.
    pub account: Option<String>,
    /// For ALIAS.
    pub previous: Option<Previous>,
    /// A logout.
    pub logout: bool,
}

/// The identifier that an alias names, both ways in which it can be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    /// As a user id.
    pub user: Id,
    /// As an anonymous id.
    pub anonymous: Id,
}

/// The answer for one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resolution {
    /// 0 when no identifier names anybody.
    pub person: u32,
    /// 0 when there is no device.
    pub device: u32,
    /// The person began with this event.
    pub first: bool,
}

impl Rules {
    /// Resolves one event. Everything that it names must be loaded.
    pub fn resolve(&self, registry: &mut Registry, effects: &mut Effects, subject: &Subject) -> Result<Resolution, RegistryError> {
        let mut turn = Turn { rules: self, registry, effects, time_us: subject.time_us };
        if let Some(person) = turn.named(subject)? {
            return turn.resolve_named(person, subject);
        }
        let ids = turn.identifiers(subject)?;
        let device = turn.device(&ids)?;
        if ids.is_empty() {
            turn.set_account(0, subject);
            return Ok(Resolution { person: 0, device, first: false });
        }
        let login = ids[0].kind == Kind::UserId;
        let known = if login { turn.person_of_user(&ids, subject)? } else { turn.person_of_strongest(&ids)? };
        let (person, first) = match known {
            Some(person) => (person, false),
            None => (turn.begin_person(), true),
        };
        for id in &ids {
            turn.link(person, id, login, subject.logout, first)?;
        }
        if subject.logout && !turn.registry.person(person)?.is_anonymous() {
            turn.log_out(person, &ids)?;
        }
        turn.take_in(person, subject)?;
        Ok(Resolution { person, device, first })
    }

    /// Merges on request, whatever limits say: `from` becomes part of `into`; both must be survivors, and differ.
    pub fn merge(
        &self,
        registry: &mut Registry,
        effects: &mut Effects,
        from: u32,
        into: u32,
        time_us: i64,
        reason: &str,
    ) -> Result<(), RegistryError> {
        Turn { rules: self, registry, effects, time_us }.merge(into, from, None, reason)
    }

    /// Takes an identifier away from whom it names, if it names anybody.
    pub fn unlink(&self, registry: &mut Registry, effects: &mut Effects, id: &Id, time_us: i64, reason: &str) -> Result<(), RegistryError> {
        Turn { rules: self, registry, effects, time_us }.unlink(id, reason)
    }
}

/// One event being resolved, or a change on request.
struct Turn<'a> {
    rules: &'a Rules,
    registry: &'a mut Registry,
    effects: &'a mut Effects,
    time_us: i64,
}

impl Turn<'_> {
    /// The person whom the event names by its stable id.
    fn named(&mut self, subject: &Subject) -> Result<Option<u32>, RegistryError> {
        let number = subject.named.iter().find_map(|id| self.registry.number_of(id));
        number.map(|number| self.registry.root(number)).transpose()
    }

    /// The event is this person's; its identifiers tell the device, and nothing else.
    fn resolve_named(&mut self, person: u32, subject: &Subject) -> Result<Resolution, RegistryError> {
        let device = self.device(&subject.ids.iter().collect::<Vec<_>>())?;
        self.take_in(person, subject)?;
        Ok(Resolution { person, device, first: false })
    }

    /// What the event says of its person, besides who that is.
    fn take_in(&mut self, person: u32, subject: &Subject) -> Result<(), RegistryError> {
        self.see(person)?;
        if subject.kind == EventKind::Group {
            self.set_account(person, subject);
            return Ok(());
        }
        self.set_traits(person, &subject.traits)
    }

    /// The event's identifiers, with what an alias adds: an unknown or anonymous previous id is one more anonymous id.
    fn identifiers<'s>(&mut self, subject: &'s Subject) -> Result<Vec<&'s Id>, RegistryError> {
        let mut ids: Vec<&Id> = subject.ids.iter().collect();
        let Some(previous) = &subject.previous else { return Ok(ids) };
        let has_user = ids.first().is_some_and(|id| id.kind == Kind::UserId);
        if self.registry.owner(previous.user.key)? != 0 {
            // With a user id this is a statement about two of them: see `person_of_user`.
            if !has_user {
                ids.insert(0, &previous.user);
            }
        } else if !ids.iter().any(|id| id.key == previous.anonymous.key) {
            let place = ids.iter().position(|id| id.kind > Kind::AnonymousId).unwrap_or(ids.len());
            ids.insert(place, &previous.anonymous);
        }
        Ok(ids)
    }

    /// Number of the device id, or without one of the anonymous id; a new one if it has none yet.
    fn device(&mut self, ids: &[&Id]) -> Result<u32, RegistryError> {
        let of_kind = |kind: Kind| ids.iter().copied().find(|id| id.kind == kind);
        let Some(id) = of_kind(Kind::DeviceId).or_else(|| of_kind(Kind::AnonymousId)) else { return Ok(0) };
        let link = self.registry.link(id.key)?;
        if link.device != 0 {
            return Ok(link.device);
        }
        let link = *link;
        self.registry.counters.devices += 1;
        let device = self.registry.counters.devices;
        self.set_link(id, Link { device, ..link })?;
        Ok(device)
    }

    fn person_of_user(&mut self, ids: &[&Id], subject: &Subject) -> Result<Option<u32>, RegistryError> {
        let user = ids[0];
        let owner = self.registry.owner(user.key)?;
        let previous = match &subject.previous {
            Some(previous) if previous.user.key != user.key => Some((&previous.user, self.registry.owner(previous.user.key)?)),
            Some(_) | None => None,
        };
        if let Some((previous, other)) = previous.filter(|(_, other)| *other != 0) {
            if owner == 0 {
                // A new name for a known user. Said outright, so the limit of one user id does not stand against it.
                self.attach(other, user, "alias of a known user id")?;
                return Ok(Some(other));
            }
            if owner != other {
                self.note(LinkKind::Conflict, owner, other, previous, "alias of two known user ids; merge the persons if they are one")?;
            }
        }
        if owner != 0 {
            return Ok(Some(owner));
        }
        for id in &ids[1..] {
            let candidate = self.registry.owner(id.key)?;
            if candidate != 0 && self.registry.person(candidate)?.is_anonymous() {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    fn person_of_strongest(&mut self, ids: &[&Id]) -> Result<Option<u32>, RegistryError> {
        for id in ids {
            let owner = self.registry.owner(id.key)?;
            if owner != 0 {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    fn begin_person(&mut self) -> u32 {
        self.registry.counters.persons += 1;
        let number = self.registry.counters.persons;
        let state = PersonState { first_seen_us: self.time_us, last_seen_us: self.time_us, ..PersonState::default() };
        self.effects.persons.insert(number, (state.first_seen_us, state.last_seen_us));
        self.registry.insert_person(number, Person::Survivor(state));
        number
    }

    fn see(&mut self, person: u32) -> Result<(), RegistryError> {
        let state = self.registry.person(person)?;
        let earlier = self.time_us < state.first_seen_us;
        let later = self.time_us > state.last_seen_us.saturating_add(self.rules.last_seen_precision_us);
        if earlier || later {
            state.first_seen_us = state.first_seen_us.min(self.time_us);
            state.last_seen_us = state.last_seen_us.max(self.time_us);
            self.effects.persons.insert(person, (state.first_seen_us, state.last_seen_us));
        }
        Ok(())
    }

    fn set_traits(&mut self, person: u32, traits: &[(String, Value)]) -> Result<(), RegistryError> {
        for (name, value) in traits {
            if let Some(ValueKind::BoolValue(granted)) = value.kind
                && let Some(consent) = Consent::of_trait(name, granted, self.time_us)
            {
                self.effects.consents.push((person, consent));
            }
            let value = self.trait_value(value);
            if let Some(index) = profile_index(name) {
                self.registry.person(person)?.set_profile(index, value.clone());
            }
            self.effects.set_trait(person, name, value);
        }
        Ok(())
    }

    /// What a GROUP event says of its account, and of the person (0: nobody) as its member.
    fn set_account(&mut self, person: u32, subject: &Subject) {
        let Some(account) = &subject.account else { return };
        self.effects.see_account(account, self.time_us);
        if person != 0 {
            self.effects.join_account(person, account, self.time_us);
        }
        for (name, value) in &subject.traits {
            let value = self.trait_value(value);
            self.effects.set_account_trait(account, name, value);
        }
    }

    /// The value as the next one that this tenant sets.
    fn trait_value(&mut self, value: &Value) -> TraitValue {
        self.registry.counters.ordinals += 1;
        TraitValue { value: value.clone(), time_us: self.time_us, ordinal: self.registry.counters.ordinals }
    }
}
