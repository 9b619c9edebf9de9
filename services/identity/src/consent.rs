//! What persons agreed to or refused: which statement holds, and what of it is kept. Pure.
//!
//! Of two statements about the same person, channel and purpose the later wins, of equal times a refusal. That is an order of all statements,
//! so what holds does not depend on the order in which they arrive, nor on when persons were merged.
//!
//! Every statement is kept, but for one kind: senders repeat a person's traits with every other event, so of a trait that goes on saying
//! the same, the first and the last are kept.

use std::collections::{BTreeMap, BTreeSet};

use segue_proto::identity::v1::{Consent as ConsentProto, ConsentState};
use xxhash_rust::xxh3::Xxh3;

/// Source of statements that traits make.
pub const BY_TRAIT: &str = "trait";

/// Channels and purposes that every person may have said something about.
const CHANNELS: [&str; 5] = ["push", "email", "sms", "kakao", "in_app"];
const COMMON_PURPOSES: [&str; 3] = ["all", "advertising", "night_advertising"];
/// What may be said something about of one number, before no more custom channels and purposes are taken: traits name them, and whoever may
/// send events may think of any number of names.
pub const TOPICS_MAX: usize = 100;

/// Ends of the names of traits that are statements, and their purposes; the longer first.
const PURPOSES: [(&str, &str); 3] = [("_night_ads_optin", "night_advertising"), ("_ads_optin", "advertising"), ("_optin", "all")];

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// How the person is messaged.
    pub channel: String,
    /// To what end.
    pub purpose: String,
    /// Agreed, or refused.
    pub granted: bool,
    /// When the person said so.
    pub time_us: i64,
    /// How it is known.
    pub source: String,
    /// What shows it.
    pub proof: String,
}

impl Consent {
    /// What a boolean trait says, if its name makes it a statement.
    pub fn of_trait(name: &str, granted: bool, time_us: i64) -> Option<Self> {
        let rest = name.strip_prefix("df_")?;
        let (channel, purpose) = PURPOSES.iter().find_map(|(end, purpose)| Some((rest.strip_suffix(end)?, *purpose)))?;
        is_name(channel).then(|| Consent {
            channel: channel.to_owned(),
            purpose: purpose.to_owned(),
            granted,
            time_us,
            source: BY_TRAIT.to_owned(),
            proof: name.to_owned(),
        })
    }

    /// Of everything but the time: tells statements of one moment apart, and decides between equal ones.
    pub fn digest(&self) -> i64 {
        let mut hasher = Xxh3::new();
        for text in [&self.channel, &self.purpose, &self.source, &self.proof] {
            hasher.update(text.as_bytes());
            hasher.update(&[0xff]); // never part of UTF-8, so texts cannot run together
        }
        hasher.update(&[u8::from(self.granted)]);
        hasher.digest() as i64
    }

    /// Whether this one holds rather than `other`, which is about the same.
    pub fn wins_over(&self, other: &Consent) -> bool {
        let rank = |consent: &Consent| (consent.time_us, !consent.granted);
        (rank(self), self.digest()) > (rank(other), other.digest())
    }

    /// Whether a trait says again what it said before.
    fn repeats(&self, other: &Consent) -> bool {
        self.source == BY_TRAIT && other.source == BY_TRAIT && self.granted == other.granted
    }

    /// Its channel or purpose is one that somebody thought of.
    pub fn is_custom(&self) -> bool {
        !CHANNELS.contains(&self.channel.as_str()) || !COMMON_PURPOSES.contains(&self.purpose.as_str())
    }

    /// As the contract says it.
    pub fn into_proto(self) -> ConsentProto {
        let state = if self.granted { ConsentState::Granted } else { ConsentState::Refused };
        ConsentProto {
            channel: self.channel,
            purpose: self.purpose,
            state: state.into(),
            time: Some(crate::store::timestamp(self.time_us)),
            source: self.source,
            proof: self.proof,
        }
    }
}

/// Whether a channel or purpose may be called so.
pub fn is_name(name: &str) -> bool {
    // The same as for kinds of identifiers.
    segue_model::identifier::is_kind(name)
}

/// Whose statement about what: number, channel, purpose.
pub type Topic = (u32, String, String);

/// What holds of some topics, while statements are added.
#[derive(Debug, Default)]
pub struct Ledger {
    holds: BTreeMap<Topic, Consent>,
    changed: BTreeSet<Topic>,
    kept: Vec<(u32, Consent)>,
}

impl Ledger {
    /// Begins with what holds so far, one per topic.
    pub fn new(held: impl IntoIterator<Item = (u32, Consent)>) -> Self {
        let holds = held.into_iter().map(|(person, consent)| (topic(person, &consent), consent)).collect();
        Self { holds, ..Self::default() }
    }

    /// Whether something was said about it.
    pub fn knows(&self, topic: &Topic) -> bool {
        self.holds.contains_key(topic)
    }

    /// Adds what was said of a person.
    pub fn add(&mut self, person: u32, said: Consent) {
        let topic = topic(person, &said);
        let Some(known) = self.holds.get_mut(&topic) else {
            self.kept.push((person, said.clone()));
            self.changed.insert(topic.clone());
            self.holds.insert(topic, said);
            return;
        };
        if said == *known {
            return;
        }
        let (wins, repeats) = (said.wins_over(known), said.repeats(known));
        if !repeats {
            if wins {
                // The last of a trait that went on saying the same.
                self.kept.push((person, known.clone()));
            }
            self.kept.push((person, said.clone()));
        }
        if wins {
            *known = said;
            self.changed.insert(topic);
        }
    }

    /// What holds now and did not before, by topic.
    pub fn changed(&self) -> impl Iterator<Item = (u32, &Consent)> {
        self.changed.iter().filter_map(|topic| self.holds.get(topic).map(|consent| (topic.0, consent)))
    }

    /// What is to be kept besides what holds; some of it may be kept already.
    pub fn kept(&self) -> &[(u32, Consent)] {
        &self.kept
    }
}

/// The topic of a statement.
pub fn topic(person: u32, consent: &Consent) -> Topic {
    (person, consent.channel.clone(), consent.purpose.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(granted: bool, time_us: i64, source: &str) -> Consent {
        let (channel, purpose, source) = ("push".to_owned(), "advertising".to_owned(), source.to_owned());
        Consent { channel, purpose, granted, time_us, source, proof: String::new() }
    }

    #[test]
    fn the_name_of_a_trait_says_channel_and_purpose() {
        let topic = |name: &str| Consent::of_trait(name, true, 1).map(|consent| (consent.channel, consent.purpose));
        let expect = |channel: &str, purpose: &str| Some((channel.to_owned(), purpose.to_owned()));
        assert_eq!(topic("df_push_optin"), expect("push", "all"));
        assert_eq!(topic("df_push_ads_optin"), expect("push", "advertising"));
        assert_eq!(topic("df_push_night_ads_optin"), expect("push", "night_advertising"));
        assert_eq!(topic("df_in_app_ads_optin"), expect("in_app", "advertising"));
        assert_eq!(topic("df_our_letters_optin"), expect("our_letters", "all"));
        for name in ["push_optin", "df_optin", "df__optin2", "df_push_opt", "df_Push_optin", "df_push optin", "df_gender"] {
            assert_eq!(topic(name), None, "{name}");
        }
    }

    #[test]
    fn the_later_statement_holds_and_of_equal_times_the_refusal() {
        assert!(said(true, 2, "api").wins_over(&said(false, 1, "api")));
        assert!(said(false, 1, "api").wins_over(&said(true, 1, "api")));
        assert!(!said(true, 1, "zzz").wins_over(&said(false, 1, "api")));
        assert!(!said(true, 1, "api").wins_over(&said(true, 1, "api")));
    }

    #[test]
    fn of_a_trait_that_goes_on_saying_the_same_the_first_and_the_last_are_kept() {
        let mut ledger = Ledger::default();
        for (granted, time_us) in [(true, 1), (true, 2), (true, 3), (false, 9), (false, 9)] {
            ledger.add(1, said(granted, time_us, BY_TRAIT));
        }
        let kept: Vec<(bool, i64)> = ledger.kept().iter().map(|(_, consent)| (consent.granted, consent.time_us)).collect();
        assert_eq!(kept, [(true, 1), (true, 3), (false, 9)]);
        assert_eq!(ledger.changed().map(|(_, consent)| consent.time_us).collect::<Vec<_>>(), [9]);
    }

    proptest! {
        #[test]
        fn what_holds_depends_on_no_order_and_only_repetitions_are_forgotten(
            statements in prop::collection::vec((1..3u32, any::<bool>(), 0..6i64, 0..3usize), 1..30),
            cut in 0..30usize,
        ) {
            let sources = [BY_TRAIT, "api", "import"];
            let all: Vec<(u32, Consent)> =
                statements.into_iter().map(|(person, granted, time_us, source)| (person, said(granted, time_us, sources[source]))).collect();
            // In two transactions.
            let cut = cut.min(all.len());
            let mut first = Ledger::default();
            all[..cut].iter().for_each(|(person, said)| first.add(*person, said.clone()));
            let mut second = Ledger::new(first.changed().map(|(person, consent)| (person, consent.clone())));
            all[cut..].iter().for_each(|(person, said)| second.add(*person, said.clone()));
            let mut whole = Ledger::default();
            all.iter().for_each(|(person, said)| whole.add(*person, said.clone()));
            prop_assert_eq!(&second.holds, &whole.holds);
            let kept = [first.kept, second.kept].concat();
            prop_assert_eq!(&kept, &whole.kept);

            for (topic, holds) in &whole.holds {
                let best = all.iter().filter(|(person, _)| *person == topic.0).map(|(_, said)| said);
                let best = best.reduce(|best, said| if said.wins_over(best) { said } else { best });
                prop_assert_eq!(best, Some(holds));
            }
            let known = |wanted: &(u32, Consent)| kept.contains(wanted) || whole.holds.get(&topic(wanted.0, &wanted.1)) == Some(&wanted.1);
            prop_assert!(all.iter().filter(|(_, said)| said.source != BY_TRAIT).all(known));
            prop_assert!(kept.iter().all(|row| all.contains(row)));
        }
    }
}
