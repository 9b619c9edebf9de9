//! Files of identifiers: CSV with a header line, read as its parts come in.

use std::collections::{BTreeMap, BTreeSet};

use csv_core::ReadRecordResult;
use segue_model::FieldViolation;
use segue_model::identifier::{KINDS, VALUE_BYTES_MAX, is_kind, names_somebody, strength};
use segue_proto::events::v1::Identifier;

use crate::error::AudienceError;

/// Longest row.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// Most columns of a file.
const COLUMNS_MAX: usize = 10_000;
/// The parser takes off a byte order mark if it is there whole at first.
const BYTE_ORDER_MARK_BYTES: usize = 3;
/// Columns that hold identifiers.
const IDENTIFIERS_MAX: usize = 50;

/// Who a row names, the strongest identifier first; empty where nobody can be meant.
pub(super) type Row = Vec<Identifier>;

/// A file that comes in parts.
pub(super) struct Reader {
    /// The beginning of the file, until there is enough of it to see a byte order mark; then nothing.
    head: Option<Vec<u8>>,
    core: csv_core::Reader,
    output: Vec<u8>,
    ends: Vec<usize>,
    /// Of the record that is being read.
    filled: usize,
    fields: usize,
    is_too_large: bool,
    /// Kinds by columns, as the caller names them.
    named: BTreeMap<String, String>,
    /// Where the identifiers of which kinds stand, the strongest first; once the header was read.
    plan: Option<Vec<(usize, String)>>,
}

impl Reader {
    /// A file whose columns hold identifiers of these kinds; none: columns are named by kinds.
    pub(super) fn new(named: BTreeMap<String, String>) -> Result<Self, AudienceError> {
        let mut faults = Vec::new();
        if named.len() > IDENTIFIERS_MAX {
            faults.push(FieldViolation::new("header.columns", format!("at most {IDENTIFIERS_MAX} columns")));
        }
        for (column, kind) in named.iter().filter(|(_, kind)| !is_kind(kind)) {
            let fault = format!("`{kind}` is no kind of identifier: 1 to 64 characters of a-z, 0-9 and '_'");
            faults.push(FieldViolation::new(format!("header.columns[{column}]"), fault));
        }
        segue_runtime::fields::refuse(faults)?;
        Ok(Self {
            head: Some(Vec::new()),
            core: csv_core::Reader::new(),
            output: vec![0; 4 << 10],
            ends: vec![0; 64],
            filled: 0,
            fields: 0,
            is_too_large: false,
            named,
            plan: None,
        })
    }

    /// Takes a part of the file; the rows that ended in it are put behind `rows`.
    pub(super) fn read(&mut self, part: &[u8], rows: &mut Vec<Row>) -> Result<(), AudienceError> {
        let Some(mut head) = self.head.take() else { return self.parse(part, rows) };
        head.extend_from_slice(part);
        if head.len() < BYTE_ORDER_MARK_BYTES {
            self.head = Some(head);
            return Ok(());
        }
        self.parse(&head, rows)
    }

    fn parse(&mut self, mut part: &[u8], rows: &mut Vec<Row>) -> Result<(), AudienceError> {
        // Without input the parser would take it for the end of the file.
        while !part.is_empty() {
            let (result, read) = self.step(part);
            part = part.get(read..).unwrap_or_default();
            if matches!(result, ReadRecordResult::Record) {
                self.take_record(rows)?;
            }
        }
        Ok(())
    }

    /// Takes the end of the file.
    pub(super) fn finish(&mut self, rows: &mut Vec<Row>) -> Result<(), AudienceError> {
        if let Some(head) = self.head.take() {
            self.parse(&head, rows)?;
        }
        loop {
            match self.step(&[]).0 {
                ReadRecordResult::Record => self.take_record(rows)?,
                ReadRecordResult::End => break,
                ReadRecordResult::InputEmpty | ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {}
            }
        }
        if self.plan.is_none() {
            return Err(AudienceError::field("chunk", "the file is empty: its first line must name the columns"));
        }
        Ok(())
    }

    /// How many identifiers a row can have.
    pub(super) fn identifiers_max(&self) -> usize {
        self.plan.as_ref().map_or(IDENTIFIERS_MAX, Vec::len)
    }

    fn step(&mut self, part: &[u8]) -> (ReadRecordResult, usize) {
        let output = self.output.get_mut(self.filled..).unwrap_or_default();
        let ends = self.ends.get_mut(self.fields..).unwrap_or_default();
        let (result, read, written, ended) = self.core.read_record(part, output, ends);
        self.filled += written;
        self.fields += ended;
        match result {
            ReadRecordResult::OutputFull if self.output.len() < RECORD_BYTES_MAX => {
                self.output.resize((self.output.len() * 2).min(RECORD_BYTES_MAX), 0);
            }
            ReadRecordResult::OutputEndsFull if self.ends.len() < COLUMNS_MAX => self.ends.resize(self.ends.len() * 2, 0),
            // The rest of the record is read over what was read of it.
            ReadRecordResult::OutputFull => (self.filled, self.is_too_large) = (0, true),
            ReadRecordResult::OutputEndsFull => (self.fields, self.is_too_large) = (0, true),
            ReadRecordResult::InputEmpty | ReadRecordResult::Record | ReadRecordResult::End => {}
        }
        (result, read)
    }

    fn take_record(&mut self, rows: &mut Vec<Row>) -> Result<(), AudienceError> {
        match &self.plan {
            None if self.is_too_large => {
                return Err(AudienceError::field("chunk", "the first line is too long to be a header of CSV"));
            }
            None => {
                let header: Vec<String> = (0..self.fields).map(|at| String::from_utf8_lossy(self.field(at)).into_owned()).collect();
                self.plan = Some(plan(&header, &self.named)?);
            }
            // Of a row that is too long nothing is believed.
            Some(_) if self.is_too_large => rows.push(Row::new()),
            Some(plan) => rows.push(plan.iter().filter_map(|(at, kind)| identifier(kind, self.field(*at))).collect()),
        }
        (self.filled, self.fields, self.is_too_large) = (0, 0, false);
        Ok(())
    }

    /// A field of the record; empty where the row has fewer.
    fn field(&self, at: usize) -> &[u8] {
        if at >= self.fields {
            return &[];
        }
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
        self.ends.get(at).and_then(|end| self.output.get(start..*end)).unwrap_or_default()
    }
}

/// What a cell names, if it can name somebody at all.
fn identifier(kind: &str, cell: &[u8]) -> Option<Identifier> {
    let value = std::str::from_utf8(cell).ok()?;
    let is_one = value.len() <= VALUE_BYTES_MAX && !value.contains('\0') && names_somebody(value);
    is_one.then(|| Identifier { kind: kind.to_owned(), value: value.to_owned() })
}

/// Where the identifiers of which kinds stand, the strongest first.
fn plan(header: &[String], named: &BTreeMap<String, String>) -> Result<Vec<(usize, String)>, AudienceError> {
    let own = KINDS.map(|kind| (kind.to_owned(), kind.to_owned()));
    let (wanted, all): (Vec<(String, String)>, bool) =
        if named.is_empty() { (own.to_vec(), false) } else { (named.clone().into_iter().collect(), true) };
    let mut plan = Vec::new();
    let mut faults = Vec::new();
    for (column, kind) in wanted {
        let mut places = header.iter().enumerate().filter(|(_, name)| **name == column).map(|(at, _)| at);
        match (places.next(), places.next()) {
            (Some(at), None) => plan.push((at, kind)),
            (Some(_), Some(_)) => faults.push(format!("the column `{column}` stands twice in the header")),
            (None, _) if all => faults.push(format!("the file has no column `{column}`")),
            (None, _) => {}
        }
    }
    if faults.is_empty() && plan.is_empty() {
        let names: BTreeSet<&str> = header.iter().take(20).map(String::as_str).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        faults.push(format!("no column is named by a kind of identifier, such as `user_id` or `email`: the file has {names:.500}"));
    }
    segue_runtime::fields::refuse(faults.into_iter().map(|fault| FieldViolation::new("header.columns", fault)).collect())?;
    plan.sort_by(|(_, kind), (_, other)| strength(kind).cmp(&strength(other)));
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(file: &[u8], part_bytes: usize, named: &[(&str, &str)]) -> Result<Vec<Vec<String>>, AudienceError> {
        let named = named.iter().map(|(column, kind)| ((*column).to_owned(), (*kind).to_owned())).collect();
        let mut reader = Reader::new(named)?;
        let mut rows = Vec::new();
        for part in file.chunks(part_bytes) {
            reader.read(part, &mut rows)?;
        }
        reader.finish(&mut rows)?;
        let text = |row: Row| row.into_iter().map(|id| format!("{}:{}", id.kind, id.value)).collect();
        Ok(rows.into_iter().map(text).collect())
    }

    fn fault(result: Result<Vec<Vec<String>>, AudienceError>) -> String {
        match result {
            Err(AudienceError::Invalid(faults)) => faults.into_iter().map(|fault| fault.description).collect::<Vec<_>>().join("; "),
            other => panic!("not invalid: {other:?}"),
        }
    }

    #[test]
    fn columns_named_by_kinds_are_taken_and_the_strongest_comes_first() {
        let file = "\u{feff}\"email\",name,user_id\r\na@x,\"Kim, A.\",1\n\n\"b\"\"@x\nmore\",B,\r\nnull,C,0000\nD\ne@x,E,5,6";
        let expected: [&[&str]; 5] = [&["user_id:1", "email:a@x"], &["email:b\"@x\nmore"], &[], &["email:D"], &["user_id:5", "email:e@x"]];
        for part_bytes in [1, 2, 3, 7, 1_000] {
            assert_eq!(read(file.as_bytes(), part_bytes, &[]).expect("in order"), expected, "{part_bytes}");
        }
    }

    #[test]
    fn columns_are_those_that_the_header_of_the_import_names() {
        let file = b"email,Mitglied,Karte\nx@x,m1,k1\ny@x,,k2\n";
        let rows = read(file, 5, &[("Mitglied", "user_id"), ("Karte", "loyalty_card")]).expect("in order");
        assert_eq!(rows, [vec!["user_id:m1", "loyalty_card:k1"], vec!["loyalty_card:k2"]]);
        assert_eq!(fault(read(file, 5, &[("mitglied", "user_id")])), "the file has no column `mitglied`");
        assert!(fault(read(file, 5, &[("Mitglied", "User")])).contains("`User` is no kind"));
    }

    #[test]
    fn files_without_a_usable_header_are_refused() {
        assert!(fault(read(b"", 5, &[])).contains("the file is empty"));
        assert!(fault(read(b"\n\n", 5, &[])).contains("the file is empty"));
        assert!(fault(read(b"name,age\na,1\n", 5, &[])).contains("the file has age, name"));
        assert!(fault(read(b"email,email\na,b\n", 5, &[])).contains("twice"));
        let long = [vec![b'a'; RECORD_BYTES_MAX + 1], b"\nemail".to_vec()].concat();
        assert!(fault(read(&long, 65_536, &[])).contains("too long"));
    }

    #[test]
    fn a_row_that_is_too_long_names_nobody_and_the_next_is_read() {
        let wide = [b"user_id,x\n1,\"".to_vec(), vec![b'a'; 3 * RECORD_BYTES_MAX], b"\"\n2,b\n".to_vec()].concat();
        assert_eq!(read(&wide, 65_536, &[]).expect("in order"), [vec![], vec!["user_id:2"]]);
        let many = [b"user_id,x\n1".to_vec(), vec![b','; 3 * COLUMNS_MAX], b"\n2,b\n".to_vec()].concat();
        assert_eq!(read(&many, 65_536, &[]).expect("in order"), [vec![], vec!["user_id:2"]]);
        let value = [b"user_id\n".to_vec(), vec![b'a'; VALUE_BYTES_MAX + 1], b"\n\xff\xfe\n3\n".to_vec()].concat();
        assert_eq!(read(&value, 65_536, &[]).expect("in order"), [vec![], vec![], vec!["user_id:3"]]);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_parts_give_the_same_rows_or_the_same_fault(
            file in prop::collection::vec(prop_oneof![Just(b','), Just(b'"'), Just(b'\n'), Just(b'\r'), any::<u8>()], 0..300),
            part_bytes in 1..20usize,
        ) {
            let file = [b"email,user_id\n".to_vec(), file].concat();
            let (whole, parts) = (read(&file, file.len(), &[]), read(&file, part_bytes, &[]));
            prop_assert_eq!(whole.map_err(|error| error.to_string()), parts.map_err(|error| error.to_string()));
        }
    }
}
