//! CSV files of imports: no bytes make the reader panic, and every row it reads becomes an event.
#![no_main]

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use libfuzzer_sys::fuzz_target;
use segue_ingest::import::mapping::Plan;
use segue_ingest::import::read::FileReader;
use segue_proto::ingest::v1::{IdentifierColumn, ImportFormat, Mapping, PropertyColumn, PropertyType};

fn mapping() -> Mapping {
    Mapping {
        format: ImportFormat::Csv.into(),
        event_name: "bought".to_owned(),
        time_column: "t".to_owned(),
        identifiers: vec![IdentifierColumn { column: "u".to_owned(), kind: "user_id".to_owned() }],
        properties: vec![PropertyColumn { column: "p".to_owned(), property: String::new(), r#type: PropertyType::Decimal.into() }],
        ..Mapping::default()
    }
}

fuzz_target!(|data: &[u8]| {
    let mapping = mapping();
    let Ok(plan) = Plan::of(&mapping) else { return };
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"t,u,p\n").and_then(|()| file.write_all(data)).expect("written");
    let Ok(mut reader) = FileReader::open(file.path(), &mapping, &plan, false, Arc::new(AtomicU64::new(0))) else { return };
    while let Ok(rows) = reader.rows(100) {
        if rows.is_empty() {
            break;
        }
        for cells in rows.into_iter().flatten() {
            let _ = plan.candidate(cells, || "id".to_owned());
        }
    }
});
