//! A leaf as bytes. Numbers are never reused.

use std::sync::Arc;
use std::time::Instant;

use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::TaskContext;
use prost::Message;

use super::Inquiry;
use super::asked::{Asked, Round};
use super::exec::QuestionExec;
use crate::path;
use crate::question::QueryLimits;
use crate::report::ReportLimits;
use crate::scan::ScanStats;
use crate::sql::codec::{NamesProto, PartProto, snapshot_of};
use crate::sql::selection::Selection;

/// [`QuestionExec`] on the wire.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct QuestionProto {
    #[prost(string, tag = "1")]
    tenant: String,
    /// An IANA name: the tenant's.
    #[prost(string, tag = "2")]
    zone: String,
    #[prost(message, optional, tag = "3")]
    limits: Option<LimitsProto>,
    /// Persons are judged by this watermark, or by that of the snapshot where it lies before.
    #[prost(int64, tag = "4")]
    watermark_us: i64,
    /// What is read; absent: every event.
    #[prost(message, optional, tag = "5")]
    events: Option<NamesProto>,
    #[prost(int64, tag = "6")]
    from_us: i64,
    #[prost(int64, tag = "7")]
    to_us: i64,
    #[prost(message, repeated, tag = "8")]
    parts: Vec<PartProto>,
    /// Of questions with rounds.
    #[prost(oneof = "RoundProto", tags = "20, 21, 22")]
    round: Option<RoundProto>,
    #[prost(oneof = "Asked", tags = "10, 11, 12, 13, 14, 15")]
    asked: Option<Asked>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct LimitsProto {
    #[prost(uint64, tag = "1")]
    hits_bytes_max: u64,
    #[prost(uint64, tag = "2")]
    cells_max: u64,
    #[prost(uint64, tag = "3")]
    bytes_max: u64,
    #[prost(uint64, tag = "4")]
    band_rows: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
enum RoundProto {
    #[prost(bool, tag = "20")]
    EveryEdge(bool),
    #[prost(bool, tag = "21")]
    Ranking(bool),
    #[prost(message, tag = "22")]
    Shown(ShownProto),
}

/// Names of the nodes that are shown, per step from the first.
#[derive(Clone, PartialEq, Eq, Message)]
struct ShownProto {
    #[prost(message, repeated, tag = "1")]
    steps: Vec<NamesProto>,
}

impl RoundProto {
    fn of(round: &Round) -> Option<Self> {
        match round {
            Round::Only => None,
            Round::Path(path::Round::Every) => Some(RoundProto::EveryEdge(true)),
            Round::Path(path::Round::Ranking) => Some(RoundProto::Ranking(true)),
            Round::Path(path::Round::Shown(steps)) => {
                let steps = steps.iter().map(|names| NamesProto { names: names.clone() });
                Some(RoundProto::Shown(ShownProto { steps: steps.collect() }))
            }
        }
    }

    fn round(self) -> Round {
        Round::Path(match self {
            RoundProto::EveryEdge(_) => path::Round::Every,
            RoundProto::Ranking(_) => path::Round::Ranking,
            RoundProto::Shown(shown) => path::Round::Shown(shown.steps.into_iter().map(|step| step.names).collect()),
        })
    }
}

impl QuestionProto {
    pub(crate) fn of(leaf: &QuestionExec) -> Self {
        let Inquiry { snapshot, zone, limits, asked, round, selection, begun: _, spent: _ } = leaf.inquiry();
        Self {
            tenant: snapshot.tenant().to_string(),
            zone: zone.name().to_owned(),
            limits: Some(LimitsProto {
                hits_bytes_max: limits.hits_bytes_max as u64,
                cells_max: limits.report.cells_max as u64,
                bytes_max: limits.report.bytes_max as u64,
                band_rows: limits.report.band_rows,
            }),
            watermark_us: snapshot.watermark_us(),
            events: selection.events.clone().map(|names| NamesProto { names }),
            from_us: selection.range_us.0,
            to_us: selection.range_us.1,
            parts: leaf.parts().iter().map(PartProto::of).collect(),
            round: RoundProto::of(round),
            asked: Some(asked.clone()),
        }
    }

    pub(crate) fn decode_leaf(self, context: &TaskContext) -> Result<QuestionExec> {
        let zone = self.zone.parse().map_err(|_| internal_datafusion_err!("a question names the zone `{}`, unknown here", self.zone))?;
        let asked = self.asked.ok_or_else(|| internal_datafusion_err!("a question is none that this version knows"))?;
        let limits = self.limits.ok_or_else(|| internal_datafusion_err!("a question has no limits"))?;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let inquiry = Inquiry {
            snapshot: Arc::new(snapshot_of(&self.tenant, context)?.as_of(self.watermark_us)),
            zone,
            limits: QueryLimits {
                threads: 1,
                hits_bytes_max: size(limits.hits_bytes_max),
                report: ReportLimits { cells_max: size(limits.cells_max), bytes_max: size(limits.bytes_max), band_rows: limits.band_rows },
            },
            asked,
            round: self.round.map_or(Round::Only, RoundProto::round),
            selection: Selection {
                events: self.events.map(|events| events.names),
                range_us: (self.from_us, self.to_us),
                ..Selection::default()
            },
            begun: Instant::now(),
            spent: ScanStats::default(),
        };
        Ok(QuestionExec::new(inquiry, self.parts.iter().map(PartProto::part).collect()))
    }
}
