//! What a case is made of: scenarios, a policy, and what happens while workers and senders run and end. Smaller ones are easier to read,
//! so what shrinks shrinks towards no ends of processes, no faults of the provider, and little happening.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Persons of a case, from 1.
pub(super) const PERSONS: u32 = 6;
/// Keys (carts) that events name.
pub(super) const KEYS: u8 = 2;
/// Processes at once.
pub(super) const PROCESSES: usize = 3;
/// Events are at least so old when they come in: older than any clock of a process can be behind.
pub(super) const AGE_S_MIN: i64 = 15;

#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) scenarios: Vec<Plan>,
    pub(super) policy: Policy,
    /// Clocks jump only while no worker is inside a round: then it is certain what was known when a run went on.
    pub(super) jumps_between_rounds: bool,
    /// Share of requests, in percent, to which the provider says that it is not now.
    pub(super) trouble: u8,
    pub(super) provider_seed: u64,
    /// Of each process: after how many polls it ends, again and again; after the last it goes on.
    pub(super) lives: Vec<Vec<usize>>,
    pub(super) happenings: Vec<Happening>,
}

#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// Over both channels: messages, days.
    pub(super) cap: Option<(u32, u32)>,
    /// By SMS alone.
    pub(super) sms_cap: Option<(u32, u32)>,
    /// From 22:00 to 06:00: whether messages are dropped rather than kept.
    pub(super) quiet: Option<bool>,
}

/// A scenario: nodes one after the other, the first of which is no wait.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) by_call: bool,
    pub(super) is_keyed: bool,
    /// Again once the run before has ended; else once ever.
    pub(super) again: bool,
    /// Buying ends it.
    pub(super) leaves: bool,
    pub(super) nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Message {
        by: By,
        is_transactional: bool,
        expires_h: Option<u32>,
    },
    Webhook,
    Trait {
        is_template: bool,
    },
    List,
    Wait {
        minutes: u32,
    },
    /// Until they buy: then on to a later node.
    Event {
        minutes: u32,
        to: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    Sms,
    Kakao,
}

impl By {
    /// As channels and consents name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            By::Sms => "sms",
            By::Kakao => "kakao",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Refused in identity: advertising.
    Advertising,
    /// Everything by the channel.
    All,
    /// By the link of a message that they got.
    Link,
}

#[derive(Debug, Clone)]
pub(super) enum Happening {
    Cart {
        person: u32,
        key: u8,
        age_s: i64,
    },
    Buy {
        person: u32,
        key: u8,
        age_s: i64,
    },
    /// Something that came in comes in again under the same message id.
    Again {
        which: usize,
    },
    Call {
        person: u32,
        key: u8,
    },
    /// A call is repeated under its request id.
    CallAgain {
        which: usize,
    },
    Jump {
        seconds: i64,
    },
    Back {
        seconds: i64,
    },
    /// The clock of one process goes wrong by so much.
    Skew {
        process: usize,
        seconds: i64,
    },
    Withdraw {
        person: u32,
        by: By,
        why: Why,
    },
    Merge {
        from: u32,
        into: u32,
    },
    /// Processes have so many milliseconds to themselves.
    Run {
        ms: u64,
    },
}

fn by() -> impl Strategy<Value = By> {
    prop_oneof![Just(By::Sms), Just(By::Kakao)]
}

fn message() -> impl Strategy<Value = Node> {
    let expires = option::weighted(0.2, 1_u32..6);
    (by(), proptest::bool::weighted(0.2), expires).prop_map(|(by, is_transactional, expires_h)| Node::Message {
        by,
        is_transactional,
        expires_h,
    })
}

fn effect() -> impl Strategy<Value = Node> {
    prop_oneof![
        4 => message(),
        1 => Just(Node::Webhook),
        1 => any::<bool>().prop_map(|is_template| Node::Trait { is_template }),
        1 => Just(Node::List),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let wait = prop_oneof![
        (1_u32..300).prop_map(|minutes| Node::Wait { minutes }),
        (1_u32..300, 0_usize..8).prop_map(|(minutes, to)| Node::Event { minutes, to }),
    ];
    let nodes = (effect(), vec(prop_oneof![3 => effect(), 2 => wait], 1..6)).prop_map(|(first, more)| {
        let mut nodes: Vec<Node> = std::iter::once(first).chain(more).collect();
        let count = nodes.len();
        for (at, node) in nodes.iter_mut().enumerate() {
            if let Node::Event { to, .. } = node {
                // A later node, or behind the last: the end.
                *to = (at + 1 + *to % 3).min(count);
            }
        }
        nodes
    });
    let of = (proptest::bool::weighted(0.2), any::<bool>(), any::<bool>(), any::<bool>(), nodes);
    of.prop_map(|(by_call, is_keyed, again, leaves, nodes)| Plan { by_call, is_keyed, again, leaves, nodes })
}

fn happening() -> impl Strategy<Value = Happening> {
    let (person, key, age_s) = (1..=PERSONS, 0..KEYS, prop_oneof![3 => AGE_S_MIN..60, 1 => AGE_S_MIN..7_200]);
    let who = || (person.clone(), key.clone(), age_s.clone());
    let why = prop_oneof![2 => Just(Why::Advertising), 1 => Just(Why::All), 2 => Just(Why::Link)];
    prop_oneof![
        8 => who().prop_map(|(person, key, age_s)| Happening::Cart { person, key, age_s }),
        4 => who().prop_map(|(person, key, age_s)| Happening::Buy { person, key, age_s }),
        2 => (0_usize..40).prop_map(|which| Happening::Again { which }),
        2 => (person.clone(), key.clone()).prop_map(|(person, key)| Happening::Call { person, key }),
        1 => (0_usize..10).prop_map(|which| Happening::CallAgain { which }),
        4 => prop_oneof![1_i64..60, 60_i64..3_600, 3_600_i64..50_000].prop_map(|seconds| Happening::Jump { seconds }),
        1 => (1_i64..=5).prop_map(|seconds| Happening::Back { seconds }),
        1 => (0..PROCESSES, -3_i64..=3).prop_map(|(process, seconds)| Happening::Skew { process, seconds }),
        2 => (person.clone(), by(), why).prop_map(|(person, by, why)| Happening::Withdraw { person, by, why }),
        1 => (person.clone(), person.clone()).prop_map(|(from, into)| Happening::Merge { from, into }),
        3 => (1_u64..25).prop_map(|ms| Happening::Run { ms }),
    ]
}

pub(super) fn script() -> impl Strategy<Value = Script> {
    let cap = || option::weighted(0.7, (1_u32..4, 1_u32..4));
    let policy = (cap(), cap(), option::weighted(0.4, any::<bool>())).prop_map(|(cap, sms_cap, quiet)| Policy { cap, sms_cap, quiet });
    let lives = vec(vec(prop_oneof![1_usize..60, 60_usize..800], 0..6), PROCESSES);
    let trouble = prop_oneof![Just(0_u8), 0_u8..60];
    let of = (vec(plan(), 1..4), policy, any::<bool>(), trouble, any::<u64>(), lives, vec(happening(), 4..40));
    of.prop_map(|(scenarios, policy, jumps_between_rounds, trouble, provider_seed, lives, happenings)| Script {
        scenarios,
        policy,
        jumps_between_rounds,
        trouble,
        provider_seed,
        lives,
        happenings,
    })
}
