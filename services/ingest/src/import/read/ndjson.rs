//! NDJSON: a JSON object per line.

use std::collections::VecDeque;
use std::io::BufRead;

use segue_proto::ingest::v1::ReasonCode;
use serde_json::{Map, Value};

use super::{RECORD_BYTES_MAX, ReadError, Row, SAMPLE_ROWS, content_error};
use crate::accept::reason;
use crate::collect::value::typed;
use crate::import::mapping::Plan;

/// Bytes of the lines in which columns are looked for.
const SAMPLE_BYTES: usize = 1 << 20;

/// An NDJSON file.
pub struct NdjsonReader<R> {
    input: R,
    columns: Vec<String>,
    /// Rows that were read to look at their columns.
    sampled: VecDeque<Row>,
    /// What stopped the sample.
    fault: Option<ReadError>,
    line: Vec<u8>,
}

enum Line {
    Text,
    TooLarge,
    End,
}

impl<R: BufRead> NdjsonReader<R> {
    /// Looks for the mapping's columns in the first rows.
    pub(super) fn open(input: R, plan: &Plan) -> Result<Self, ReadError> {
        let mut reader = Self { input, columns: plan.columns().to_vec(), sampled: VecDeque::new(), fault: None, line: Vec::new() };
        let mut present: Vec<String> = Vec::new();
        let mut bytes = 0;
        while reader.sampled.len() < SAMPLE_ROWS && bytes < SAMPLE_BYTES {
            let object = match reader.object() {
                Ok(Some(object)) => object,
                Ok(None) => break,
                Err(fault) => {
                    reader.fault = Some(fault);
                    break;
                }
            };
            bytes += reader.line.len();
            if let Ok(object) = &object {
                for name in object.keys() {
                    if !present.contains(name) && present.len() < 10_000 {
                        present.push(name.clone());
                    }
                }
            }
            let row = reader.cells(object);
            reader.sampled.push_back(row);
        }
        let faults = plan.check_columns(&present);
        if faults.is_empty() { Ok(reader) } else { Err(ReadError::Mismatch(faults)) }
    }

    /// The next row.
    pub(super) fn row(&mut self) -> Result<Option<Row>, ReadError> {
        if let Some(row) = self.sampled.pop_front() {
            return Ok(Some(row));
        }
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let object = self.object()?;
        Ok(object.map(|object| self.cells(object)))
    }

    fn cells(&self, object: Result<Map<String, Value>, segue_proto::ingest::v1::Reason>) -> Row {
        let mut object = object?;
        Ok(self.columns.iter().map(|column| object.remove(column).and_then(typed)).collect())
    }

    #[allow(clippy::type_complexity, reason = "end of file, faulty row, object")]
    fn object(&mut self) -> Result<Option<Result<Map<String, Value>, segue_proto::ingest::v1::Reason>>, ReadError> {
        loop {
            match self.read_line()? {
                Line::End => return Ok(None),
                Line::TooLarge => return Ok(Some(Err(reason(ReasonCode::TooLarge, "", "the line is longer than 1 MiB")))),
                Line::Text if self.line.iter().all(u8::is_ascii_whitespace) => {}
                Line::Text => {
                    let line = self.line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.line);
                    let read = serde_json::from_slice::<Map<String, Value>>(line);
                    return Ok(Some(
                        read.map_err(|error| reason(ReasonCode::Unreadable, "", format!("the line is not a JSON object: {error}"))),
                    ));
                }
            }
        }
    }

    /// Reads a line without its end into `self.line`.
    fn read_line(&mut self) -> Result<Line, ReadError> {
        self.line.clear();
        let (mut too_large, mut any) = (false, false);
        loop {
            let input = self.input.fill_buf().map_err(content_error)?;
            if input.is_empty() {
                return Ok(if too_large {
                    Line::TooLarge
                } else if any {
                    Line::Text
                } else {
                    Line::End
                });
            }
            any = true;
            let (part, ends) = match input.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at, true),
                None => (input.len(), false),
            };
            if self.line.len() + part > RECORD_BYTES_MAX {
                too_large = true;
                self.line.clear();
            } else if !too_large {
                self.line.extend_from_slice(&input[..part]);
            }
            self.input.consume(part + usize::from(ends));
            if ends {
                return Ok(if too_large { Line::TooLarge } else { Line::Text });
            }
        }
    }
}
