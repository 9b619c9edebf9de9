//! CSV: quotes and line breaks in fields, any delimiter, a header. Records are bounded while they are read.

use std::io::BufRead;

use csv_core::ReadRecordResult;
use segue_model::FieldViolation;
use segue_proto::events::v1::{Value, value::Kind};
use segue_proto::ingest::v1::ReasonCode;

use super::{RECORD_BYTES_MAX, ReadError, Row, content_error};
use crate::accept::reason;
use crate::import::mapping::Plan;

/// Most columns of a file.
const COLUMNS_MAX: usize = 10_000;

/// A CSV file.
pub struct CsvReader<R> {
    input: R,
    core: csv_core::Reader,
    output: Vec<u8>,
    ends: Vec<usize>,
    columns: usize,
    /// For each needed column, which field it is.
    wanted: Vec<(usize, String)>,
}

enum Record {
    /// Fields end at `ends[..n]` of the output.
    Fields(usize),
    TooLarge,
    End,
}

impl<R: BufRead> CsvReader<R> {
    /// Reads the header.
    pub(super) fn open(input: R, delimiter: u8, plan: &Plan) -> Result<Self, ReadError> {
        let core = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        let mut reader = Self { input, core, output: vec![0; 4 << 10], ends: vec![0; 64], columns: 0, wanted: Vec::new() };
        let header = match reader.record()? {
            Record::Fields(count) => (0..count).map(|at| String::from_utf8_lossy(reader.field(at)).into_owned()).collect::<Vec<_>>(),
            Record::TooLarge => return Err(mismatch("the first line is longer than 1 MiB: it is not a header of CSV")),
            Record::End => return Err(mismatch("the file is empty: its first line must name the columns")),
        };
        let faults = plan.check_columns(&header);
        if !faults.is_empty() {
            return Err(ReadError::Mismatch(faults));
        }
        for column in plan.columns() {
            let mut at = header.iter().enumerate().filter(|(_, name)| *name == column).map(|(at, _)| at);
            let (Some(first), None) = (at.next(), at.next()) else {
                return Err(mismatch(&format!("the column `{column}` stands twice in the header")));
            };
            reader.wanted.push((first, column.clone()));
        }
        reader.columns = header.len();
        Ok(reader)
    }

    /// The next row.
    pub(super) fn row(&mut self) -> Result<Option<Row>, ReadError> {
        let count = match self.record()? {
            Record::Fields(count) => count,
            Record::TooLarge => return Ok(Some(Err(reason(ReasonCode::TooLarge, "", "the row is longer than 1 MiB")))),
            Record::End => return Ok(None),
        };
        if count != self.columns {
            let message = format!("the row has {count} fields and the header {}", self.columns);
            return Ok(Some(Err(reason(ReasonCode::Unreadable, "", message))));
        }
        let mut cells = Vec::with_capacity(self.wanted.len());
        for (at, column) in &self.wanted {
            let Ok(text) = std::str::from_utf8(self.field(*at)) else {
                return Ok(Some(Err(reason(ReasonCode::Unreadable, column, format!("the column `{column}` is not UTF-8")))));
            };
            // An empty cell is a missing value: CSV has no other way to say it.
            cells.push((!text.is_empty()).then(|| Value { kind: Some(Kind::StringValue(text.to_owned())) }));
        }
        Ok(Some(Ok(cells)))
    }

    fn field(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.output[start..self.ends[at]]
    }

    fn record(&mut self) -> Result<Record, ReadError> {
        let (mut filled, mut fields, mut too_large) = (0, 0, false);
        loop {
            let input = self.input.fill_buf().map_err(content_error)?;
            let (result, read, written, ended) = self.core.read_record(input, &mut self.output[filled..], &mut self.ends[fields..]);
            self.input.consume(read);
            filled += written;
            fields += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.output.len() < RECORD_BYTES_MAX => {
                    let room = (self.output.len() * 2).min(RECORD_BYTES_MAX);
                    self.output.resize(room, 0);
                }
                ReadRecordResult::OutputEndsFull if self.ends.len() < COLUMNS_MAX => self.ends.resize(self.ends.len() * 2, 0),
                // The rest of the record is read over what was read of it.
                ReadRecordResult::OutputFull => (filled, too_large) = (0, true),
                ReadRecordResult::OutputEndsFull => (fields, too_large) = (0, true),
                ReadRecordResult::Record if too_large => return Ok(Record::TooLarge),
                ReadRecordResult::Record => return Ok(Record::Fields(fields)),
                ReadRecordResult::End => return Ok(Record::End),
            }
        }
    }
}

fn mismatch(why: &str) -> ReadError {
    ReadError::Mismatch(vec![FieldViolation::new("mapping.format", why)])
}
