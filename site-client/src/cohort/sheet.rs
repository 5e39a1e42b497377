//! Reading delimited text: columns by name, rows as a stream, errors that name the cell.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::error::{CohortError, Place};

/// A table opened for reading, its header read. A leading UTF-8 byte-order mark is skipped; the
/// delimiter (comma, tab or semicolon) is the one the header has most of.
pub(crate) struct Sheet {
    path: PathBuf,
    header: Vec<String>,
    columns: BTreeMap<String, usize>,
    reader: csv::Reader<Box<dyn Read>>,
    record: csv::StringRecord,
}

/// One row.
pub(crate) struct Row<'a> {
    sheet: &'a Sheet,
}

impl Sheet {
    pub(crate) fn open(path: &Path) -> Result<Self, CohortError> {
        let file = File::open(path).map_err(CohortError::io(path))?;
        let mut text = BufReader::new(file);
        let mut first = Vec::new();
        text.read_until(b'\n', &mut first)
            .map_err(CohortError::io(path))?;
        if first.starts_with(&[0xff, 0xfe]) || first.starts_with(&[0xfe, 0xff]) {
            return Err(CohortError::Utf16 {
                path: path.to_owned(),
            });
        }
        if first.starts_with(&[0xef, 0xbb, 0xbf]) {
            first.drain(..3);
        }
        if first.trim_ascii().is_empty() {
            return Err(CohortError::Empty {
                path: path.to_owned(),
            });
        }
        let count = |delimiter: u8| first.iter().filter(|&&byte| byte == delimiter).count();
        let delimiter = [b',', b'\t', b';']
            .into_iter()
            .max_by_key(|&d| (count(d), d == b','));
        let whole: Box<dyn Read> = Box::new(std::io::Cursor::new(first).chain(text));
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter.unwrap_or(b','))
            .trim(csv::Trim::All)
            .from_reader(whole);
        let header: Vec<String> = reader
            .headers()
            .map_err(CohortError::csv(path))?
            .iter()
            .map(str::to_owned)
            .collect();
        let mut columns = BTreeMap::new();
        for (index, name) in header.iter().enumerate() {
            if columns.insert(name.clone(), index).is_some() {
                return Err(CohortError::TwinColumn {
                    path: path.to_owned(),
                    column: name.clone(),
                });
            }
        }
        Ok(Self {
            path: path.to_owned(),
            header,
            columns,
            reader,
            record: csv::StringRecord::new(),
        })
    }

    /// The columns' names, in order.
    pub(crate) fn header(&self) -> &[String] {
        &self.header
    }

    /// Position of a column.
    pub(crate) fn column(&self, name: &str) -> Result<usize, CohortError> {
        self.find(name).ok_or_else(|| CohortError::NoColumn {
            path: self.path.clone(),
            column: name.to_owned(),
            found: self.header.join(", "),
        })
    }

    /// Position of a column that may be absent.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.columns.get(name).copied()
    }

    /// The next row, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>, CohortError> {
        let more = self
            .reader
            .read_record(&mut self.record)
            .map_err(CohortError::csv(&self.path))?;
        Ok(more.then_some(Row { sheet: self }))
    }
}

impl Row<'_> {
    /// Text of a cell.
    pub(crate) fn text(&self, column: usize) -> &str {
        self.sheet.record.get(column).unwrap_or_default()
    }

    /// Text of a cell that must not be empty.
    pub(crate) fn required(&self, column: usize) -> Result<&str, CohortError> {
        match self.text(column) {
            "" => Err(self.error(column, "an empty cell", "a value")),
            text => Ok(text),
        }
    }

    /// 0, 1 or empty.
    pub(crate) fn label(&self, column: usize) -> Result<Option<bool>, CohortError> {
        match self.text(column) {
            "" => Ok(None),
            "0" => Ok(Some(false)),
            "1" => Ok(Some(true)),
            found => Err(self.error(column, format!("\"{found}\""), "0, 1 or an empty cell")),
        }
    }

    /// Line in the file, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.sheet.record.position().map_or(0, csv::Position::line)
    }

    /// Where a cell of this row stands.
    pub(crate) fn place(&self, column: usize) -> Place {
        let name = self.sheet.header.get(column).cloned();
        Place::new(
            &self.sheet.path,
            self.line(),
            name.unwrap_or_else(|| (column + 1).to_string()),
        )
    }

    pub(crate) fn error(
        &self,
        column: usize,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> CohortError {
        CohortError::Cell {
            place: self.place(column),
            found: found.into(),
            expected: expected.into(),
        }
    }
}

/// Refuses a key seen before.
#[derive(Default)]
pub(crate) struct Unique(BTreeMap<String, u64>);

impl Unique {
    pub(crate) fn insert(&mut self, row: &Row<'_>, column: usize) -> Result<(), CohortError> {
        let key = row.text(column);
        if let Some(&first) = self.0.get(key) {
            return Err(CohortError::Twice {
                place: row.place(column),
                key: key.to_owned(),
                first,
            });
        }
        self.0.insert(key.to_owned(), row.line());
        Ok(())
    }
}

/// Writes a table beside its place and moves it there when it is whole.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut csv::Writer<File>) -> Result<(), csv::Error>,
) -> Result<(), CohortError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut writer = csv::Writer::from_path(&partial).map_err(CohortError::csv(path))?;
    write(&mut writer).map_err(CohortError::csv(path))?;
    let file = writer.into_inner().map_err(|error| CohortError::Io {
        path: path.to_owned(),
        source: error.into_error(),
    })?;
    file.sync_all().map_err(CohortError::io(path))?;
    std::fs::rename(&partial, path).map_err(CohortError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(bytes: &[u8]) -> Result<Sheet, CohortError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, bytes).unwrap();
        Sheet::open(&path)
    }

    #[test]
    fn a_byte_order_mark_does_not_hide_the_first_column() {
        let mut sheet = sheet(b"\xef\xbb\xbfscan,patient\ns1,p1\n").unwrap();
        assert_eq!(sheet.column("scan").unwrap(), 0);
        assert_eq!(sheet.next().unwrap().unwrap().text(0), "s1");
    }

    #[test]
    fn tabs_and_semicolons_are_found_from_the_header() {
        for text in ["a\tb\n1\t2\n", "a;b\n1;2\n"] {
            let mut sheet = sheet(text.as_bytes()).unwrap();
            assert_eq!(sheet.next().unwrap().unwrap().text(1), "2", "{text}");
        }
    }

    #[test]
    fn empty_files_and_utf16_are_refused_with_their_place() {
        for (bytes, words) in [
            (&b""[..], "row 1 column 1: the file is empty"),
            (&b"\n"[..], "row 1 column 1: the file is empty"),
            (&b"\xff\xfes\0"[..], "row 1 column 1: the file is UTF-16"),
            (&b"a,a\n"[..], "column \"a\" appears twice"),
        ] {
            let error = sheet(bytes).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
