//! Filling in. A blank takes a value of its kind, written as such: whatever a value contains, it stays one value of the condition.

use std::collections::HashMap;

use segue_model::{Decimal4, FieldViolation, decimal};
use segue_proto::events::v1::{Value, value};
use segue_proto::query::v1::Condition;

use super::catalogue::{Blank, BlankKind, Known};
use crate::conditions::text_of;
use crate::error::AudienceError;

/// Bytes of one parameter: what is filled in stays within what a text may have, however much of it is escaped.
const PARAMETER_BYTES_MAX: usize = 4_096;
/// Bytes of one text.
const TEXT_BYTES_MAX: usize = 1_024;
/// Of a span.
const SPAN_COUNT_MAX: u32 = 100_000;

/// The condition of a template and its text, with these parameters and the defaults of the others. All faults at once.
pub(super) fn fill(known: &Known, parameters: &HashMap<String, String>) -> Result<(Condition, String), AudienceError> {
    let mut faults = Vec::new();
    let mut unknown: Vec<&String> = parameters.keys().filter(|name| known.blanks.iter().all(|blank| blank.name != **name)).collect();
    unknown.sort();
    for name in unknown {
        let names: Vec<&str> = known.blanks.iter().map(|blank| blank.name).collect();
        faults.push(fault(name, format!("the template `{}` has no such blank; it has {}", known.id, names.join(", "))));
    }
    let mut filled = HashMap::new();
    for blank in known.blanks {
        let given = parameters.get(blank.name).map_or(blank.default, String::as_str);
        match written(blank, given) {
            Ok(text) => {
                filled.insert(blank.name, text);
            }
            Err(description) => faults.push(fault(blank.name, description)),
        }
    }
    if !faults.is_empty() {
        return Err(AudienceError::Invalid(faults));
    }
    let condition =
        segue_query::parse(&put_in(known.text, &filled)).map_err(|error| AudienceError::field("parameters", error.summary()))?;
    let text = text_of(&condition, "template")?;
    Ok((condition, text))
}

fn fault(parameter: &str, description: String) -> FieldViolation {
    FieldViolation::new(format!("parameters.{parameter}"), description)
}

/// The text with what is filled in, which is not looked at for blanks again.
fn put_in(text: &str, filled: &HashMap<&str, String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, (name, behind))) = rest.split_once('{').and_then(|(before, from)| Some((before, from.split_once('}')?))) {
        result.push_str(before);
        result.push_str(filled.get(name).map(String::as_str).unwrap_or_default());
        rest = behind;
    }
    result + rest
}

/// A value as the text form writes it.
fn written(blank: &Blank, given: &str) -> Result<String, String> {
    if given.len() > PARAMETER_BYTES_MAX {
        return Err(format!("at most {PARAMETER_BYTES_MAX} bytes, {} given", given.len()));
    }
    match blank.kind {
        BlankKind::Text => text(given),
        BlankKind::Texts => {
            let texts = given.split(',').map(text).collect::<Result<Vec<String>, String>>()?;
            Ok(if texts.len() == 1 { texts.concat() } else { format!("one of ({})", texts.join(", ")) })
        }
        BlankKind::Decimal => {
            let Decimal4(e4) = given.trim().parse().map_err(|error| format!("`{given}`: {error}"))?;
            let is_whole = e4 % decimal::SCALE == 0;
            value(if is_whole { value::Kind::IntValue(e4 / decimal::SCALE) } else { value::Kind::DecimalE4Value(e4) })
        }
        BlankKind::Span => {
            let span = segue_query::parse_span(given).map_err(|error| format!("write it like 3 months: {}", error.summary()))?;
            if !(1..=SPAN_COUNT_MAX).contains(&span.count) {
                return Err(format!("`{given}`: between 1 and {SPAN_COUNT_MAX} of a unit"));
            }
            segue_query::format_span(&span).map_err(|error| error.to_string())
        }
    }
}

fn text(given: &str) -> Result<String, String> {
    match given.trim() {
        "" => Err("nothing stands there, or between two commas: give a text".to_owned()),
        text if text.len() > TEXT_BYTES_MAX => Err(format!("a text has at most {TEXT_BYTES_MAX} bytes, {} given", text.len())),
        text => value(value::Kind::StringValue(text.to_owned())),
    }
}

fn value(kind: value::Kind) -> Result<String, String> {
    segue_query::format_value(&Value { kind: Some(kind) }).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use segue_proto::query::v1::condition::Node;
    use segue_proto::query::v1::{Filter, Operator, filter};

    use super::super::catalogue::TEMPLATES;
    use super::*;

    fn known(id: &str) -> &'static Known {
        TEMPLATES.iter().find(|known| known.id == id).expect("a template")
    }

    fn of(parameters: &[(&str, &str)]) -> HashMap<String, String> {
        parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn filled(id: &str, parameters: &[(&str, &str)]) -> String {
        fill(known(id), &of(parameters)).expect("filled in").1
    }

    #[test]
    fn every_template_says_with_its_defaults_what_the_acceptance_case_says() {
        let texts: Vec<(&str, String)> = TEMPLATES.iter().map(|known| (known.id, filled(known.id, &[]))).collect();
        let expected = [
            ("opened_without_sign_up", "did df_app_open within 3 months and never did df_sign_up"),
            ("acquired_by_ads_without_sign_up", "last touch within 1 month where ad_partner exists and never did df_sign_up"),
            (
                "acquired_by_search_without_product",
                "last touch within 1 month where channel_group is \"search_ad\" \
                 and never did df_purchase where any item item_name contains any of (\"stroller\", \"cradle\")",
            ),
            ("opened_without_purchase", "did df_app_open within 3 months and never did df_purchase within 3 months"),
            (
                "spent_on_category",
                "did df_purchase of items where category1 is \"childcare\" with sum of price × quantity at least 1000000 within 6 months",
            ),
            (
                "campaign_bought_something_else",
                "last touch where ad_campaign is \"jewellery\" and did df_purchase where any item category1 is not \"jewellery\"",
            ),
            (
                "campaign_bought_without_it",
                "last touch where ad_campaign is \"jewellery\" and did df_purchase where no item category1 is \"jewellery\"",
            ),
        ];
        assert_eq!(texts, expected.map(|(id, text)| (id, text.to_owned())));
    }

    #[test]
    fn every_blank_is_used_and_every_blank_used_is_there() {
        for known in TEMPLATES {
            let used: std::collections::BTreeSet<&str> =
                known.text.split('{').skip(1).map(|from| from.split('}').next().expect("its end")).collect();
            assert_eq!(used, known.blanks.iter().map(|blank| blank.name).collect(), "{}", known.id);
        }
    }

    #[test]
    fn parameters_take_the_place_of_defaults() {
        let spent = [("categories", "toys, 육아 "), ("amount", "12.50"), ("within", "30  days")];
        assert_eq!(
            filled("spent_on_category", &spent),
            "did df_purchase of items where category1 is one of (\"toys\", \"육아\") with sum of price × quantity at least 12.5 within 30 days"
        );
        assert_eq!(
            filled("opened_without_purchase", &[("within", "1 week")]),
            "did df_app_open within 1 week and never did df_purchase within 1 week"
        );
    }

    #[test]
    fn wrong_parameters_are_faults_all_at_once() {
        let wrong = [("categories", "toys,,"), ("amount", "1.23456"), ("within", "soon"), ("what", "x"), ("who", "y")];
        let Err(AudienceError::Invalid(faults)) = fill(known("spent_on_category"), &of(&wrong)) else { panic!("filled in") };
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["parameters.what", "parameters.who", "parameters.categories", "parameters.amount", "parameters.within"]);
        let faults: Vec<&str> = faults.iter().map(|fault| fault.description.as_str()).collect();
        let expected = [
            "the template `spent_on_category` has no such blank; it has categories, amount, within",
            "the template `spent_on_category` has no such blank; it has categories, amount, within",
            "nothing stands there, or between two commas: give a text",
            "`1.23456`: more than four digits after the decimal point",
            "write it like 3 months: at character 1: found `soon`, expected a whole number",
        ];
        assert_eq!(faults, expected);
        let long = "a".repeat(1_025);
        for (name, value) in
            [("categories", long.as_str()), ("within", "0 days"), ("within", "100001 days"), ("within", ""), ("amount", "1e30")]
        {
            assert!(matches!(fill(known("spent_on_category"), &of(&[(name, value)])), Err(AudienceError::Invalid(_))), "{name}: {value}");
        }
    }

    /// Everything of the condition but the values that its tests of events compare with, and those.
    fn taken_apart(mut condition: Condition) -> (Condition, Vec<Value>) {
        fn of_filter(filter: &mut Filter, values: &mut Vec<Value>) {
            if let Some(filter::Node::Compare(comparison)) = &mut filter.node {
                values.append(&mut comparison.values);
                assert_ne!(comparison.operator, Operator::Unspecified as i32);
            }
        }
        let mut values = Vec::new();
        let Some(Node::All(list)) = &mut condition.node else { panic!("not joined: {condition:?}") };
        for operand in &mut list.conditions {
            match &mut operand.node {
                Some(Node::Acquisition(touch)) => touch.filter.iter_mut().for_each(|filter| of_filter(filter, &mut values)),
                Some(Node::Behavior(asked)) => {
                    asked.on.iter_mut().flat_map(|on| on.filter.as_mut()).for_each(|filter| of_filter(filter, &mut values));
                }
                other => panic!("another node: {other:?}"),
            }
        }
        (condition, values)
    }

    fn stays_one_value(hostile: &str) {
        let (plain, _) = fill(known("campaign_bought_without_it"), &HashMap::new()).expect("filled in");
        let (condition, _) = fill(known("campaign_bought_without_it"), &of(&[("campaign", hostile)])).expect("filled in");
        let (plain, mut values) = taken_apart(plain);
        let (shape, hostile_values) = taken_apart(condition);
        assert_eq!(shape, plain);
        values[0].kind = Some(value::Kind::StringValue(hostile.trim().to_owned()));
        assert_eq!(hostile_values, values);
    }

    #[test]
    fn what_is_filled_in_stays_one_value() {
        for hostile in [
            "x\" or everyone or trait a is \"b",
            "\\",
            "\\\"",
            "\\\" or everyone",
            "{categories}",
            "{campaign} { } {nothing}",
            "\") or (\"",
            "a\nb\u{202e}c\u{0}",
            "one of (\"a\")",
            "json \"{}\"",
        ] {
            stays_one_value(hostile);
        }
        // However much is escaped, what is filled in can be read.
        let control = "\u{1}".repeat(1_000);
        stays_one_value(&control);
        let most = vec!["\u{1}"; 2_048].join(",");
        let both = of(&[("channels", &most), ("keywords", &most)]);
        assert!(matches!(fill(known("acquired_by_search_without_product"), &both), Ok((_, text)) if text.len() < 65_536));
    }

    proptest! {
        #[test]
        fn any_text_that_is_filled_in_stays_one_value(hostile in "[\\PC\"\\\\{}() ]{1,60}") {
            if !hostile.trim().is_empty() {
                stays_one_value(&hostile);
            }
        }

        #[test]
        fn no_parameter_breaks_a_template(value in any::<String>(), at in 0..7_usize) {
            let known = &TEMPLATES[at];
            let all = known.blanks.iter().map(|blank| (blank.name.to_owned(), value.clone())).collect();
            if let Ok((condition, text)) = fill(known, &all) {
                prop_assert_eq!(segue_query::parse(&text), Ok(condition));
            }
        }
    }
}
