//! Templates: rendering within limits, escaping, and what the store makes of changes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::config::TemplateConfig;
use crate::templates::definition::form;

mod hostile;
mod on_stores;
mod previews;

/// A template with one locale.
fn content(parts: &[(&str, &str)]) -> Content {
    let parts = parts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Content { locales: vec![Localized { locale: "en".to_owned(), parts }], default_locale: "en".to_owned(), missing: MissingValue::Default }
}

fn loaded(kind: ChannelKind, content: Content, partials: &[(&str, Content)]) -> Loaded {
    let partials = partials.iter().map(|(id, content)| ((*id).to_owned(), (1, content.clone()))).collect();
    let sources = Sources { id: "t".to_owned(), kind, version: 1, content, partials };
    Loaded::new(&TemplateConfig::default(), sources, false)
}

fn filled(kind: ChannelKind, parts: &[(&str, &str)], values: &serde_json::Value) -> BTreeMap<String, String> {
    loaded(kind, content(parts), &[]).render(values, None).expect("it can be filled in").parts
}

fn fault(kind: ChannelKind, parts: &[(&str, &str)], values: &serde_json::Value) -> TemplateFault {
    let mut faults = loaded(kind, content(parts), &[]).render(values, None).expect_err("it cannot be filled in");
    assert_eq!(faults.len(), 1);
    faults.remove(0)
}

const XSS: &str = "<script>alert(\"1\")</script>'&";

#[test]
fn html_escapes_what_is_filled_in_and_other_parts_do_not() {
    let parts = [
        ("subject", "{{ v }}"),
        ("text", "{{ v }}"),
        ("html", "<p title='{{ v }}'>{{ v }} {{ [v] }} {{ v|upper }} {{ v|json }} {% set w = v %}{{ w }} {{ v ~ '<' }}</p>"),
    ];
    let filled = filled(ChannelKind::Email, &parts, &json!({ "v": XSS }));
    assert_eq!((filled["subject"].as_str(), filled["text"].as_str()), (XSS, XSS));
    let html = filled["html"].strip_prefix("<p title='").and_then(|html| html.strip_suffix("</p>")).expect("the frame");
    let html = html.replacen("'>", "", 1);
    assert!(!html.contains(['<', '\'']) && !html.replace("&quot;", "").contains("(\"1"), "{html}");
    assert!(html.contains("&lt;script&gt;alert(&quot;1&quot;)"), "{html}");
}

#[test]
fn json_parts_write_what_is_filled_in_as_json() {
    let values = json!({ "v": "\"}, \"admin\": true, {\"\n\u{0}", "n": 1.5, "list": [1, null, { "a": null }], "flag": true });
    let body = r#"{"v": {{ v }}, "n": {{ n }}, "list": {{ list }}, "flag": {{ flag }}, "none": {{ missing.deep }}}"#;
    let filled = filled(ChannelKind::Webhook, &[("body", body), ("path", "/a?b={{ v|urlencode }}")], &values);
    let read: serde_json::Value = serde_json::from_str(&filled["body"]).expect("JSON");
    assert_eq!(read, json!({ "v": values["v"], "n": 1.5, "list": [1, null, {}], "flag": true, "none": null }));
    assert!(filled["path"].is_ascii() && !filled["path"].contains(['"', '\n', ' ']), "{}", filled["path"]);
    let quoted = fault(ChannelKind::Webhook, &[("body", "{\"v\": \"{{ v }}\"}")], &values);
    assert!(quoted.part == "body" && quoted.message.contains("not JSON"), "{}", quoted.message);
    for (kind, part, text) in [(ChannelKind::Fcm, "data", "[1]"), (ChannelKind::Kakao, "buttons", "{}"), (ChannelKind::InApp, "data", "1")]
    {
        assert!(fault(kind, &[(part, text)], &json!({})).message.contains("not a JSON"), "{part}");
    }
    let none = self::filled(ChannelKind::Fcm, &[("title", "t"), ("data", "{% if missing %}{}{% endif %}\n")], &json!({}));
    assert_eq!(none.keys().collect::<Vec<_>>(), ["title"]);
}

#[test]
fn numbers_are_numbers_however_they_were_stored() {
    // As runs and sends are stored, and read back with every digit.
    let stored = r#"{"event": {"items": [{"name": "Pram", "price": 199.9, "quantity": 2}, {"name": "Hat", "price": 12000, "quantity": 1}]},
        "points": 1.5, "large": 9007199254740993}"#;
    let values = serde_json::from_str(stored).expect("JSON");
    let text = "{% for item in event.items %}{{ item.name }} {{ item.price }} {{ item.price * item.quantity }} \
        {% if item.price > 1000 %}dear{% endif %};{% endfor %} {{ points + 1 }} {{ large }} {{ event.items[1].price|money('KRW') }}";
    let filled = filled(ChannelKind::Sms, &[("text", text)], &values);
    assert_eq!(filled["text"], "Pram 199.9 399.8 ;Hat 12000 12000 dear; 2.5 9007199254740993 ₩12,000");
    let body = self::filled(ChannelKind::Webhook, &[("body", "{\"price\": {{ event.items[0].price }}}")], &values);
    assert_eq!(body["body"], r#"{"price": 199.9}"#);
}

#[test]
fn nothing_that_is_filled_in_begins_another_header() {
    let evil = "a\r\nBcc: all@shop.example\u{0}\u{85}\u{2028}b\tc";
    let lines = [
        (ChannelKind::Email, &["subject", "from_name", "reply_to", "preheader"][..]),
        (ChannelKind::Webhook, &["path"]),
        (ChannelKind::Fcm, &["title", "image_url", "url"]),
        (ChannelKind::Apns, &["title", "image_url", "url"]),
        (ChannelKind::InApp, &["title", "url"]),
        (ChannelKind::Kakao, &["template_code"]),
    ];
    for (kind, parts) in lines {
        for part in parts {
            let filled = filled(kind, &[(part, "\n{{ v }}\n{{ v|safe }}\n\n")], &json!({ "v": evil }));
            assert_eq!(filled[*part], "a  Bcc: all@shop.example   b c a  Bcc: all@shop.example   b c", "{kind:?} {part}");
        }
    }
    let text = filled(ChannelKind::Sms, &[("text", "{{ v }}")], &json!({ "v": "a\nb\tc\u{0}\u{1b}d" }));
    assert_eq!(text["text"], "a\nb\tc  d");
}

#[test]
fn every_part_of_the_contract_has_a_form_and_no_other() {
    for kind in (0..=7).filter_map(|kind| ChannelKind::try_from(kind).ok()) {
        assert_eq!(form(kind, "content").is_some(), kind == ChannelKind::Unspecified);
        assert_eq!(form(kind, "html").is_some(), kind == ChannelKind::Email);
        assert_eq!(form(kind, "attachment"), None);
    }
}

#[test]
fn a_missing_value_is_empty_or_aborts_as_the_template_says() {
    let parts = [("text", "Hi {{ person.traits.df_name }}!\n{{ event.properties.cart.items[3].name }}")];
    let values = json!({ "person": { "traits": { "df_name": null } } });
    assert_eq!(filled(ChannelKind::Sms, &parts, &values)["text"], "Hi !\n");
    let abort = |text: &str| {
        let content = Content { missing: MissingValue::Abort, ..content(&[("text", text)]) };
        loaded(ChannelKind::Sms, content, &[]).render(&values, None)
    };
    let faults = abort("one\n\nHi {{ person.traits.df_name }}").expect_err("it is missing");
    assert_eq!((faults[0].part.as_str(), faults[0].line), ("text", 3));
    assert!(faults[0].message.contains("`person.traits.df_name` is undefined"), "{}", faults[0].message);
    for text in
        ["{{ event.name }}", "{{ a.b.c }}", "{% for x in missing %}{% endfor %}", "{{ missing|upper }}", "{{ missing|money('KRW') }}"]
    {
        assert!(abort(text).is_err(), "{text}");
    }
    for text in ["{{ person.traits.df_name|default('there') }}", "{% if person.traits.vip %}{% else %}there{% endif %}"] {
        assert_eq!(abort(text).expect("it may be asked for").parts["text"], "there", "{text}");
    }
}

#[test]
fn the_locale_is_the_same_else_the_language_else_the_default() {
    let localized = |locale: &str| {
        let parts = [("text".to_owned(), format!("{locale} {{% include \"footer\" %}}"))].into();
        Localized { locale: locale.to_owned(), parts }
    };
    let locales = ["en", "ko", "pt-BR", "zh-Hant", "zh-Hant-HK"].map(localized).to_vec();
    let template = Content { locales, default_locale: "en".to_owned(), missing: MissingValue::Default };
    let footer = |locale: &str| Localized { locale: locale.to_owned(), parts: [("content".to_owned(), format!("({locale})"))].into() };
    let footer = Content { locales: vec![footer("en"), footer("zh")], default_locale: "en".to_owned(), missing: MissingValue::Default };
    let loaded = loaded(ChannelKind::Sms, template, &[("footer", footer)]);
    for (wanted, locale, text) in [
        (Some("ko-KR"), "ko", "ko (en)"),
        (Some("KO_kr"), "ko", "ko (en)"),
        (Some("pt-br"), "pt-BR", "pt-BR (en)"),
        (Some("pt"), "en", "en (en)"),
        (Some("zh-Hant-HK"), "zh-Hant-HK", "zh-Hant-HK (zh)"),
        (Some("zh-Hant-TW"), "zh-Hant", "zh-Hant (zh)"),
        (Some("de"), "en", "en (en)"),
        (Some(""), "en", "en (en)"),
        (Some("-"), "en", "en (en)"),
        (None, "en", "en (en)"),
    ] {
        let rendered = loaded.render(&json!({}), wanted).expect("it can be filled in");
        assert_eq!((rendered.locale.as_str(), rendered.parts["text"].as_str()), (locale, text), "{wanted:?}");
    }
}

#[test]
fn a_partial_escapes_like_the_part_that_includes_it() {
    let footer = content(&[("content", "<i>{{ v }}</i>{% include 'inner' %}")]);
    let inner = content(&[("content", "{{ v }}")]);
    let parts = [("subject", "{% include 'inner' %}"), ("html", "{% include 'footer' %}"), ("text", "{% include 'footer' %}")];
    let loaded = loaded(ChannelKind::Email, content(&parts), &[("footer", footer), ("inner", inner)]);
    let parts = loaded.render(&json!({ "v": "<" }), None).expect("it can be filled in").parts;
    assert_eq!((parts["subject"].as_str(), parts["html"].as_str(), parts["text"].as_str()), ("<", "<i>&lt;</i>&lt;", "<i><</i><"));
}

#[test]
fn faults_in_partials_say_where() {
    let broken = content(&[("content", "\n\n{{ 1 / 'a' }}")]);
    let loaded = loaded(ChannelKind::Sms, content(&[("text", "\n{% include 'broken' %}{% include 'gone' %}")]), &[("broken", broken)]);
    let faults = loaded.render(&json!({}), None).expect_err("it is broken");
    assert_eq!((faults.len(), faults[0].line), (1, 2));
    assert!(faults[0].message.starts_with("in line 3 of the partial `broken`: "), "{}", faults[0].message);
    let gone = self::loaded(ChannelKind::Sms, content(&[("text", "{% include 'gone' %}")]), &[]).render(&json!({}), None);
    assert!(gone.expect_err("it is gone")[0].message.contains("gone"));
}

#[test]
fn one_expression_is_filled_in_without_escaping() {
    let config = Config::default();
    let values = json!({ "event": { "properties": { "plan": "<gold>", "n": 3 } } });
    assert_eq!(render_text(&config, "{{ event.properties.plan }}", &values).as_deref(), Ok("<gold>"));
    assert_eq!(render_text(&config, "{{ event.properties.n * 2 }}{{ missing.x }}", &values).as_deref(), Ok("6"));
    let fault = render_text(&config, "{{ event.", &values).expect_err("it ends too soon");
    assert_eq!(fault.line, 1);
    assert!(render_text(&config, "{{ a|nothing }}", &values).is_err());
    assert!(render_text(&config, "{% include 'a' %}", &values).is_err());
}
