//! Messages from outside: none makes the writer panic, and what it writes reads back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use segue_proto::query::v1::Condition;
use segue_query::{TEXT_BYTES_MAX, format, normalise, parse, walk};

fuzz_target!(|data: &[u8]| {
    let Ok(condition) = Condition::decode(data) else { return };
    walk(&condition, |path, _| assert!(path.starts_with("condition")));
    if let Ok(text) = format(&condition)
        && text.len() <= TEXT_BYTES_MAX
    {
        assert_eq!(parse(&text), Ok(normalise(&condition)));
    }
});
