//! Holding an event against the tenant's taxonomy: known names, types, lengths, required properties.

use std::collections::HashMap;

use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{Event, EventKind, Item, Value};
use segue_proto::ingest::v1::{Reason, ReasonCode};

use super::reason;
use super::shape::{TEXT_BYTES_MAX, shown};
use crate::taxonomy::coerce::{self, Coerced};
use crate::taxonomy::{Mode, NewNames, Scope, Snapshot};

/// What the taxonomy says about an event.
pub(super) struct Findings {
    pub(super) faults: Vec<Reason>,
    pub(super) warnings: Vec<Reason>,
    pub(super) unregistered: Vec<String>,
    /// Names were found that are to be registered.
    pub(super) is_new: bool,
}

struct Check<'a> {
    snapshot: &'a Snapshot,
    new: Option<&'a mut NewNames>,
    findings: Findings,
}

/// Checks, and brings values to their registered types. Names that are to be registered go to `new`, where it is given.
pub(super) fn check(event: &mut Event, snapshot: &Snapshot, faults: Vec<Reason>, new: Option<&mut NewNames>) -> Findings {
    let findings = Findings { faults, warnings: Vec::new(), unregistered: Vec::new(), is_new: false };
    let mut check = Check { snapshot, new, findings };
    check.name(event);
    check.values(Scope::Event, &mut event.properties, |name| format!("properties.{}", shown(name)));
    for (at, item) in event.items.iter_mut().enumerate() {
        lift_standard(item);
        check.values(Scope::Item, &mut item.properties, |name| format!("items[{at}].properties.{}", shown(name)));
    }
    let path = |name: &str| format!("traits.{}", shown(name));
    if event.kind == i32::from(EventKind::Group) {
        // Traits of an account are no person's: the taxonomy does not know them.
        for (name, value) in &mut event.traits {
            check.untyped(value, TEXT_BYTES_MAX, || path(name));
        }
    } else {
        check.values(Scope::Person, &mut event.traits, path);
    }
    check.findings
}

impl Check<'_> {
    fn name(&mut self, event: &Event) {
        let has_definition = [EventKind::Unspecified, EventKind::Track, EventKind::Page, EventKind::Screen];
        if event.name.is_empty() || !has_definition.iter().any(|kind| event.kind == i32::from(*kind)) {
            return;
        }
        let Some(definition) = self.snapshot.event(&event.name) else {
            match self.snapshot.mode() {
                Mode::Open => {
                    if self.snapshot.may_infer_events() {
                        self.register(|new| new.event(&event.name));
                    }
                }
                Mode::Warn => self.warn(ReasonCode::UnknownEvent, "name".to_owned(), "the event"),
                Mode::Strict => self.refuse(ReasonCode::UnknownEvent, "name".to_owned(), "the event"),
            }
            return;
        };
        if definition.archived {
            match self.snapshot.mode() {
                Mode::Open => {}
                Mode::Warn => self.warn(ReasonCode::UnknownEvent, "name".to_owned(), "the event"),
                Mode::Strict => self.refuse(ReasonCode::UnknownEvent, "name".to_owned(), "the event"),
            }
        }
        for required in &definition.required_properties {
            if !event.properties.contains_key(required) {
                let message = format!("the taxonomy requires it for `{}`", definition.name);
                self.findings.faults.push(reason(ReasonCode::MissingProperty, format!("properties.{required}"), message));
            }
        }
    }

    fn values(&mut self, scope: Scope, values: &mut HashMap<String, Value>, path: impl Fn(&str) -> String) {
        for (name, value) in values {
            let Some(property) = self.snapshot.property(scope, name) else {
                let good = self.untyped(value, TEXT_BYTES_MAX, || path(name));
                self.unknown(scope, name, value, good, &path);
                continue;
            };
            if property.archived && self.snapshot.mode() != Mode::Open {
                self.unknown(scope, name, value, true, &path);
                continue;
            }
            match coerce::to_type(value, property.value_type) {
                Coerced::Fits => {
                    self.untyped(value, property.string_bytes_max as usize, || path(name));
                }
                Coerced::Mismatch(message) => self.findings.faults.push(reason(ReasonCode::TypeMismatch, path(name), message)),
            }
        }
    }

    fn unknown(&mut self, scope: Scope, name: &str, value: &Value, good: bool, path: &impl Fn(&str) -> String) {
        match self.snapshot.mode() {
            Mode::Open => {
                if good && self.snapshot.may_infer_properties() {
                    self.register(|new| new.property(scope, name, coerce::infer(value)));
                }
            }
            Mode::Warn => self.warn(ReasonCode::UnknownProperty, path(name), "the property"),
            Mode::Strict => self.refuse(ReasonCode::UnknownProperty, path(name), "the property"),
        }
        if scope == Scope::Event {
            self.findings.unregistered.push(name.to_owned());
        }
    }

    fn register(&mut self, add: impl FnOnce(&mut NewNames)) {
        if let Some(new) = &mut self.new {
            add(new);
            self.findings.is_new = true;
        }
    }

    fn warn(&mut self, code: ReasonCode, field: String, what: &str) {
        self.findings.warnings.push(reason(code, field, format!("{what} is not in the taxonomy: register it, or send another name")));
    }

    fn refuse(&mut self, code: ReasonCode, field: String, what: &str) {
        self.findings.faults.push(reason(code, field, format!("{what} is not in the taxonomy, whose mode is strict: register it first")));
    }

    /// What holds for values of any type. Answers whether it does.
    fn untyped(&mut self, value: &Value, text_bytes_max: usize, path: impl Fn() -> String) -> bool {
        let fault = match &value.kind {
            None => Some((ReasonCode::InvalidValue, "the value is empty: leave the property out".to_owned())),
            Some(Kind::StringValue(text)) if text.len() > text_bytes_max => {
                Some((ReasonCode::TooLong, format!("{} bytes: use at most {text_bytes_max}, or register a larger limit", text.len())))
            }
            Some(Kind::DoubleValue(number)) if !number.is_finite() => Some((ReasonCode::InvalidValue, "not a finite number".to_owned())),
            Some(Kind::TimestampValue(time)) if super::time::micros(time).is_none() => {
                Some((ReasonCode::InvalidValue, "not a time between the years 1 and 9999".to_owned()))
            }
            Some(Kind::JsonValue(text)) if !coerce::is_json(text) => Some((ReasonCode::Unreadable, "not JSON".to_owned())),
            Some(
                Kind::StringValue(_)
                | Kind::IntValue(_)
                | Kind::DoubleValue(_)
                | Kind::BoolValue(_)
                | Kind::DecimalE4Value(_)
                | Kind::TimestampValue(_)
                | Kind::JsonValue(_),
            ) => None,
        };
        let Some((code, message)) = fault else { return true };
        self.findings.faults.push(reason(code, path(), message));
        false
    }
}

/// Moves standard item properties that stand among the custom ones (`df_price`) to their fields, where these are free. What
/// does not fit its field stays, and is then told to be of the wrong type.
fn lift_standard(item: &mut Item) {
    if item.properties.is_empty() {
        return;
    }
    let texts = [
        ("df_item_id", &mut item.item_id),
        ("df_item_name", &mut item.name),
        ("df_brand", &mut item.brand),
        ("df_variant", &mut item.variant),
        ("df_coupon", &mut item.coupon),
    ];
    for (name, field) in texts {
        if field.is_empty()
            && let Some(Value { kind: Some(Kind::StringValue(text)) }) = item.properties.get_mut(name)
        {
            *field = std::mem::take(text);
            item.properties.remove(name);
        }
    }
    for (name, field) in [("df_price", &mut item.price_e4), ("df_discount", &mut item.discount_e4)] {
        if field.is_none()
            && let Some(value) = item.properties.get_mut(name)
            && let Coerced::Fits = coerce::to_type(value, segue_model::catalogue::ValueType::Decimal)
            && let Some(Kind::DecimalE4Value(e4)) = value.kind
        {
            *field = Some(e4);
            item.properties.remove(name);
        }
    }
    if item.quantity.is_none()
        && let Some(Value { kind: Some(Kind::IntValue(quantity)) }) = item.properties.get("df_quantity")
    {
        item.quantity = Some(*quantity);
        item.properties.remove("df_quantity");
    }
    const CATEGORIES: [&str; 5] = ["df_category1", "df_category2", "df_category3", "df_category4", "df_category5"];
    if item.categories.is_empty() {
        // In order, up to the first that is missing: a category has its place.
        for name in CATEGORIES {
            let Some(Value { kind: Some(Kind::StringValue(text)) }) = item.properties.get_mut(name) else { break };
            item.categories.push(std::mem::take(text));
            item.properties.remove(name);
        }
    }
}
