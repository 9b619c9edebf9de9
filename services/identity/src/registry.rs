//! Who is who, as far as this process needs to know it now: the part of a tenant's persons and identifiers that was used
//! lately. The rules read and change it; the store fills it and makes its changes durable.

use segue_proto::events::v1::Value;
use uuid::Uuid;

use crate::cache::Generations;
use crate::identifier::{Key, Kind};
use crate::person_id;

/// Bytes that one identifier takes in the cache: key, link, control byte, at a load of 7/8 after doubling.
const IDENTIFIER_BYTES: u64 = 52;
/// The same for a person, with its counts of identifiers and its profile.
const PERSON_BYTES: u64 = 240;

/// What an identifier leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// The number it was linked to (it may have been merged since); 0: nobody.
    pub person: u32,
    /// Number of the device that it names; 0: none.
    pub device: u32,
    /// The person for whom a conflict or limit of this identifier was recorded last, so that it is recorded once.
    pub noted: u32,
    /// When it was linked, in event time.
    pub linked_at_us: i64,
}

/// A trait as stored: its value, and what decides which of two values wins.
#[derive(Debug, Clone, PartialEq)]
pub struct TraitValue {
    /// The value.
    pub value: Value,
    /// Event time; the later wins.
    pub time_us: i64,
    /// Order in which this tenant's traits were set; decides between equal times.
    pub ordinal: u64,
}

impl TraitValue {
    /// Whether this one wins over `other`.
    pub fn wins_over(&self, other: &TraitValue) -> bool {
        (self.time_us, self.ordinal) >= (other.time_us, other.ordinal)
    }
}

/// The traits that reports group by, which every answer carries.
pub const PROFILE_TRAITS: [&str; 4] = ["df_gender", "df_birth", "df_membership", "df_sign_channel"];

/// Values of [`PROFILE_TRAITS`].
pub type Profile = [Option<TraitValue>; PROFILE_TRAITS.len()];

/// Index of a trait in a [`Profile`].
pub fn profile_index(name: &str) -> Option<usize> {
    PROFILE_TRAITS.iter().position(|known| *known == name)
}

/// What the rules need to know of a person that was not merged away.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PersonState {
    /// How many identifiers it has of each kind, those of persons that were merged into it included.
    pub counts: Vec<(Kind, u32)>,
    /// Event time of its first event.
    pub first_seen_us: i64,
    /// Event time of its last event, to the configured precision.
    pub last_seen_us: i64,
    /// Traits for reports, if it has any.
    pub profile: Option<Box<Profile>>,
}

impl PersonState {
    /// How many identifiers of `kind` it has.
    pub fn count(&self, kind: &Kind) -> u32 {
        self.counts.iter().find(|(known, _)| known == kind).map_or(0, |(_, count)| *count)
    }

    /// Whether it carries no user id.
    pub fn is_anonymous(&self) -> bool {
        self.count(&Kind::UserId) == 0
    }

    /// Counts `more` identifiers of `kind`.
    pub fn add(&mut self, kind: &Kind, more: u32) {
        match self.counts.iter_mut().find(|(known, _)| known == kind) {
            Some((_, count)) => *count += more,
            None => self.counts.push((kind.clone(), more)),
        }
    }

    /// Counts one identifier of `kind` less.
    pub fn remove(&mut self, kind: &Kind) {
        if let Some((_, count)) = self.counts.iter_mut().find(|(known, _)| known == kind) {
            *count = count.saturating_sub(1);
        }
    }

    /// Takes over a trait for reports, if it wins.
    pub fn set_profile(&mut self, index: usize, value: TraitValue) {
        let profile = self.profile.get_or_insert_default();
        if profile[index].as_ref().is_none_or(|known| value.wins_over(known)) {
            profile[index] = Some(value);
        }
    }
}

/// A number that was given out.
#[derive(Debug, Clone, PartialEq)]
pub enum Person {
    /// A person.
    Survivor(PersonState),
    /// Part of the person with this number (which may be merged in turn).
    Merged(u32),
}

/// The last numbers given out to a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Grows with every transaction that changes anything; a cache of another version does not hold.
    pub version: u64,
    /// Persons.
    pub persons: u32,
    /// Devices.
    pub devices: u32,
    /// Records of the link log.
    pub links: u64,
    /// Persons that were merged into others.
    pub merged: u32,
    /// Traits that were set.
    pub ordinals: u64,
}

/// Something that the rules needed was not loaded before: a defect, or a cache that another process made stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// An identifier.
    #[error("an identifier was not loaded before it was needed")]
    IdentifierNotLoaded,
    /// A person.
    #[error("person {0} was not loaded before it was needed")]
    PersonNotLoaded(u32),
}

/// The known part of one tenant.
#[derive(Debug, Default)]
pub struct Registry {
    /// Numbers given out.
    pub counters: Counters,
    /// What stable ids follow from; the tenant's own, for good.
    pub salt: Vec<u8>,
    identifiers: Generations<Key, Link>,
    persons: Generations<u32, Person>,
}

impl Registry {
    /// Adds an identifier, [`Link::default`] for one that the store does not know.
    pub fn insert_identifier(&mut self, key: Key, link: Link) {
        self.identifiers.insert(key, link);
    }

    /// Adds a person.
    pub fn insert_person(&mut self, number: u32, person: Person) {
        self.persons.insert(number, person);
    }

    /// The number that an identifier was linked to (0: nobody), or `None` if that must be loaded.
    pub fn linked(&mut self, key: Key) -> Option<u32> {
        self.identifiers.get_mut(key).map(|link| link.person)
    }

    /// The number that must be loaded before `number` can be followed to its survivor, if any.
    pub fn missing_for(&mut self, mut number: u32) -> Option<u32> {
        loop {
            match self.persons.get_mut(number) {
                None => return Some(number),
                Some(Person::Survivor(_)) => return None,
                Some(Person::Merged(into)) => number = *into,
            }
        }
    }

    /// An identifier that is loaded.
    pub fn link(&mut self, key: Key) -> Result<&mut Link, RegistryError> {
        self.identifiers.get_mut(key).ok_or(RegistryError::IdentifierNotLoaded)
    }

    /// The survivor that `number` is part of.
    pub fn root(&mut self, mut number: u32) -> Result<u32, RegistryError> {
        loop {
            match self.persons.get_mut(number) {
                None => return Err(RegistryError::PersonNotLoaded(number)),
                Some(Person::Survivor(_)) => return Ok(number),
                Some(Person::Merged(into)) => number = *into,
            }
        }
    }

    /// Whom an identifier names: a survivor, or 0.
    pub fn owner(&mut self, key: Key) -> Result<u32, RegistryError> {
        let person = self.link(key)?.person;
        if person == 0 { Ok(0) } else { self.root(person) }
    }

    /// The number whose stable id this is, if it was given out.
    pub fn number_of(&self, id: &Uuid) -> Option<u32> {
        person_id::number(&self.salt, id).filter(|number| (1..=self.counters.persons).contains(number))
    }

    /// A survivor.
    pub fn person(&mut self, number: u32) -> Result<&mut PersonState, RegistryError> {
        match self.persons.get_mut(number) {
            Some(Person::Survivor(state)) => Ok(state),
            Some(Person::Merged(_)) | None => Err(RegistryError::PersonNotLoaded(number)),
        }
    }

    /// Takes a survivor's state away and redirects its number to `into`.
    pub fn redirect(&mut self, from: u32, into: u32) -> Result<PersonState, RegistryError> {
        match self.persons.get_mut(from) {
            Some(person @ Person::Survivor(_)) => match std::mem::replace(person, Person::Merged(into)) {
                Person::Survivor(state) => Ok(state),
                Person::Merged(_) => Err(RegistryError::PersonNotLoaded(from)),
            },
            Some(Person::Merged(_)) | None => Err(RegistryError::PersonNotLoaded(from)),
        }
    }

    /// Forgets everything but the counters.
    pub fn clear(&mut self) {
        self.identifiers = Generations::default();
        self.persons = Generations::default();
    }

    /// Bytes of what was used since the last [`Registry::age`].
    pub fn young_bytes(&self) -> u64 {
        self.identifiers.young_len() as u64 * IDENTIFIER_BYTES + self.persons.young_len() as u64 * PERSON_BYTES
    }

    /// Forgets what was not used since the last call.
    pub fn age(&mut self) {
        self.identifiers.age();
        self.persons.age();
    }
}
