//! Tables of known columns and one column per task.

use std::collections::BTreeMap;
use std::path::Path;

use super::read_text;
use crate::report::ReportError;

/// A row of a table of known columns and one column per task.
pub(super) struct LabeledRow {
    line: u64,
    known: BTreeMap<&'static str, String>,
    tasks: Vec<(String, String)>,
}

impl LabeledRow {
    pub(super) fn text(&self, column: &str) -> Option<String> {
        self.known
            .get(column)
            .filter(|value| !value.is_empty())
            .cloned()
    }

    pub(super) fn number(&self, path: &Path, column: &str) -> Result<Option<f64>, ReportError> {
        let parse = |value: String| match value.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(self.wrong(path, format!("column {column}: not a number: {value:?}"))),
        };
        self.text(column).map(parse).transpose()
    }

    pub(super) fn labels(&self, path: &Path) -> Result<Vec<(String, Option<bool>)>, ReportError> {
        let parse = |(task, value): &(String, String)| match &**value {
            "" => Ok((task.clone(), None)),
            "0" => Ok((task.clone(), Some(false))),
            "1" => Ok((task.clone(), Some(true))),
            _ => Err(self.wrong(
                path,
                format!("column {task}: expected 0 or 1, found {value:?}"),
            )),
        };
        self.tasks.iter().map(parse).collect()
    }

    pub(super) fn wrong(&self, path: &Path, rule: String) -> ReportError {
        ReportError::Row {
            path: path.to_owned(),
            line: self.line,
            rule,
        }
    }
}

pub(super) fn read_rows(
    path: &Path,
    known: &[&'static str],
) -> Result<Vec<LabeledRow>, ReportError> {
    let Some(text) = read_text(path)? else {
        return Ok(Vec::new());
    };
    let wrong = |error: csv::Error| ReportError::Row {
        path: path.to_owned(),
        line: error.position().map_or(1, csv::Position::line),
        rule: error.to_string(),
    };
    let mut table = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let header = table.headers().map_err(wrong)?.clone();
    let mut rows = Vec::new();
    for record in table.records() {
        let record = record.map_err(wrong)?;
        let mut row = LabeledRow {
            line: record.position().map_or(0, csv::Position::line),
            known: BTreeMap::new(),
            tasks: Vec::new(),
        };
        for (name, value) in header.iter().zip(&record) {
            match known.iter().find(|known| **known == name) {
                Some(known) => {
                    row.known.insert(known, value.to_owned());
                }
                None => row.tasks.push((name.to_owned(), value.to_owned())),
            }
        }
        rows.push(row);
    }
    Ok(rows)
}
