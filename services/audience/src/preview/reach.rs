//! How many members can be reached, by channel: who has an address there, and what they said about advertising.
//!
//! To add a channel: one line in [`CHANNELS`].

use roaring::RoaringBitmap;
use segue_model::TenantId;
use segue_proto::analytics::v1::evaluation_item::Whom;
use segue_proto::analytics::v1::{EvaluateConditionsRequest, EvaluationItem};
use segue_proto::audience::v1::ChannelReach;
use segue_proto::events::v1::{Value, value};
use segue_proto::identity::v1::SelectIdentifiedRequest;
use segue_proto::query::v1::{Attribute, Condition, Operator, condition};
use segue_runtime::peers::{PeerError, request};

use super::{TIMEOUT, bitmap};
use crate::error::AudienceError;
use crate::peers::Peers;
use crate::persons;

/// A way to somebody.
struct Channel {
    name: &'static str,
    /// Kinds of identifiers that are an address there, as places in [`KINDS`].
    addresses: &'static [usize],
    /// The trait that says whether advertising is welcome.
    consent: &'static str,
}

const KINDS: [&str; 4] = ["push_token", "email", "phone", "kakao_user_id"];
const CHANNELS: [Channel; 4] = [
    Channel { name: "push", addresses: &[0], consent: "df_push_ads_optin" },
    Channel { name: "email", addresses: &[1], consent: "df_email_ads_optin" },
    Channel { name: "sms", addresses: &[2], consent: "df_sms_ads_optin" },
    Channel { name: "kakao", addresses: &[3, 2], consent: "df_kakao_ads_optin" },
];

/// The reach of these members.
pub(super) async fn reach(
    peers: &Peers,
    tenant: &TenantId,
    members: &RoaringBitmap,
    as_of: Option<prost_types::Timestamp>,
) -> Result<Vec<ChannelReach>, AudienceError> {
    let addressable =
        if members.is_empty() { vec![RoaringBitmap::new(); CHANNELS.len()] } else { addressable(peers, tenant, members).await? };
    let asked = EvaluateConditionsRequest {
        items: items(&addressable)?,
        as_of_us: as_of.map_or(0, |as_of| as_of.seconds.saturating_mul(1_000_000).saturating_add(i64::from(as_of.nanos / 1_000))),
        ..EvaluateConditionsRequest::default()
    };
    let mut said = Vec::new();
    if !addressable.iter().all(RoaringBitmap::is_empty) {
        let answer = peers.analytics().evaluate_conditions(request(tenant, asked, TIMEOUT)).await;
        said = answer.map_err(PeerError::analytics)?.into_inner().items;
    }
    CHANNELS
        .iter()
        .zip(&addressable)
        .enumerate()
        .map(|(at, (channel, addressable))| {
            let met = |item: usize| said.get(item).map_or(Ok(0), |item| bitmap(&item.met).map(|met| met.len()));
            let (opted_in, opted_out) = (met(2 * at)?, met(2 * at + 1)?);
            Ok(ChannelReach { channel: channel.name.to_owned(), addressable: addressable.len(), opted_in, opted_out })
        })
        .collect()
}

/// Members with an address, by channel.
async fn addressable(peers: &Peers, tenant: &TenantId, members: &RoaringBitmap) -> Result<Vec<RoaringBitmap>, AudienceError> {
    let asked = SelectIdentifiedRequest { kinds: KINDS.map(str::to_owned).to_vec(), within: serialized(members)? };
    let answer = peers.identity().select_identified(request(tenant, asked, persons::TIMEOUT)).await;
    let sets: Result<Vec<RoaringBitmap>, AudienceError> =
        answer.map_err(PeerError::identity)?.into_inner().persons.iter().map(|set| bitmap(set)).collect();
    Ok(by_channel(&sets?))
}

/// From who has an identifier of each kind.
fn by_channel(of_kinds: &[RoaringBitmap]) -> Vec<RoaringBitmap> {
    let union =
        |channel: &Channel| channel.addresses.iter().filter_map(|kind| of_kinds.get(*kind)).fold(RoaringBitmap::new(), |all, of| all | of);
    CHANNELS.iter().map(union).collect()
}

/// Two per channel: who said yes, who said no.
fn items(addressable: &[RoaringBitmap]) -> Result<Vec<EvaluationItem>, AudienceError> {
    let mut items = Vec::with_capacity(2 * CHANNELS.len());
    for (channel, addressable) in CHANNELS.iter().zip(addressable) {
        let persons = serialized(addressable)?;
        for yes in [true, false] {
            let said = Attribute {
                r#trait: channel.consent.to_owned(),
                operator: Operator::In.into(),
                values: vec![Value { kind: Some(value::Kind::BoolValue(yes)) }],
                as_of: None,
            };
            let condition = Some(Condition { node: Some(condition::Node::Attribute(said)) });
            items.push(EvaluationItem { condition, whom: Some(Whom::Persons(persons.clone())), ..EvaluationItem::default() });
        }
    }
    Ok(items)
}

pub(super) fn serialized(persons: &RoaringBitmap) -> Result<Vec<u8>, AudienceError> {
    let mut bytes = Vec::with_capacity(persons.serialized_size());
    persons.serialize_into(&mut bytes).map_err(|_| AudienceError::Corrupt { what: "a set of persons" })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_channel_are_joined_and_each_is_asked_for_yes_and_no() {
        let of = |numbers: &[u32]| numbers.iter().copied().collect::<RoaringBitmap>();
        let channels = by_channel(&[of(&[1]), of(&[2]), of(&[1, 3]), of(&[3, 4])]);
        assert_eq!(channels, [of(&[1]), of(&[2]), of(&[1, 3]), of(&[1, 3, 4])]);
        let items = items(&channels).expect("they serialize");
        let said: Vec<(String, bool, Vec<u8>)> = items
            .into_iter()
            .map(|item| match (item.condition.and_then(|condition| condition.node), item.whom) {
                (Some(condition::Node::Attribute(said)), Some(Whom::Persons(persons))) => {
                    let yes = said.values == [Value { kind: Some(value::Kind::BoolValue(true)) }];
                    (said.r#trait, yes, persons)
                }
                other => panic!("not a test of a trait: {other:?}"),
            })
            .collect();
        let kakao = serialized(&channels[3]).expect("serializes");
        assert_eq!(said.len(), 8);
        assert_eq!(said[6..], [("df_kakao_ads_optin".to_owned(), true, kakao.clone()), ("df_kakao_ads_optin".to_owned(), false, kakao)]);
    }
}
