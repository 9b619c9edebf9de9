//! What a definition names elsewhere: templates, channels, audiences, lists, and conditions that others read.

use std::collections::BTreeMap;

use prost::Message;
use segue_proto::campaign::v1::{ChannelKind, ScenarioDefinition, ScenarioFault, entry, exit_rule, step};
use segue_proto::query::v1::Condition;

/// Everything that a definition names, with the paths where it does. Names that are left out are left out here too: that they are missing
/// is seen without looking elsewhere.
#[derive(Debug, Default)]
pub(super) struct Named<'d> {
    pub(super) messages: Vec<NamedMessage<'d>>,
    pub(super) audiences: BTreeMap<&'d str, Vec<String>>,
    pub(super) lists: BTreeMap<&'d str, Vec<String>>,
    /// By their encoded form, so that each is looked at once.
    pub(super) conditions: BTreeMap<Vec<u8>, (&'d Condition, Vec<String>)>,
}

/// A step that sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedMessage<'d> {
    pub(super) path: String,
    /// Rather than a message to a person.
    pub(super) is_webhook: bool,
    pub(super) channel: &'d str,
    pub(super) template: &'d str,
}

/// What there is under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There<T> {
    Nothing,
    Archived,
    It(T),
}

/// Everything that a definition names. Paths begin with `definition`.
pub(super) fn named(definition: &ScenarioDefinition) -> Named<'_> {
    let mut named = Named::default();
    if let Some(entry) = &definition.entry {
        match &entry.on {
            Some(entry::On::Audience(audience)) => named.audience("definition.entry.audience.audience", &audience.audience),
            Some(entry::On::Schedule(schedule)) => {
                named.audience("definition.entry.schedule.audience", &schedule.audience);
                named.condition("definition.entry.schedule.condition", schedule.condition.as_ref());
            }
            Some(entry::On::Event(_) | entry::On::Call(_)) | None => {}
        }
        named.condition("definition.entry.only_if", entry.only_if.as_ref());
    }
    for (at, step) in definition.steps.iter().enumerate() {
        if let Some(kind) = &step.kind {
            named.step(&format!("definition.steps[{at}]"), kind);
        }
    }
    for (at, exit) in definition.exits.iter().enumerate() {
        if let Some(exit_rule::On::Audience(audience)) = &exit.on {
            named.audience(&format!("definition.exits[{at}].audience.audience"), &audience.audience);
        }
    }
    named
}

impl<'d> Named<'d> {
    fn step(&mut self, path: &str, kind: &'d step::Kind) {
        match kind {
            step::Kind::Message(message) => {
                let path = format!("{path}.message");
                self.messages.push(NamedMessage { path, is_webhook: false, channel: &message.channel, template: &message.template });
            }
            step::Kind::Webhook(webhook) => {
                let path = format!("{path}.webhook");
                self.messages.push(NamedMessage { path, is_webhook: true, channel: &webhook.channel, template: &webhook.template });
            }
            step::Kind::Branch(branch) => {
                for (at, arm) in branch.arms.iter().enumerate() {
                    self.condition(&format!("{path}.branch.arms[{at}].condition"), arm.condition.as_ref());
                }
            }
            step::Kind::List(list) if !list.list.is_empty() => {
                self.lists.entry(&list.list).or_default().push(format!("{path}.list.list"));
            }
            step::Kind::Wait(_)
            | step::Kind::Split(_)
            | step::Kind::Experiment(_)
            | step::Kind::UpdateTrait(_)
            | step::Kind::List(_)
            | step::Kind::End(_) => {}
        }
    }

    fn audience(&mut self, path: &str, id: &'d str) {
        if !id.is_empty() {
            self.audiences.entry(id).or_default().push(path.to_owned());
        }
    }

    fn condition(&mut self, path: &str, condition: Option<&'d Condition>) {
        if let Some(condition) = condition {
            self.conditions.entry(condition.encode_to_vec()).or_insert_with(|| (condition, Vec::new())).1.push(path.to_owned());
        }
    }
}

/// What is wrong with the templates and channels of steps that send, given their kinds (of templates, a partial has none).
pub(super) fn message_faults(
    messages: &[NamedMessage<'_>],
    templates: &BTreeMap<&str, Option<ChannelKind>>,
    channels: &BTreeMap<&str, Option<ChannelKind>>,
) -> Vec<ScenarioFault> {
    let mut faults = Vec::new();
    for NamedMessage { path, is_webhook, channel, template } in messages {
        let channel_kind = channels.get(channel).copied().flatten();
        let wrong_channel = match channel_kind {
            _ if channel.is_empty() => None,
            None => Some(format!("there is no channel `{channel}`: create it, or name another one")),
            Some(ChannelKind::Webhook) if !is_webhook => {
                Some(format!("the channel `{channel}` is of the kind WEBHOOK: use a webhook step, or a channel that reaches persons"))
            }
            Some(kind) if *is_webhook && kind != ChannelKind::Webhook => {
                Some(format!("the channel `{channel}` is of the kind {}: use a message step, or a channel of the kind WEBHOOK", name(kind)))
            }
            Some(_) => None,
        };
        let template_kind = templates.get(template).copied().flatten();
        // A channel that is no right one says nothing of what the template should be; that the step is a webhook does.
        let wanted = if *is_webhook { Some(ChannelKind::Webhook) } else { channel_kind.filter(|_| wrong_channel.is_none()) };
        let wrong_template = match (template_kind, wanted) {
            _ if template.is_empty() => None,
            (None, _) => Some(format!("there is no template `{template}`, or it is archived: create it, or name another one")),
            (Some(ChannelKind::Unspecified), _) => {
                Some(format!("the template `{template}` is a part for other templates: name a whole one"))
            }
            (Some(kind), Some(wanted)) if kind != wanted => {
                Some(format!("the template `{template}` is for {}, and the message is sent by {}", name(kind), name(wanted)))
            }
            (Some(_), _) => None,
        };
        faults.extend(wrong_channel.map(|message| ScenarioFault { field: format!("{path}.channel"), message }));
        faults.extend(wrong_template.map(|message| ScenarioFault { field: format!("{path}.template"), message }));
    }
    faults
}

/// What is wrong with named audiences or lists (`what`), given what there is.
pub(super) fn missing_faults(what: &str, named: &BTreeMap<&str, Vec<String>>, there: &BTreeMap<&str, There<()>>) -> Vec<ScenarioFault> {
    let mut faults = Vec::new();
    for (id, paths) in named {
        let message = match there.get(id) {
            Some(There::It(())) => continue,
            Some(There::Archived) => format!("the {what} `{id}` is archived: take it back into use, or name another one"),
            Some(There::Nothing) | None => format!("there is no {what} `{id}`: create it, or name another one"),
        };
        faults.extend(paths.iter().map(|path| ScenarioFault { field: path.clone(), message: message.clone() }));
    }
    faults
}

/// The path of a fault of a condition that stands at `path`, where whoever looked at it called it `condition`.
pub(super) fn at(path: &str, field: &str) -> String {
    match field.strip_prefix("condition") {
        Some(below) if below.starts_with('.') => format!("{path}{below}"),
        // Of the whole, or of something that only the condition can be at fault for.
        Some(_) | None => path.to_owned(),
    }
}

fn name(kind: ChannelKind) -> &'static str {
    let name = kind.as_str_name();
    name.strip_prefix("CHANNEL_KIND_").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use segue_proto::campaign::v1::{
        AudienceEntry, BranchArm, BranchStep, Entry, ExitRule, ListStep, MessageStep, ScheduleEntry, Step, WebhookStep,
    };
    use segue_proto::query::v1::{HasIdentifier, condition};

    use super::*;

    fn has(kind: &str) -> Condition {
        Condition { node: Some(condition::Node::HasIdentifier(HasIdentifier { kind: kind.to_owned() })) }
    }

    fn step(kind: step::Kind) -> Step {
        Step { kind: Some(kind), ..Step::default() }
    }

    fn message(channel: &str, template: &str) -> Step {
        let (channel, template) = (channel.to_owned(), template.to_owned());
        step(step::Kind::Message(MessageStep { channel, template, ..MessageStep::default() }))
    }

    fn webhook(channel: &str, template: &str) -> Step {
        let (channel, template) = (channel.to_owned(), template.to_owned());
        step(step::Kind::Webhook(WebhookStep { channel, template, ..WebhookStep::default() }))
    }

    fn list(list: &str) -> Step {
        step(step::Kind::List(ListStep { list: list.to_owned(), remove: false }))
    }

    fn told(faults: &[ScenarioFault]) -> Vec<(&str, &str)> {
        faults.iter().map(|fault| (fault.field.as_str(), fault.message.as_str())).collect()
    }

    #[test]
    fn everything_that_is_named_is_found_once_with_all_its_paths() {
        let schedule = ScheduleEntry { audience: "a".to_owned(), condition: Some(has("email")), ..ScheduleEntry::default() };
        let arms = [has("phone"), has("email")].map(|condition| BranchArm { condition: Some(condition), next: String::new() });
        let branch = step(step::Kind::Branch(BranchStep { arms: [&arms[..], &[BranchArm::default()]].concat() }));
        let left = AudienceEntry { audience: "a".to_owned(), on_leaving: true };
        let definition = ScenarioDefinition {
            entry: Some(Entry { on: Some(entry::On::Schedule(schedule)), only_if: Some(has("email")) }),
            steps: vec![Step::default(), branch, list("l"), list(""), list("l"), message("c", ""), webhook("w", "t")],
            exits: vec![ExitRule::default(), ExitRule { on: Some(exit_rule::On::Audience(left)), ..ExitRule::default() }],
            ..ScenarioDefinition::default()
        };
        let named = named(&definition);
        let paths = |paths: &[&str]| paths.iter().map(|path| format!("definition.{path}")).collect::<Vec<_>>();
        assert_eq!(named.audiences, BTreeMap::from([("a", paths(&["entry.schedule.audience", "exits[1].audience.audience"]))]));
        assert_eq!(named.lists, BTreeMap::from([("l", paths(&["steps[2].list.list", "steps[4].list.list"]))]));
        let email = paths(&["entry.schedule.condition", "entry.only_if", "steps[1].branch.arms[1].condition"]);
        let phone = paths(&["steps[1].branch.arms[0].condition"]);
        let conditions: Vec<_> = named.conditions.into_values().map(|(condition, paths)| (condition.clone(), paths)).collect();
        assert_eq!(conditions.len(), 2);
        assert!(conditions.contains(&(has("email"), email)) && conditions.contains(&(has("phone"), phone)), "{conditions:?}");
        let expected = [("definition.steps[5].message", false, "c", ""), ("definition.steps[6].webhook", true, "w", "t")]
            .map(|(path, is_webhook, channel, template)| NamedMessage { path: path.to_owned(), is_webhook, channel, template });
        assert_eq!(named.messages, expected);
    }

    #[test]
    fn an_audience_entry_names_its_audience() {
        let entry = entry::On::Audience(AudienceEntry { audience: "a".to_owned(), on_leaving: false });
        let definition = ScenarioDefinition { entry: Some(Entry { on: Some(entry), only_if: None }), ..ScenarioDefinition::default() };
        assert_eq!(named(&definition).audiences, BTreeMap::from([("a", vec!["definition.entry.audience.audience".to_owned()])]));
    }

    #[test]
    fn templates_and_channels_have_to_be_there_and_fit_each_other_and_the_step() {
        let definition = ScenarioDefinition {
            steps: vec![
                message("mail", "hello"),
                message("sms", "hello"),
                message("none", "none"),
                message("hook", "call"),
                webhook("hook", "call"),
                webhook("mail", "hello"),
                message("mail", "footer"),
                message("", ""),
            ],
            ..ScenarioDefinition::default()
        };
        let templates = BTreeMap::from([
            ("hello", Some(ChannelKind::Email)),
            ("call", Some(ChannelKind::Webhook)),
            ("footer", Some(ChannelKind::Unspecified)),
            ("none", None),
        ]);
        let channels = BTreeMap::from([
            ("mail", Some(ChannelKind::Email)),
            ("sms", Some(ChannelKind::Sms)),
            ("hook", Some(ChannelKind::Webhook)),
            ("none", None),
        ]);
        let faults = message_faults(&named(&definition).messages, &templates, &channels);
        let path = |at: usize, field: &str| format!("definition.steps[{at}].{field}");
        let expected = [
            path(1, "message.template"),
            path(2, "message.channel"),
            path(2, "message.template"),
            path(3, "message.channel"),
            path(5, "webhook.channel"),
            path(5, "webhook.template"),
            path(6, "message.template"),
        ];
        assert_eq!(faults.iter().map(|fault| fault.field.clone()).collect::<Vec<_>>(), expected);
        assert_eq!(faults[0].message, "the template `hello` is for EMAIL, and the message is sent by SMS");
    }

    #[test]
    fn what_is_missing_or_archived_is_told_at_every_path() {
        let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        let named = BTreeMap::from([("gone", paths(&["p", "q"])), ("here", paths(&["r"])), ("old", paths(&["s"])), ("odd", paths(&["t"]))]);
        let there = BTreeMap::from([("gone", There::Nothing), ("here", There::It(())), ("old", There::Archived)]);
        let faults = missing_faults("audience", &named, &there);
        let gone = "there is no audience `gone`: create it, or name another one";
        let expected = [
            ("p", gone),
            ("q", gone),
            ("t", "there is no audience `odd`: create it, or name another one"),
            ("s", "the audience `old` is archived: take it back into use, or name another one"),
        ];
        assert_eq!(told(&faults), expected);
    }

    #[test]
    fn faults_of_a_condition_are_at_its_path_in_the_definition() {
        let path = "definition.steps[0].branch.arms[1].condition";
        for (there, here) in [
            ("condition", path.to_owned()),
            ("condition.all.conditions[0].behavior.on", format!("{path}.all.conditions[0].behavior.on")),
            ("conditions", path.to_owned()),
            ("time_zone", path.to_owned()),
            ("", path.to_owned()),
        ] {
            assert_eq!(at(path, there), here);
        }
    }
}
