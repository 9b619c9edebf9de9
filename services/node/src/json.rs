//! Protocol messages as JSON, by the canonical mapping, so that requests can be written in files and answers printed.

use std::sync::LazyLock;

use anyhow::Context;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

static POOL: LazyLock<Result<DescriptorPool, String>> =
    LazyLock::new(|| DescriptorPool::decode(segue_proto::DESCRIPTORS).map_err(|error| error.to_string()));

fn descriptor(name: &str) -> anyhow::Result<prost_reflect::MessageDescriptor> {
    let pool = POOL.as_ref().map_err(|error| anyhow::anyhow!("the contract cannot be read: {error}"))?;
    pool.get_message_by_name(name).with_context(|| format!("no message is called {name}"))
}

/// Reads a message of the type `name` (for example `segue.analytics.v1.QueryEventsRequest`) from JSON. Unknown fields are errors.
pub fn read<M: Message + Default>(name: &str, json: &str) -> anyhow::Result<M> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize(descriptor(name)?, &mut reader).with_context(|| format!("this is no {name}"))?;
    reader.end().context("something stands after the message")?;
    Ok(M::decode(message.encode_to_vec().as_slice())?)
}

/// Writes a message as JSON. Fields with default values are written too, so that a reader sees the shape.
pub fn write<M: Message>(name: &str, message: &M) -> anyhow::Result<serde_json::Value> {
    let dynamic = DynamicMessage::decode(descriptor(name)?, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().skip_default_fields(false).stringify_64_bit_integers(false).use_proto_field_name(true);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_proto::analytics::v1::QueryEventsRequest;

    #[test]
    fn requests_are_read_by_the_contracts_names_and_unknown_fields_are_named() {
        let request: QueryEventsRequest = read(
            "segue.analytics.v1.QueryEventsRequest",
            r#"{"range":{"start":"2024-01-01T00:00:00Z","end":"2024-02-01T00:00:00Z"},"grain":"GRAIN_DAY","metrics":[{"events":["df_purchase"]}]}"#,
        )
        .expect("a request");
        assert_eq!(request.metrics[0].events, ["df_purchase"]);
        let error = read::<QueryEventsRequest>("segue.analytics.v1.QueryEventsRequest", r#"{"rnge":{}}"#).expect_err("unknown field");
        assert!(format!("{error:#}").contains("rnge"), "{error:#}");
        assert_eq!(write("segue.analytics.v1.QueryEventsRequest", &request).expect("json")["grain"], "GRAIN_DAY");
    }
}
