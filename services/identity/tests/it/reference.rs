//! The rules against a slow and plain reading of them that keeps one list of identifiers and looks through it all each
//! time, on random streams of events.

use std::collections::BTreeSet;

use proptest::prelude::*;
use segue_proto::events::v1::EventKind;
use segue_proto::identity::v1::{LinkKind, Subject};

use crate::harness::{event, text};
use crate::scenarios::World;

const STRENGTH: [&str; 6] = ["user_id", "anonymous_id", "device_id", "push_token", "email", "loyalty"];
const OF_DEVICE: [&str; 3] = ["anonymous_id", "device_id", "push_token"];

type Name = (String, String);

/// Every identifier with the person that it names, and every trait with its person or account.
#[derive(Default)]
pub(crate) struct Reference {
    owners: Vec<(Name, usize)>,
    traits: Vec<(usize, String, i64, String)>,
    account_traits: Vec<(String, String, i64, String)>,
    members: Vec<(usize, String)>,
    devices: Vec<Name>,
    persons: usize,
    pub(crate) merges: Vec<(u32, u32)>,
}

impl Reference {
    pub(crate) fn owner(&self, name: &Name) -> usize {
        self.owners.iter().find(|(known, _)| known == name).map_or(0, |(_, person)| *person)
    }

    fn anonymous(&self, person: usize) -> bool {
        !self.owners.iter().any(|((kind, _), owner)| *owner == person && kind == "user_id")
    }

    fn count(&self, person: usize, kind: &str) -> usize {
        self.owners.iter().filter(|((known, _), owner)| *owner == person && known == kind).count()
    }

    fn give(&mut self, name: &Name, person: usize) {
        self.owners.retain(|(known, _)| known != name);
        if person != 0 {
            self.owners.push((name.clone(), person));
        }
    }

    fn limit(kind: &str) -> usize {
        if kind == "user_id" { 1 } else { 5 }
    }

    fn join(&mut self, from: usize, into: usize) {
        for (_, owner) in &mut self.owners {
            if *owner == from {
                *owner = into;
            }
        }
        for (owner, ..) in &mut self.traits {
            if *owner == from {
                *owner = into;
            }
        }
        for (member, _) in &mut self.members {
            if *member == from {
                *member = into;
            }
        }
        self.merges.push((from as u32, into as u32));
    }

    pub(crate) fn resolve(&mut self, event: &Subject) -> (u32, u32) {
        let mut names: Vec<Name> = Vec::new();
        let mut given: Vec<Name> = event.identifiers.iter().map(|id| (id.kind.clone(), id.value.clone())).collect();
        let previous = (event.kind() == EventKind::Alias).then(|| event.previous_id.clone());
        let has_user = given.iter().any(|(kind, _)| kind == "user_id");
        let mut former = 0;
        if let Some(previous) = &previous {
            former = self.owner(&("user_id".to_owned(), previous.clone()));
            if former == 0 {
                given.push(("anonymous_id".to_owned(), previous.clone()));
            } else if !has_user {
                given.push(("user_id".to_owned(), previous.clone()));
            }
        }
        for kind in STRENGTH {
            for name in given.iter().filter(|(of, _)| of == kind) {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        let device = ["device_id", "anonymous_id"].iter().find_map(|kind| names.iter().find(|(of, _)| of == kind)).cloned();
        let device = device.map_or(0, |name| match self.devices.iter().position(|known| *known == name) {
            Some(place) => place + 1,
            None => {
                self.devices.push(name);
                self.devices.len()
            }
        });
        if event.kind() == EventKind::Group && !event.account_id.is_empty() {
            for (name, value) in &event.traits {
                self.account_traits.push((event.account_id.clone(), name.clone(), event.time_us, format!("{value:?}")));
            }
        }
        if names.is_empty() {
            return (0, device as u32);
        }
        let login = names[0].0 == "user_id";
        let owners: Vec<usize> = names.iter().map(|name| self.owner(name)).collect();
        let mut person = if !login {
            owners.iter().copied().find(|owner| *owner != 0).unwrap_or(0)
        } else if owners[0] != 0 {
            owners[0]
        } else if former != 0 {
            self.give(&names[0].clone(), former);
            former
        } else {
            owners.iter().copied().find(|owner| *owner != 0 && self.anonymous(*owner)).unwrap_or(0)
        };
        if person == 0 {
            self.persons += 1;
            person = self.persons;
        }
        for name in &names {
            self.link(name, person, login, event.logout);
        }
        if event.logout && !self.anonymous(person) {
            for name in names.iter().filter(|(kind, _)| OF_DEVICE.contains(&kind.as_str())) {
                if self.owner(name) == person {
                    self.give(name, 0);
                }
            }
        }
        if event.kind() == EventKind::Group {
            if !event.account_id.is_empty() {
                self.members.push((person, event.account_id.clone()));
            }
        } else {
            for (name, value) in &event.traits {
                self.traits.push((person, name.clone(), event.time_us, format!("{value:?}")));
            }
        }
        (person as u32, device as u32)
    }

    fn link(&mut self, name: &Name, person: usize, login: bool, logout: bool) {
        let owner = self.owner(name);
        let of_device = OF_DEVICE.contains(&name.0.as_str());
        let room = self.count(person, &name.0) < Self::limit(&name.0);
        if owner == person || (owner == 0 && logout && of_device && !self.anonymous(person)) {
            return;
        }
        if owner == 0 {
            if room {
                self.give(name, person);
            }
        } else if self.anonymous(owner) {
            let fits = STRENGTH.iter().all(|kind| {
                let more = self.count(owner, kind);
                more == 0 || more + self.count(person, kind) <= Self::limit(kind)
            });
            if fits {
                self.join(owner, person);
            }
        } else if login && of_device && !logout {
            self.give(name, if room { person } else { 0 });
        }
    }

    /// The winning value of a trait of a person.
    pub(crate) fn trait_of(&self, person: usize, name: &str) -> Option<String> {
        winner(self.traits.iter().filter(|(owner, of, ..)| *owner == person && of == name).map(|(.., time, value)| (*time, value)))
    }

    /// The winning value of a trait of an account.
    pub(crate) fn trait_of_account(&self, account: &str, name: &str) -> Option<String> {
        winner(self.account_traits.iter().filter(|(owner, of, ..)| owner == account && of == name).map(|(.., time, value)| (*time, value)))
    }

    /// Who belongs to an account.
    pub(crate) fn members_of(&self, account: &str) -> BTreeSet<usize> {
        self.members.iter().filter(|(_, of)| of == account).map(|(person, _)| *person).collect()
    }

    /// The accounts of a person.
    pub(crate) fn accounts_of(&self, person: usize) -> BTreeSet<String> {
        self.members.iter().filter(|(member, _)| *member == person).map(|(_, account)| account.clone()).collect()
    }
}

/// The latest value, of equal times the last one.
fn winner<'a>(candidates: impl Iterator<Item = (i64, &'a String)>) -> Option<String> {
    candidates.max_by_key(|(time_us, _)| *time_us).map(|(_, value)| value.clone())
}

/// A line of an event: few values, so that they meet often.
pub(crate) fn line() -> impl Strategy<Value = String> {
    let identifier = prop_oneof![
        3 => (0..4u8).prop_map(|n| format!("u:{}", ["A", "B", "C", "null"][n as usize])),
        4 => (1..8u8).prop_map(|n| format!("d:{n}")),
        3 => (1..8u8).prop_map(|n| format!("a:{n}")),
        1 => (1..4u8).prop_map(|n| format!("p:{n}")),
        2 => (1..5u8).prop_map(|n| format!("e:{n}")),
        1 => (1..3u8).prop_map(|n| format!("loyalty:{n}")),
    ];
    let kind = prop_oneof![
        8 => Just(String::new()),
        2 => Just("logout".to_owned()),
        1 => Just("group plan=g".to_owned()),
        2 => (0..3u8, 0..3u8).prop_map(|(account, plan)| format!("account:g{account} plan={plan}")),
        3 => (0..3u8, 0..3u8).prop_map(|(a, b)| format!("identify plan={a} df_membership={b}")),
        1 => prop_oneof![Just("A"), Just("B"), Just("1"), Just("2"), Just("0")].prop_map(|previous| format!("alias:{previous}")),
    ];
    (prop::collection::vec(identifier, 0..4), kind, 0..5u8)
        .prop_map(|(identifiers, kind, seconds)| format!("{} {kind} @{seconds}", identifiers.join(" ")))
}

fn without_nobody(mut event: Subject) -> Subject {
    event.identifiers.retain(|id| id.value != "null");
    if event.previous_id == "0" {
        event.kind = EventKind::Track as i32;
        event.previous_id.clear();
    }
    event
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_agree_with_the_plain_reading_of_them(lines in prop::collection::vec(line(), 1..60)) {
        let (mut world, mut reference) = (World::new(), Reference::default());
        for line in &lines {
            let resolution = world.resolve(event(line));
            prop_assert_eq!((resolution.person, resolution.device), reference.resolve(&without_nobody(event(line))), "{}", line);
        }
        prop_assert_eq!(&world.effects.merges, &reference.merges);
        let persons = world.registry.counters.persons;
        let merged: Vec<u32> = reference.merges.iter().map(|(from, _)| *from).collect();
        for person in (1..=persons).filter(|person| !merged.contains(person)) {
            for kind in STRENGTH {
                let count = world.registry.person(person).unwrap().count(&segue_identity::identifier::Kind::of(kind));
                prop_assert_eq!(count as usize, reference.count(person as usize, kind), "{} of {}", kind, person);
            }
            let profile = world.registry.person(person).unwrap().profile.clone();
            let membership = profile.and_then(|profile| profile[2].clone()).map(|value| format!("{:?}", value.value));
            prop_assert_eq!(membership, reference.trait_of(person as usize, "df_membership"));
        }
    }

    #[test]
    fn replaying_the_link_log_gives_the_same_owners(lines in prop::collection::vec(line(), 1..60)) {
        let mut world = World::new();
        for line in &lines {
            world.resolve(event(line));
        }
        let mut owners = std::collections::BTreeMap::new();
        for (place, record) in world.effects.links.iter().enumerate() {
            prop_assert_eq!(record.sequence, place as u64 + 1);
            let name = (record.identifier_kind.clone(), record.identifier_value.clone());
            match record.kind {
                LinkKind::Attached | LinkKind::Moved => drop(owners.insert(name, record.person)),
                LinkKind::Detached => drop(owners.remove(&name)),
                LinkKind::Merged => owners.values_mut().filter(|owner| **owner == record.other_person).for_each(|owner| *owner = record.person),
                LinkKind::Conflict | LinkKind::Limit => {}
                LinkKind::Unspecified => prop_assert!(false, "a record without a kind"),
            }
        }
        for row in world.effects.identifiers.clone() {
            let (kind, value) = (row.id.kind.name().to_owned(), row.id.value.clone());
            prop_assert_eq!(world.owner(&kind, &value), owners.get(&(kind.clone(), value.clone())).copied().unwrap_or(0), "{}:{}", kind, value);
        }
    }
}

#[test]
fn a_trait_of_equal_time_keeps_the_later_one() {
    let mut reference = Reference::default();
    for line in ["identify u:A plan=1 @3", "identify u:A plan=2 @3", "identify u:A plan=3 @1"] {
        reference.resolve(&event(line));
    }
    assert_eq!(reference.trait_of(1, "plan"), Some(format!("{:?}", text("2"))));
}
