//! Events over gRPC: whatever decodes goes through every check, and none of them panics.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use segue_ingest::accept;
use segue_ingest::taxonomy::Snapshot;
use segue_proto::events::v1::Event;

static STANDARD: LazyLock<Snapshot> = LazyLock::new(Snapshot::standard);

fuzz_target!(|data: &[u8]| {
    let Ok(mut event) = Event::decode(data) else { return };
    let first = accept::check_alone(&mut event, &STANDARD, 1_795_338_000_000_000);
    // What was brought to its types once stays as it is; only the id that it was given may make it too large.
    let again = accept::check_alone(&mut event, &STANDARD, 1_795_338_000_000_000);
    assert!(first.is_empty() == again.is_empty() || event.encoded_len() > accept::EVENT_BYTES_MAX);
    if let Ok(tenant) = "fuzz".parse() {
        assert!(accept::partition_of(&tenant, &event, 16) < 16);
    }
});
