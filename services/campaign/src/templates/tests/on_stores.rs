//! Templates on every store there is.

use anyhow::Result;
use segue_proto::campaign::v1::{LocalizedParts, Template};
use segue_testkit::stores;

use super::*;
use crate::error::Kind;
use crate::store::{MIGRATIONS, NAMESPACE};
use crate::templates::change::{archive, create, get, update, violations};

const ALL: &[&str] = &["name", "locales", "default_locale", "missing"];

fn template(id: &str, kind: ChannelKind, parts: &[(&str, &str)]) -> Template {
    let parts = parts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Template {
        id: id.to_owned(),
        name: "a name".to_owned(),
        kind: kind.into(),
        locales: vec![LocalizedParts { locale: "en".to_owned(), parts }],
        default_locale: "en".to_owned(),
        ..Template::default()
    }
}

fn partial(id: &str, text: &str) -> Template {
    template(id, ChannelKind::Unspecified, &[("content", text)])
}

fn sms(id: &str, text: &str) -> Template {
    template(id, ChannelKind::Sms, &[("text", text)])
}

fn shop() -> TenantId {
    "shop".parse().expect("a tenant id")
}

async fn text(templates: &Templates, id: &str) -> Result<Option<String>> {
    let found = templates.find(&shop(), id).await?;
    Ok(found.map(|loaded| {
        loaded
            .render(&json!({}), None)
            .map_or_else(|faults| faults[0].message.clone(), |mut rendered| rendered.parts.remove("text").unwrap_or_default())
    }))
}

#[tokio::test]
async fn a_changed_text_is_a_version_and_what_is_sent_goes_by_the_newest() -> Result<()> {
    for store in stores() {
        let db = store.open(NAMESPACE, MIGRATIONS).await?;
        let config = Arc::new(Config::default());
        let (templates, shop) = (Templates::new(config.clone(), db.clone()), shop());
        assert_eq!(text(&templates, "a").await?, None);
        let first = create(&db, &config, &shop, sms("a", "one"), 1_000_000).await?;
        assert_eq!((first.version, first.revision, first.archived, first.created_us), (1, 1, false, 1_000_000));
        assert_eq!(create(&db, &config, &shop, sms("a", "one"), 2_000_000).await?, first, "the same again is there already");
        let other = create(&db, &config, &shop, sms("a", "two"), 2_000_000).await;
        assert!(matches!(other, Err(CampaignError::AlreadyExists { .. })));
        assert_eq!(text(&templates, "a").await?.as_deref(), Some("one"));
        let before = templates.find(&shop, "a").await?.expect("it is there");

        let renamed = Template { name: "another".to_owned(), etag: first.etag(), ..sms("a", "ignored") };
        let renamed = update(&db, &config, &shop, renamed, &["name"], 3_000_000).await?;
        assert_eq!((renamed.version, renamed.revision, renamed.name.as_str()), (1, 2, "another"));
        let again = templates.find(&shop, "a").await?.expect("it is there");
        assert!(Arc::ptr_eq(&before, &again), "a name compiles nothing again");
        let stale = Template { etag: first.etag(), ..sms("a", "two") };
        assert!(matches!(update(&db, &config, &shop, stale, ALL, 4_000_000).await, Err(CampaignError::EtagMismatch { .. })));
        let second = update(&db, &config, &shop, sms("a", "two"), &["locales"], 4_000_000).await?;
        assert_eq!((second.version, second.revision, second.updated_us), (2, 3, 4_000_000));
        assert_eq!(text(&templates, "a").await?.as_deref(), Some("two"), "a change is seen at once");
        assert_eq!(templates.find(&shop, "a").await?.map(|loaded| loaded.version), Some(2));

        assert_eq!(get(&db, &shop, "a", 0).await?, second);
        let old = get(&db, &shop, "a", 1).await?;
        assert_eq!((old.version, &old.content, old.etag()), (1, &first.content, second.etag()));
        assert!(matches!(get(&db, &shop, "a", 3).await, Err(CampaignError::NotFound { kind: Kind::Template, .. })));
        assert!(matches!(get(&db, &shop, "a\0", 0).await, Err(CampaignError::NotFound { .. })));
        assert!(get(&db, &"other".parse()?, "a", 0).await.is_err(), "another tenant has none");

        let archived = archive(&db, &shop, "a", &second.etag(), 5_000_000).await?;
        assert!(archived.archived && archived.etag() != second.etag());
        assert_eq!(archive(&db, &shop, "a", "", 6_000_000).await?, archived);
        assert_eq!(text(&templates, "a").await?, None);
        assert!(matches!(update(&db, &config, &shop, sms("a", "x"), ALL, 0).await, Err(CampaignError::Archived { .. })));
        assert!(matches!(
            create(&db, &config, &shop, Template { name: "another".to_owned(), ..sms("a", "two") }, 0).await,
            Err(CampaignError::Archived { .. })
        ));
    }
    Ok(())
}

#[tokio::test]
async fn partials_are_there_end_and_stay_while_they_are_used() -> Result<()> {
    for store in stores() {
        let db = store.open(NAMESPACE, MIGRATIONS).await?;
        let config = Arc::new(Config::default());
        let (templates, shop) = (Templates::new(config.clone(), db.clone()), shop());
        let put = async |template: Template| create(&db, &config, &shop, template, 1).await;
        let change = async |template: Template| update(&db, &config, &shop, template, ALL, 2).await;
        let missing = put(sms("a", "x\n{% include 'p1' %}")).await.expect_err("there is no p1");
        let path = "template.locales[0].parts.text".to_owned();
        assert_eq!(violations(&missing), [(path, "line 2: there is no partial `p1`".to_owned())]);
        put(partial("p1", "1")).await?;
        put(sms("a", "a{% include 'p1' %}")).await?;
        assert!(put(sms("b", "{% include 'a' %}")).await.is_err(), "only partials can be included");
        assert_eq!(text(&templates, "a").await?.as_deref(), Some("a1"));
        for at in 2..=5 {
            put(partial(&format!("p{at}"), &at.to_string())).await?;
            change(partial(&format!("p{}", at - 1), &format!("{}{{% include 'p{at}' %}}", at - 1))).await?;
        }
        assert_eq!(text(&templates, "a").await?.as_deref(), Some("a12345"), "the newest of each, however deep");
        put(partial("p6", "6")).await?;
        let deep = change(partial("p5", "{% include 'p6' %}")).await.expect_err("too deep");
        assert!(violations(&deep)[0].1.contains("more than 5 deep"), "{deep}");
        for cycle in ["p1", "p4", "p5"] {
            let error = change(partial("p5", &format!("{{% include '{cycle}' %}}"))).await.expect_err("a cycle");
            assert!(violations(&error)[0].1.contains("include"), "{error}");
        }
        let used = archive(&db, &shop, "p1", "", 3).await.expect_err("it is in use");
        assert!(matches!(&used, CampaignError::InUse { by, .. } if by == &["template a"]), "{used}");
        change(sms("a", "alone")).await?;
        archive(&db, &shop, "p1", "", 3).await?;
        archive(&db, &shop, "p2", "", 3).await?;
        assert!(change(sms("a", "{% include 'p1' %}")).await.is_err(), "it is archived");
        assert_eq!(text(&templates, "a").await?.as_deref(), Some("alone"));
    }
    Ok(())
}

#[tokio::test]
async fn every_fault_of_a_template_is_told_with_its_path() -> Result<()> {
    for store in stores() {
        let db = store.open(NAMESPACE, MIGRATIONS).await?;
        let mut config = Config::default();
        config.template.source_bytes_max = 1_024;
        config.templates_max = 1;
        let shop = shop();
        let faults = async |template: Template| match create(&db, &config, &shop, template, 1).await {
            Ok(_) => panic!("it is faulty"),
            Err(error) => violations(&error).into_iter().map(|(field, _)| field).collect::<Vec<_>>(),
        };
        assert_eq!(faults(sms("A", "x")).await, ["template.id"]);
        assert_eq!(faults(Template { name: String::new(), ..sms("a", "x") }).await, ["template.name"]);
        assert_eq!(faults(Template { kind: 99, ..sms("a", "x") }).await, ["template.kind"]);
        assert_eq!(faults(Template { missing: 9, ..sms("a", "x") }).await, ["template.missing"]);
        assert_eq!(faults(Template { locales: Vec::new(), ..sms("a", "x") }).await, ["template.locales"]);
        assert_eq!(faults(Template { default_locale: "ko".to_owned(), ..sms("a", "x") }).await, ["template.default_locale"]);
        assert_eq!(faults(sms("a", &"x".repeat(1_025))).await, ["template.locales"]);
        let mut twice = sms("a", "x");
        twice.locales.push(LocalizedParts { locale: "EN".to_owned(), parts: twice.locales[0].parts.clone() });
        twice.locales.push(LocalizedParts { locale: "e".to_owned(), parts: twice.locales[0].parts.clone() });
        assert_eq!(faults(twice).await, ["template.locales[1].locale", "template.locales[2].locale"]);
        let empty = template("a", ChannelKind::Email, &[("subject", ""), ("body", "x")]);
        assert_eq!(
            faults(empty).await,
            ["template.locales[0].parts.body", "template.locales[0].parts.subject", "template.locales[0].parts.text|html"]
        );
        let broken =
            template("a", ChannelKind::Email, &[("subject", "{{ a|nothing }}"), ("text", "\n\n{% if %}"), ("html", "{{ a is odder }}")]);
        let error = create(&db, &config, &shop, broken, 1).await.expect_err("it is broken");
        let told = violations(&error);
        assert_eq!(
            told.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>(),
            ["template.locales[0].parts.html", "template.locales[0].parts.subject", "template.locales[0].parts.text"]
        );
        assert_eq!(told[0].1, "line 1: there is no test `odder`");
        assert_eq!(told[1].1, "line 1: there is no filter `nothing`");
        assert!(told[2].1.starts_with("line 3: syntax error"), "{}", told[2].1);
        create(&db, &config, &shop, sms("a", "x"), 1).await?;
        assert!(matches!(create(&db, &config, &shop, sms("b", "x"), 1).await, Err(CampaignError::TooMany { max: 1, .. })));
    }
    Ok(())
}
