//! Previews and tests, as the service answers them.

use std::collections::HashMap;

use anyhow::Result;
use segue_model::ManualClock;
use segue_model::module::ModuleSet;
use segue_proto::campaign::v1::preview_template_request::What;
use segue_proto::campaign::v1::{LocalizedParts, PreviewTemplateRequest, SendTestRequest, Template};
use segue_runtime::transport::local;
use segue_runtime::{Tenant, TenantDirectory};
use segue_testkit::{logs, stores};

use super::*;
use crate::channels::Channels;
use crate::links::Links;
use crate::peers::Peers;
use crate::policies::Policies;
use crate::service::Service;
use crate::store::{MIGRATIONS, NAMESPACE};
use crate::templates::change::create;

/// The service, with nobody beside it.
fn service(db: Db, log: segue_log::Log) -> Service {
    let config = Arc::new(Config::default());
    let nobody = || local(tonic::service::Routes::default());
    let clock = Arc::new(ManualClock::new(1_000_000));
    Service {
        links: Links::new(config.clone(), db.clone()),
        policies: Policies::new(db.clone()),
        templates: Templates::new(config.clone(), db.clone()),
        channels: Channels::new(config.clone(), db.clone(), clock.clone()),
        config,
        db,
        log,
        clock,
        tenants: TenantDirectory::fixed(Vec::new()),
        peers: Peers { ingest: nobody(), identity: nobody(), analytics: nobody(), audience: nobody() },
        bells: Arc::default(),
    }
}

fn email(subject: &str, text: &str) -> Template {
    let parts = HashMap::from([("subject".to_owned(), subject.to_owned()), ("text".to_owned(), text.to_owned())]);
    Template {
        id: "hello".to_owned(),
        name: "Hello".to_owned(),
        kind: ChannelKind::Email.into(),
        locales: vec![LocalizedParts { locale: "en".to_owned(), parts }],
        default_locale: "en".to_owned(),
        ..Template::default()
    }
}

fn object(json: &serde_json::Value) -> prost_types::Struct {
    let fields = json.as_object().expect("an object").iter().map(|(name, value)| (name.clone(), free(value))).collect();
    prost_types::Struct { fields }
}

fn free(json: &serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match json {
        serde_json::Value::Object(_) => Kind::StructValue(object(json)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        other => Kind::NumberValue(other.as_f64().expect("a number")),
    };
    prost_types::Value { kind: Some(kind) }
}

#[tokio::test]
async fn a_preview_is_strict_and_its_faults_are_answers() -> Result<()> {
    let store = stores().remove(0);
    let log = logs().remove(0);
    let service = service(store.open(NAMESPACE, MIGRATIONS).await?, log.open().await?);
    let shop = Tenant::new("shop".parse()?, ModuleSet::default());
    create(&service.db, &service.config, &shop.id, email("Hi {{ person.traits.name }}", "{{ n }} {{ unsubscribe_url }}"), 1).await?;
    let ask = |what: What, values: serde_json::Value| PreviewTemplateRequest {
        what: Some(what),
        values: Some(object(&values)),
        ..PreviewTemplateRequest::default()
    };
    let stored = || What::Id("hello".to_owned());
    let values = json!({ "person": { "traits": { "name": "Kim" } }, "n": 3 });
    let shown = service.preview_template_of(&shop, ask(stored(), values.clone())).await?;
    assert_eq!((shown.locale.as_str(), shown.faults.len()), ("en", 0));
    assert_eq!(shown.parts["subject"], "Hi Kim");
    assert!(shown.parts["text"].starts_with("3 https://"), "{}", shown.parts["text"]);

    let shown = service.preview_template_of(&shop, ask(stored(), json!({ "n": 1.5 }))).await?;
    assert!(shown.parts["text"].starts_with("1.5 ") && !shown.parts.contains_key("subject"));
    assert_eq!((shown.faults[0].part.as_str(), shown.faults[0].line), ("subject", 1));
    assert!(shown.faults[0].message.contains("`person` is undefined"), "{}", shown.faults[0].message);

    let broken = What::Template(email("{{ a|nothing }}", "\n{% include 'gone' %}"));
    let shown = service.preview_template_of(&shop, ask(broken, json!({}))).await?;
    assert_eq!((shown.faults[0].part.as_str(), shown.faults[0].line), ("subject", 1));
    let gone = What::Template(email("x", "\n{% include 'gone' %}"));
    let shown = service.preview_template_of(&shop, ask(gone, json!({}))).await?;
    assert_eq!((shown.faults[0].part.as_str(), shown.faults[0].line), ("text", 2));
    let shapeless = What::Template(Template { locales: Vec::new(), ..email("x", "y") });
    assert!(matches!(service.preview_template_of(&shop, ask(shapeless, json!({}))).await, Err(CampaignError::Invalid(_))));
    let missing = service.preview_template_of(&shop, ask(What::Id("none".to_owned()), json!({}))).await;
    assert!(matches!(missing, Err(CampaignError::NotFound { .. })));
    let nothing = service.preview_template_of(&shop, PreviewTemplateRequest::default()).await;
    assert!(matches!(nothing, Err(CampaignError::Invalid(_))));

    let test = SendTestRequest { preview: Some(ask(stored(), values)), channel: "none".to_owned(), address: "a@shop.example".to_owned() };
    assert!(matches!(service.send_test_of(&shop, test).await, Err(CampaignError::NotFound { .. })));
    Ok(())
}
