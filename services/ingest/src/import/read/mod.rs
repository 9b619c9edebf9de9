//! Reading files row by row, in bounded memory. To add a format: a module here, a variant of [`FileReader`].

mod csv;
mod ndjson;
mod parquet;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use segue_model::FieldViolation;
use segue_proto::ingest::v1::{ImportFormat, Mapping, Reason};

use super::mapping::{Cells, Plan, delimiter_of};

/// Largest record: a line of NDJSON, a row of CSV, a text of Parquet.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Rows of NDJSON in which columns are looked for.
const SAMPLE_ROWS: usize = 1_000;

/// A row, or why it is none.
pub type Row = Result<Cells, Reason>;

/// A file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The mapping does not fit the file, or the file is not of its format.
    #[error("the mapping does not fit the file")]
    Mismatch(Vec<FieldViolation>),
    /// The file ends or breaks in the middle.
    #[error("{0}")]
    Broken(String),
    /// Our own copy of the file cannot be read.
    #[error("the uploaded file cannot be read")]
    Io(#[from] std::io::Error),
}

/// A file that is being read.
pub enum FileReader {
    /// Comma-separated values.
    Csv(Box<csv::CsvReader<Source>>),
    /// A JSON object per line.
    Ndjson(ndjson::NdjsonReader<Source>),
    /// Parquet.
    Parquet(Box<parquet::ParquetReader>),
}

/// The content of a file, decompressed.
pub type Source = BufReader<Box<dyn Read + Send>>;

/// Counts the bytes that were read of a file.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl FileReader {
    /// Opens a file and holds the mapping against its columns. `read` counts the bytes of the file that were read.
    pub fn open(path: &Path, mapping: &Mapping, plan: &Plan, compressed: bool, read: Arc<AtomicU64>) -> Result<Self, ReadError> {
        let file = File::open(path)?;
        let format = ImportFormat::try_from(mapping.format).unwrap_or(ImportFormat::Unspecified);
        if format == ImportFormat::Parquet {
            // Parquet is never compressed as a whole here: it was decompressed when it was taken in.
            return Ok(FileReader::Parquet(Box::new(parquet::ParquetReader::open(file, plan, read)?)));
        }
        let counted = Counted { file, read };
        let content: Box<dyn Read + Send> =
            if compressed { Box::new(MultiGzDecoder::new(BufReader::with_capacity(64 << 10, counted))) } else { Box::new(counted) };
        let source = BufReader::with_capacity(64 << 10, content);
        if format == ImportFormat::Ndjson {
            return Ok(FileReader::Ndjson(ndjson::NdjsonReader::open(source, plan)?));
        }
        Ok(FileReader::Csv(Box::new(csv::CsvReader::open(source, delimiter_of(mapping), plan)?)))
    }

    /// The next rows, at most `rows_max`; none at the end. Rows that were read before a fault are returned before it.
    pub fn rows(&mut self, rows_max: usize) -> Result<Vec<Row>, (Vec<Row>, ReadError)> {
        let mut rows = Vec::with_capacity(rows_max);
        while rows.len() < rows_max {
            let row = match self {
                FileReader::Csv(reader) => reader.row(),
                FileReader::Ndjson(reader) => reader.row(),
                FileReader::Parquet(reader) => reader.row(),
            };
            match row {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => break,
                Err(error) => return Err((rows, error)),
            }
        }
        Ok(rows)
    }
}

/// What reading content says: gzip that ends or breaks is a fault of the file, not of our disk.
fn content_error(error: std::io::Error) -> ReadError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => ReadError::Broken("the compressed file ends in the middle: it was cut off".to_owned()),
        std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
            ReadError::Broken(format!("the compressed file is damaged: {error}"))
        }
        _ => ReadError::Io(error),
    }
}
