//! The rules, case by case, without a store: what semantics.md says under "Identity", and what follows from it.
//!
//! To add a case: one entry in [`CASES`]. `person` is the number expected for each event; `records` the kinds of link records,
//! merges and moves with both persons; `owners` whom identifiers name at the end (0: nobody).

use segue_identity::effects::Effects;
use segue_identity::identifier::{Id, Identifiers, Kind};
use segue_identity::registry::{Link, Registry};
use segue_identity::rules::{Previous, Resolution, Rules, Subject};
use segue_proto::identity::v1::{LinkKind, Subject as SubjectProto};

use crate::harness::{event, identifier};

/// The rules over a registry that knows everything.
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) identifiers: Identifiers,
    pub(crate) registry: Registry,
    pub(crate) effects: Effects,
}

impl World {
    pub(crate) fn new() -> World {
        let blocked = segue_identity::Config::default().blocked_values;
        World {
            rules: Rules::default(),
            identifiers: Identifiers::new(1, &blocked),
            registry: Registry::default(),
            effects: Effects::default(),
        }
    }

    pub(crate) fn id(&self, kind: &str, value: &str) -> Id {
        let identifier = identifier(kind, value);
        self.identifiers.id(Kind::of(&identifier.kind), identifier.value)
    }

    pub(crate) fn resolve(&mut self, event: SubjectProto) -> Resolution {
        let kind = event.kind();
        let mut ids: Vec<Id> = event.identifiers.into_iter().filter_map(|id| self.identifiers.parse(&id.kind, id.value)).collect();
        ids.sort_by(|a, b| a.kind.cmp(&b.kind));
        ids.dedup();
        let previous = self.identifiers.parse("user_id", event.previous_id).map(|user| {
            let anonymous = self.identifiers.id(Kind::AnonymousId, user.value.clone());
            Previous { user, anonymous }
        });
        for id in ids.iter().chain(previous.iter().flat_map(|previous| [&previous.user, &previous.anonymous])) {
            if self.registry.linked(id.key).is_none() {
                self.registry.insert_identifier(id.key, Link::default());
            }
        }
        let mut traits: Vec<_> = event.traits.into_iter().collect();
        traits.sort_by(|a, b| a.0.cmp(&b.0));
        let account = self.identifiers.account(event.account_id);
        let subject = Subject { named: Vec::new(), ids, time_us: event.time_us, kind, traits, account, previous, logout: event.logout };
        self.rules.resolve(&mut self.registry, &mut self.effects, &subject).expect("everything is loaded")
    }

    pub(crate) fn owner(&mut self, kind: &str, value: &str) -> u32 {
        let key = self.id(kind, value).key;
        if self.registry.linked(key).is_none() { 0 } else { self.registry.owner(key).expect("everything is loaded") }
    }

    fn records(&self) -> Vec<String> {
        self.effects
            .links
            .iter()
            .filter(|record| record.kind != LinkKind::Attached)
            .map(|record| {
                let name = record.kind.as_str_name().trim_start_matches("LINK_KIND_").to_lowercase();
                format!("{name} {}:{} {} {}", record.identifier_kind, record.identifier_value, record.person, record.other_person)
            })
            .collect()
    }
}

struct Case {
    name: &'static str,
    events: &'static [(&'static str, u32)],
    /// Besides attachments: what, identifier, person, other person.
    records: &'static [&'static str],
    owners: &'static [(&'static str, u32)],
}

const CASES: &[Case] = &[
    Case {
        name: "the email of another user stays where it is [SG]",
        events: &[("u:abc123 e:jane", 1), ("u:abc456 e:jane", 2), ("u:abc456 e:jane", 2)],
        records: &["conflict email:jane 2 1"],
        owners: &[("e:jane", 1), ("u:abc456", 2)],
    },
    Case {
        name: "a user id that names nobody is ignored and the event is anonymous [SG]",
        events: &[("u:0000 d:x", 1), ("u:null d:x", 1), ("u:NULL", 0), ("", 0), ("u:-1 a:00000000-0000-0000-0000-000000000000", 0)],
        records: &[],
        owners: &[("d:x", 1)],
    },
    Case {
        name: "a sixth email is not attached, and recorded once [SG]",
        events: &[
            ("u:A e:1", 1),
            ("u:A e:2", 1),
            ("u:A e:3", 1),
            ("u:A e:4", 1),
            ("u:A e:5", 1),
            ("u:A e:6", 1),
            ("u:A e:6", 1),
            ("e:6", 2),
        ],
        records: &["limit email:6 1 0"],
        owners: &[("e:5", 1), ("e:6", 2)],
    },
    Case {
        name: "a device used by A, logged out, then by B: before the first login A's, after the logout B's",
        events: &[("d:x", 1), ("u:A d:x", 1), ("d:x", 1), ("u:A d:x logout", 1), ("d:x", 2), ("u:B d:x", 2), ("d:x", 2), ("u:A", 1)],
        records: &["detached device_id:x 1 0"],
        owners: &[("u:A", 1), ("u:B", 2), ("d:x", 2)],
    },
    Case {
        name: "the same when B is known already: the events between logout and login become B's",
        events: &[("u:A d:x", 1), ("u:B", 2), ("u:A d:x logout", 1), ("d:x", 3), ("u:B d:x", 2), ("d:x", 2)],
        records: &["detached device_id:x 1 0", "merged device_id:x 2 3"],
        owners: &[("d:x", 2)],
    },
    Case {
        name: "identify A then B on one device without logout: no merge, later events are B's",
        events: &[("identify u:A d:x a:y", 1), ("d:x", 1), ("identify u:B d:x a:y", 2), ("d:x", 2), ("a:y", 2), ("u:A", 1)],
        records: &["moved anonymous_id:y 2 1", "moved device_id:x 2 1"],
        owners: &[("d:x", 2), ("a:y", 2), ("u:A", 1)],
    },
    Case {
        name: "A comes back to the device that B took",
        events: &[("u:A d:x", 1), ("u:B d:x", 2), ("u:A d:x", 1), ("d:x", 1)],
        records: &["moved device_id:x 2 1", "moved device_id:x 1 2"],
        owners: &[("d:x", 1)],
    },
    Case {
        name: "a new user id goes to the anonymous person",
        events: &[("a:x", 1), ("u:A a:x", 1), ("u:A", 1)],
        records: &[],
        owners: &[("u:A", 1), ("a:x", 1)],
    },
    Case {
        name: "the anonymous person becomes part of the user who logs in",
        events: &[("u:A", 1), ("a:x d:y", 2), ("u:A a:x d:y", 1), ("a:x", 1), ("d:y", 1)],
        records: &["merged anonymous_id:x 1 2"],
        owners: &[("a:x", 1), ("d:y", 1)],
    },
    Case {
        name: "several anonymous persons seen with one login all become part of it",
        events: &[("a:x", 1), ("d:y", 2), ("e:z", 3), ("u:A a:x d:y e:z", 1), ("e:z", 1), ("d:y", 1)],
        records: &["merged device_id:y 1 2", "merged email:z 1 3"],
        owners: &[("d:y", 1), ("e:z", 1)],
    },
    Case {
        name: "anonymous persons seen together become one, that of the stronger identifier",
        events: &[("d:x", 1), ("a:y", 2), ("a:y d:x", 2), ("d:x", 2)],
        records: &["merged device_id:x 2 1"],
        owners: &[("d:x", 2)],
    },
    Case {
        name: "an email of a user does not give an anonymous device to that user",
        events: &[("u:A e:z", 1), ("d:x", 2), ("d:x e:z", 2)],
        records: &["conflict email:z 2 1"],
        owners: &[("d:x", 2), ("e:z", 1)],
    },
    Case {
        name: "a logout on a device of nobody or of an anonymous person changes nothing",
        events: &[("d:x", 1), ("d:x logout", 1), ("d:x", 1), ("u:A d:y logout", 2), ("d:y", 3)],
        records: &[],
        owners: &[("d:x", 1), ("d:y", 3)],
    },
    Case {
        name: "a logout takes everything of the device along, and leaves the rest",
        events: &[("u:A d:x a:y p:z e:m", 1), ("d:x a:y p:z logout", 1), ("d:x", 2), ("e:m", 1), ("p:z", 3)],
        records: &["detached anonymous_id:y 1 0", "detached device_id:x 1 0", "detached push_token:z 1 0"],
        owners: &[("a:y", 0), ("d:x", 2), ("p:z", 3), ("e:m", 1)],
    },
    Case {
        name: "a late logout of A leaves the device to B",
        events: &[("u:A d:x", 1), ("u:B d:x", 2), ("u:A d:x logout", 1), ("d:x", 2)],
        records: &["moved device_id:x 2 1", "conflict device_id:x 1 2"],
        owners: &[("d:x", 2)],
    },
    Case {
        name: "B with five devices takes none from A, but A loses it too",
        events: &[
            ("u:B d:1", 1),
            ("u:B d:2", 1),
            ("u:B d:3", 1),
            ("u:B d:4", 1),
            ("u:B d:5", 1),
            ("u:A d:6", 2),
            ("u:B d:6", 1),
            ("u:B d:6", 1),
            ("d:6", 3),
        ],
        records: &["detached device_id:6 2 1", "limit device_id:6 1 0"],
        owners: &[("d:6", 3), ("d:5", 1)],
    },
    Case {
        name: "an anonymous person that would break a limit stays apart",
        events: &[
            ("u:A d:1", 1),
            ("u:A d:2", 1),
            ("u:A d:3", 1),
            ("u:A d:4", 1),
            ("u:A d:5", 1),
            ("d:6 a:x", 2),
            ("u:A d:6", 1),
            ("u:A d:6", 1),
            ("d:6", 2),
        ],
        records: &["limit device_id:6 1 2"],
        owners: &[("d:6", 2)],
    },
    Case {
        name: "an alias links an anonymous id to the user",
        events: &[("a:x", 1), ("u:A", 2), ("u:A alias:x", 2), ("a:x", 2)],
        records: &["merged anonymous_id:x 2 1"],
        owners: &[("a:x", 2)],
    },
    Case {
        name: "an alias of what nobody knows yet is an anonymous id",
        events: &[("u:A alias:x", 1), ("a:x", 1), ("u:B alias:null", 2)],
        records: &[],
        owners: &[("a:x", 1)],
    },
    Case {
        name: "an alias gives a known user a new user id",
        events: &[("u:old", 1), ("u:new alias:old", 1), ("u:new", 1), ("u:old", 1)],
        records: &[],
        owners: &[("u:new", 1), ("u:old", 1)],
    },
    Case {
        name: "an alias does not merge two known users by itself",
        events: &[("u:A", 1), ("u:B", 2), ("u:B alias:A", 2), ("u:B alias:A", 2), ("u:A", 1)],
        records: &["conflict user_id:A 2 1"],
        owners: &[("u:A", 1), ("u:B", 2)],
    },
    Case {
        name: "of two user ids in one event the first counts",
        events: &[("u:A u:B", 1), ("u:B", 2), ("u:A u:B", 1)],
        records: &["limit user_id:B 1 0"],
        owners: &[("u:A", 1), ("u:B", 2)],
    },
    Case {
        name: "identifiers of own kinds are the weakest",
        events: &[("loyalty:7", 1), ("e:m", 2), ("loyalty:7 e:m", 2), ("u:A", 3), ("u:A loyalty:7", 3)],
        records: &["merged loyalty:7 2 1", "merged loyalty:7 3 2"],
        owners: &[("e:m", 3)],
    },
];

#[test]
fn every_case_of_the_semantics_holds() {
    for case in CASES {
        let mut world = World::new();
        let persons: Vec<u32> = case.events.iter().map(|(line, _)| world.resolve(event(line)).person).collect();
        let expected: Vec<u32> = case.events.iter().map(|(_, person)| *person).collect();
        assert_eq!(persons, expected, "{}: {:?}", case.name, world.records());
        assert_eq!(world.records(), case.records, "{}", case.name);
        for (who, owner) in case.owners {
            let (kind, value) = who.split_once(':').expect("kind:value");
            assert_eq!(world.owner(kind, value), *owner, "{}: {who}", case.name);
        }
    }
}

#[test]
fn devices_are_numbered_by_device_id_or_else_by_anonymous_id() {
    let mut world = World::new();
    let lines = ["d:x a:y", "a:y", "d:x u:A", "u:A", "a:z d:x", "u:B d:x logout", "d:w", "u:0 d:null"];
    let devices: Vec<u32> = lines.iter().map(|line| world.resolve(event(line)).device).collect();
    assert_eq!(devices, [1, 2, 1, 0, 1, 1, 3, 0]);
}

#[test]
fn only_the_event_that_begins_a_person_is_its_first() {
    let mut world = World::new();
    let first: Vec<bool> = ["d:x", "d:x", "u:A d:x", "u:B", ""].iter().map(|line| world.resolve(event(line)).first).collect();
    assert_eq!(first, [true, false, false, true, false]);
}

#[test]
fn the_later_event_time_wins_per_trait_and_of_equal_times_the_later_event() {
    let mut world = World::new();
    for line in
        ["identify u:A name=b @20", "identify u:A name=a @10", "identify u:A plan=x @5", "identify u:A plan=y @5", "group u:A plan=z @9"]
    {
        world.resolve(event(line));
    }
    let value = |name: &str| world.effects.traits.get(&(1, name.to_owned())).map(|change| change.winner.value.clone());
    assert_eq!(value("name"), Some(crate::harness::text("b")));
    assert_eq!(value("plan"), Some(crate::harness::text("y")));
}
