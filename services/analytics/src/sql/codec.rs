//! The nodes of plans that are ours as bytes, so that plans can be sent to other replicas, and the snapshots that leaves find where
//! they arrive.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use datafusion_proto::protobuf;
use parking_lot::Mutex;
use prost::Message;
use segue_model::TenantId;

use super::leaf::{Read, SnapshotExec};
use super::meter::MeterExec;
use super::parts::Part;
use super::rows::scan_error;
use super::selection::{PersonRange, Selection};
use crate::index::Index;
use crate::leaves::{QuestionExec, QuestionProto};
use crate::scan::{ScanError, Snapshot};

/// Gives the snapshot of a tenant on this machine.
type Take = dyn Fn(&TenantId) -> Result<Arc<Snapshot>, ScanError> + Send + Sync;

/// Where leaves that were decoded find their snapshots: an extension of the session in which a plan is decoded
/// (`SessionConfig::with_extension`). All leaves of a session see the same snapshot of a tenant, whatever is indexed meanwhile.
pub struct Snapshots {
    take: Box<Take>,
    taken: Mutex<HashMap<TenantId, Arc<Snapshot>>>,
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots").finish_non_exhaustive()
    }
}

impl Snapshots {
    /// Snapshots of an index. Tenants must have been loaded.
    pub fn of_index(index: Index) -> Self {
        Self::new(move |tenant| index.snapshot(tenant))
    }

    /// Snapshots that are taken in some other way.
    pub fn new(take: impl Fn(&TenantId) -> Result<Arc<Snapshot>, ScanError> + Send + Sync + 'static) -> Self {
        Self { take: Box::new(take), taken: Mutex::default() }
    }

    /// That of a tenant.
    pub(crate) fn of(&self, tenant: &TenantId) -> Result<Arc<Snapshot>, ScanError> {
        let mut taken = self.taken.lock();
        if let Some(snapshot) = taken.get(tenant) {
            return Ok(snapshot.clone());
        }
        let snapshot = (self.take)(tenant)?;
        taken.insert(tenant.clone(), snapshot.clone());
        Ok(snapshot)
    }
}

/// Encodes and decodes [`SnapshotExec`] and what else of a plan is ours.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanCodec;

/// A node on the wire. Numbers are never reused.
#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(oneof = "Node", tags = "1, 2, 3")]
    node: Option<Node>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
#[allow(clippy::large_enum_variant, reason = "one is made per plan that is sent")]
enum Node {
    #[prost(message, tag = "1")]
    Leaf(LeafProto),
    #[prost(message, tag = "2")]
    Meter(MeterProto),
    #[prost(message, tag = "3")]
    Question(QuestionProto),
}

#[derive(Clone, Copy, PartialEq, Message)]
struct MeterProto {}

#[derive(Clone, PartialEq, Message)]
struct LeafProto {
    #[prost(string, tag = "1")]
    tenant: String,
    #[prost(enumeration = "ReadProto", tag = "2")]
    read: i32,
    #[prost(message, optional, tag = "3")]
    schema: Option<protobuf::Schema>,
    /// Absent: every event.
    #[prost(message, optional, tag = "4")]
    events: Option<NamesProto>,
    #[prost(int64, tag = "5")]
    from_us: i64,
    #[prost(int64, tag = "6")]
    to_us: i64,
    #[prost(message, repeated, tag = "7")]
    persons: Vec<RangeProto>,
    #[prost(message, repeated, tag = "8")]
    parts: Vec<PartProto>,
    #[prost(uint64, optional, tag = "9")]
    fetch: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum ReadProto {
    Unspecified = 0,
    Events = 1,
    Persons = 2,
}

/// Names of events, or of nodes.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct NamesProto {
    #[prost(string, repeated, tag = "1")]
    pub(crate) names: Vec<String>,
}

/// A partition of a leaf.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PartProto {
    #[prost(message, repeated, tag = "1")]
    ranges: Vec<RangeProto>,
}

impl PartProto {
    pub(crate) fn of(part: &Part) -> Self {
        Self { ranges: encode_ranges(part) }
    }

    pub(crate) fn part(&self) -> Part {
        decode_ranges(&self.ranges)
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
struct RangeProto {
    #[prost(uint64, tag = "1")]
    start: u64,
    #[prost(uint64, tag = "2")]
    end: u64,
}

fn encode_ranges(ranges: &[PersonRange]) -> Vec<RangeProto> {
    ranges.iter().map(|range| RangeProto { start: range.start, end: range.end }).collect()
}

fn decode_ranges(ranges: &[RangeProto]) -> Vec<PersonRange> {
    ranges.iter().map(|range| range.start..range.end).collect()
}

impl PhysicalExtensionCodec for PlanCodec {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let node = NodeProto::decode(bytes).map_err(|error| internal_datafusion_err!("a node cannot be read: {error}"))?;
        match (node.node, inputs) {
            (Some(Node::Leaf(leaf)), []) => Ok(Arc::new(leaf.decode_leaf(context)?)),
            (Some(Node::Question(leaf)), []) => Ok(Arc::new(leaf.decode_leaf(context)?)),
            (Some(Node::Meter(MeterProto {})), [input]) => Ok(Arc::new(MeterExec::new(input.clone()))),
            (Some(_), inputs) => internal_err!("a node came with {} inputs", inputs.len()),
            (None, _) => internal_err!("a node is none that this version knows"),
        }
    }

    fn try_encode(&self, node: Arc<dyn ExecutionPlan>, bytes: &mut Vec<u8>, _: &dyn PhysicalProtoConverterExtension) -> Result<()> {
        let encoded = if let Some(leaf) = node.downcast_ref::<SnapshotExec>() {
            Node::Leaf(LeafProto::of(leaf)?)
        } else if let Some(leaf) = node.downcast_ref::<QuestionExec>() {
            Node::Question(QuestionProto::of(leaf))
        } else if node.is::<MeterExec>() {
            Node::Meter(MeterProto {})
        } else {
            return internal_err!("{} cannot be sent to another replica", node.name());
        };
        let node = NodeProto { node: Some(encoded) };
        node.encode(bytes).map_err(|error| internal_datafusion_err!("a node cannot be written: {error}"))
    }
}

/// The snapshot of the tenant that a leaf names.
pub(crate) fn snapshot_of(tenant: &str, context: &TaskContext) -> Result<Arc<Snapshot>> {
    let tenant: TenantId = tenant.parse().map_err(|error| internal_datafusion_err!("a leaf names no tenant: {error}"))?;
    let snapshots = context.session_config().get_extension::<Snapshots>();
    let snapshots = snapshots.ok_or_else(|| internal_datafusion_err!("the session has no extension `Snapshots`"))?;
    snapshots.of(&tenant).map_err(scan_error)
}

impl LeafProto {
    fn decode_leaf(self, context: &TaskContext) -> Result<SnapshotExec> {
        let leaf = self;
        let read = match ReadProto::try_from(leaf.read) {
            Ok(ReadProto::Events) => Read::Events,
            Ok(ReadProto::Persons) => Read::Persons,
            Ok(ReadProto::Unspecified) | Err(_) => return internal_err!("a leaf reads what this version does not know"),
        };
        let snapshot = snapshot_of(&leaf.tenant, context)?;
        let schema = leaf.schema.as_ref().ok_or_else(|| internal_datafusion_err!("a leaf has no schema"))?;
        let schema: Schema = schema.try_into()?;
        let selection = Selection {
            events: leaf.events.map(|events| events.names),
            range_us: (leaf.from_us, leaf.to_us),
            persons: decode_ranges(&leaf.persons),
        };
        let parts = leaf.parts.iter().map(PartProto::part).collect();
        let fetch = leaf.fetch.map(|rows| usize::try_from(rows).unwrap_or(usize::MAX));
        Ok(SnapshotExec::new(snapshot, read, Arc::new(schema), selection, parts, fetch))
    }

    fn of(leaf: &SnapshotExec) -> Result<Self> {
        let read = match leaf.read {
            Read::Events => ReadProto::Events,
            Read::Persons => ReadProto::Persons,
        };
        Ok(Self {
            tenant: leaf.snapshot.tenant().to_string(),
            read: read.into(),
            schema: Some(leaf.schema.as_ref().try_into()?),
            events: leaf.selection.events.clone().map(|names| NamesProto { names }),
            from_us: leaf.selection.range_us.0,
            to_us: leaf.selection.range_us.1,
            persons: encode_ranges(&leaf.selection.persons),
            parts: leaf.parts.iter().map(PartProto::of).collect(),
            fetch: leaf.fetch.map(|rows| rows as u64),
        })
    }
}
