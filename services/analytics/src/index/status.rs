//! What is indexed, for `GetIndexStatus`.

use std::time::Duration;

use segue_log::LogError;
use segue_model::TenantId;
use segue_proto::analytics::v1::{GetIndexStatusResponse, IndexedPartition};

use super::{Index, RESOLVED};
use crate::error::AnalyticsError;
use crate::scan::{ScanError, timestamp_of};

impl Index {
    /// Rows, files, positions and delay of a tenant's index.
    pub async fn status(&self, tenant: &TenantId) -> Result<GetIndexStatusResponse, AnalyticsError> {
        let shared = &self.shared;
        let loaded = shared.find(tenant).ok_or_else(|| ScanError::NotLoaded { tenant: tenant.to_string() })?;
        let watermark_us = shared.watermark_us(tenant);
        let size = loaded.tail_size();
        let (files, lanes) = loaded.with(|state| (state.files.clone(), state.lanes.clone()));
        let file_rows: u64 = files.iter().map(|file| file.entry.event_rows()).sum();
        let mut partitions = Vec::with_capacity(shared.partitions.len());
        for (number, partition) in &shared.partitions {
            let bounds = match shared.log.bounds(RESOLVED, *number).await {
                Ok(bounds) => Some(bounds),
                // The index can be told of without the log.
                Err(LogError::Unavailable { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            let safe = shared.safe_position(*number);
            let (consumed, skipped, is_marked) = {
                let partition = partition.lock();
                let skipped = partition.behind(tenant).map(|next| next.saturating_sub(1));
                (partition.consumed, skipped, partition.skipped.contains_key(tenant))
            };
            let flushed = lanes.get(number).map_or(0, |lane| lane.flushed);
            let position = skipped.unwrap_or(consumed);
            // Behind the tenant's last event, a partition is in files as far as it is consumed.
            let has_tail = loaded.pending(*number).is_some();
            partitions.push(IndexedPartition {
                partition: u32::from(*number),
                position,
                flushed_position: if has_tail || is_marked { flushed.min(position) } else { flushed.max(safe.min(position)) },
                log_position: bounds.map_or(consumed, |bounds| bounds.last),
            });
        }
        // Whoever is told that a position is queryable must find it: the next question cuts a view of its own.
        loaded.forget_view(Duration::ZERO);
        Ok(GetIndexStatusResponse {
            rows: file_rows + size.event_rows as u64,
            tail_rows: size.event_rows as u64,
            files: files.len() as u32,
            file_bytes: files.iter().map(|file| file.entry.bytes).sum(),
            watermark: Some(timestamp_of(watermark_us)),
            partitions,
            catch_up_progress: shared.catching_up.lock().get(tenant).copied(),
        })
    }
}
