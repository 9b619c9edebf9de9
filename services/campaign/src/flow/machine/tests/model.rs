//! Plain scenarios for comparison: steps by number, times of UTC.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use segue_proto::campaign::v1::update_trait_step::To;
use segue_proto::campaign::v1::{
    AudienceEntry, BranchArm, BranchStep, ExperimentStep, ListStep, LocalTime, SplitArm, SplitStep, TraitDate, UpdateTraitStep, Variant,
};

use super::*;

pub(super) type To_ = Option<usize>;

/// A step, and where it leads.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Message(To_),
    Update(To_),
    List(To_),
    End,
    Duration {
        seconds: u32,
        next: To_,
    },
    /// At this minute of the day.
    Local {
        minute: u32,
        next: To_,
    },
    /// The trait `d<day>` holds the day so many days after 1 January 1970; `d0` does not exist.
    Date {
        day: u32,
        otherwise: To_,
        next: To_,
    },
    /// Arms: name of the event, whether the key must be that of the run, next.
    Event {
        arms: Vec<(usize, bool, To_)>,
        seconds: u32,
        next: To_,
    },
    Branch {
        arms: Vec<To_>,
        next: To_,
    },
    Split(Vec<(u32, To_)>),
    Experiment(Vec<(u32, To_)>),
}

pub(super) const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Days of the traits `d1` and `d2`.
pub(super) const DAYS: [u32; 2] = [1, 3];

#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) nodes: Vec<Node>,
    /// Name of an event, whether the key must be that of the run.
    pub(super) exit: Option<(usize, bool)>,
    /// Name of an event, seconds.
    pub(super) goal: Option<(usize, u32)>,
    pub(super) audience_exit: bool,
}

impl Node {
    fn ways(&mut self) -> Vec<&mut To_> {
        match self {
            Node::End => vec![],
            Node::Message(next) | Node::Update(next) | Node::List(next) => vec![next],
            Node::Duration { next, .. } | Node::Local { next, .. } => vec![next],
            Node::Date { otherwise, next, .. } => vec![otherwise, next],
            Node::Event { arms, next, .. } => arms.iter_mut().map(|arm| &mut arm.2).chain([next]).collect(),
            Node::Branch { arms, next } => arms.iter_mut().chain([next]).collect(),
            Node::Split(arms) | Node::Experiment(arms) => arms.iter_mut().map(|arm| &mut arm.1).collect(),
        }
    }

    /// Whether every run that comes here waits.
    fn waits(&self) -> bool {
        matches!(self, Node::Duration { .. } | Node::Local { .. } | Node::Event { .. })
    }
}

impl Model {
    /// Ways lead on, or back from steps that wait; what no run reaches is left out.
    fn mended(mut self) -> Self {
        let count = self.nodes.len();
        for (at, node) in self.nodes.iter_mut().enumerate() {
            let may_go_back = node.waits();
            for way in node.ways() {
                *way = way.map(|to| to % count).filter(|to| may_go_back || *to > at);
            }
        }
        let mut reached = vec![0];
        let mut next = 0;
        while let Some(at) = reached.get(next).copied() {
            for way in self.nodes[at].ways() {
                if let Some(to) = *way
                    && !reached.contains(&to)
                {
                    reached.push(to);
                }
            }
            next += 1;
        }
        self.nodes = reached.iter().map(|at| self.nodes[*at].clone()).collect();
        for way in self.nodes.iter_mut().flat_map(Node::ways) {
            *way = way.and_then(|to| reached.iter().position(|at| *at == to));
        }
        self
    }

    pub(super) fn definition(&self) -> ScenarioDefinition {
        let id = |to: &To_| to.map(|to| format!("s{to}")).unwrap_or_default();
        let steps = self.nodes.iter().enumerate().map(|(at, node)| {
            let mut next = None;
            let mut goes = |to: &To_, kind: Kind| {
                next = *to;
                kind
            };
            let waits = |wait: Wait| Kind::Wait(WaitStep { wait: Some(wait) });
            let key = |is_key: &bool| if *is_key { "cart".to_owned() } else { String::new() };
            let kind = match node {
                Node::Message(to) => goes(to, message("x", "").kind.expect("a kind")),
                Node::Update(to) => {
                    goes(to, Kind::UpdateTrait(UpdateTraitStep { r#trait: "t".to_owned(), to: Some(To::Value(text("v"))) }))
                }
                Node::List(to) => goes(to, Kind::List(ListStep { list: "l".to_owned(), remove: false })),
                Node::End => Kind::End(EndStep {}),
                Node::Duration { seconds: count, next } => goes(next, waits(Wait::Duration(seconds(*count)))),
                Node::Local { minute, next } => {
                    let time = format!("{:02}:{:02}", minute / 60, minute % 60);
                    goes(next, waits(Wait::UntilLocalTime(LocalTime { time, days_of_week: vec![] })))
                }
                Node::Date { day, otherwise, next } => {
                    let date = TraitDate { r#trait: format!("d{day}"), otherwise: id(otherwise), ..TraitDate::default() };
                    goes(next, waits(Wait::UntilTraitDate(date)))
                }
                Node::Event { arms, seconds: count, next } => {
                    let arms = arms.iter().map(|(name, is_key, to)| EventArm {
                        on: Some(on(&[NAMES[*name]])),
                        entry_key_property: key(is_key),
                        next: id(to),
                    });
                    goes(next, waits(Wait::ForEvent(EventWait { arms: arms.collect(), timeout: Some(seconds(*count)) })))
                }
                Node::Branch { arms, next } => {
                    let arms = arms.iter().map(|to| BranchArm { condition: Some(condition()), next: id(to) });
                    goes(next, Kind::Branch(BranchStep { arms: arms.collect() }))
                }
                Node::Split(arms) => {
                    let arms = arms.iter().map(|(weight, to)| SplitArm { weight: *weight, next: id(to) });
                    Kind::Split(SplitStep { arms: arms.collect() })
                }
                Node::Experiment(arms) => {
                    let variants = arms.iter().enumerate().map(|(at, (weight, to))| Variant {
                        name: format!("v{at}"),
                        weight: *weight,
                        next: id(to),
                        control: false,
                    });
                    Kind::Experiment(ExperimentStep { variants: variants.collect(), goal: String::new() })
                }
            };
            step(&format!("s{at}"), kind, &id(&next))
        });
        let mut definition = by_event("a", "cart", steps.collect());
        definition.exits.extend(self.exit.map(|(name, is_key)| exit_on(NAMES[name], if is_key { "cart" } else { "" })));
        if self.audience_exit {
            let on = AudienceEntry { audience: "lapsed".to_owned(), on_leaving: false };
            definition.exits.push(ExitRule { on: Some(exit_rule::On::Audience(on)), entry_key_property: String::new() });
        }
        definition.goals.extend(self.goal.map(|(name, window)| goal("g", NAMES[name], seconds(window))));
        definition
    }
}

fn node() -> impl Strategy<Value = Node> {
    let to = || option::weighted(0.9, 0..8_usize);
    let weighted = || vec((1..5_u32, to()), 2..4);
    prop_oneof![
        3 => to().prop_map(Node::Message),
        1 => to().prop_map(Node::Update),
        1 => to().prop_map(Node::List),
        1 => Just(Node::End),
        2 => (1..100_000_u32, to()).prop_map(|(seconds, next)| Node::Duration { seconds, next }),
        2 => (0..1_440_u32, to()).prop_map(|(minute, next)| Node::Local { minute, next }),
        1 => (0..3_u32, to(), to()).prop_map(|(day, otherwise, next)| Node::Date { day, otherwise, next }),
        3 => (vec((0..5_usize, any::<bool>(), to()), 1..4), 1..100_000_u32, to())
            .prop_map(|(arms, seconds, next)| Node::Event { arms, seconds, next }),
        2 => (vec(to(), 1..4), to()).prop_map(|(arms, next)| Node::Branch { arms, next }),
        1 => weighted().prop_map(Node::Split),
        1 => weighted().prop_map(Node::Experiment),
    ]
}

pub(super) fn model() -> impl Strategy<Value = Model> {
    let exit = option::weighted(0.3, (0..5_usize, any::<bool>()));
    let goal = option::weighted(0.7, (0..5_usize, 1..100_000_u32));
    (vec(node(), 1..8), exit, goal, any::<bool>())
        .prop_map(|(nodes, exit, goal, audience_exit)| Model { nodes, exit, goal, audience_exit }.mended())
}

/// What happens.
#[derive(Debug, Clone)]
pub(super) enum Happening {
    Go,
    /// Name, whether the cart is the run's, its time relative to the clock, in seconds.
    Event {
        name: usize,
        is_of_key: bool,
        ago: i64,
    },
    Audience {
        entered: bool,
    },
    End,
}

/// So many seconds later by the clock, which may have been put back; so many times in a row.
#[derive(Debug, Clone)]
pub(super) struct Then {
    pub(super) after_s: i64,
    pub(super) what: Happening,
    pub(super) times: usize,
}

pub(super) fn happenings() -> impl Strategy<Value = Vec<Then>> {
    let after = prop_oneof![3 => 0..100_i64, 4 => 0..90_000_i64, 1 => 0..400_000_i64, 1 => -100_000..0_i64];
    let ago = prop_oneof![3 => Just(0_i64), 1 => 0..5_000_i64, 1 => -5_000..0_i64];
    let what = prop_oneof![
        6 => Just(Happening::Go),
        6 => (0..5_usize, proptest::bool::weighted(0.7), ago).prop_map(|(name, is_of_key, ago)| Happening::Event { name, is_of_key, ago }),
        1 => any::<bool>().prop_map(|entered| Happening::Audience { entered }),
        1 => Just(Happening::End),
    ];
    let times = prop_oneof![5 => Just(1_usize), 1 => Just(2_usize)];
    vec((after, what, times).prop_map(|(after_s, what, times)| Then { after_s, what, times }), 0..25)
}

/// What is true of a person at an arm, as time goes by.
pub(super) fn truth(step: usize, arm: usize, now_s: i64) -> bool {
    (now_s / 1_000 + step as i64 * 3 + arm as i64 * 7) % 3 == 0
}
