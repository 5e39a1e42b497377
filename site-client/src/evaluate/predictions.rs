//! The predictions table: one row per scan, task and model.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use csv::StringRecord;

use super::EvaluateError;

/// The score of one scan for one task, with what is known about scan and model.
///
/// In a file each field is a column of the same name; the first five are required, an empty
/// optional field is an empty value, and columns of other names are ignored.
#[derive(Clone, PartialEq)]
pub struct Prediction {
    /// Patient, by which intervals are clustered.
    pub patient: Arc<str>,
    /// Scan, unique within task and model.
    pub scan: Arc<str>,
    /// Disease, such as `ICH`.
    pub task: Arc<str>,
    /// Whether the scan shows the disease: `0` or `1`.
    pub label: bool,
    /// Higher means more likely diseased. Calibration needs a probability, ranking any number.
    pub score: f64,
    /// Where the scan was made: the test site.
    pub site: Option<Arc<str>>,
    /// Training run that made the score.
    pub run: Option<Arc<str>>,
    /// Model and its initialization, such as `FM-CT DINO` or `scratch`.
    pub model: Option<Arc<str>>,
    /// How the task was learned: `finetune`, `linear_probe`, `attentive_probe`.
    pub protocol: Option<Arc<str>>,
    /// Site whose labels trained the model; another site than `site` makes external validation.
    pub trained_at: Option<Arc<str>>,
    /// Maker of the scanner.
    pub manufacturer: Option<Arc<str>>,
    /// Slice thickness in mm.
    pub thickness: Option<f64>,
    /// Sex as recorded, usually `M` or `F`.
    pub sex: Option<Arc<str>>,
    /// Age in years.
    pub age: Option<f64>,
    /// Part of the split; test unless said otherwise.
    pub part: Part,
}

/// Part of the split a scan belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The model saw the label.
    Train,
    /// Thresholds are chosen here.
    Validation,
    /// Held out: everything reported is counted here.
    #[default]
    Test,
}

/// A table of predictions in file order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Predictions {
    /// The rows.
    pub rows: Vec<Prediction>,
}

impl Prediction {
    /// A test-set prediction of which nothing else is known.
    pub fn new(
        patient: impl Into<Arc<str>>,
        scan: impl Into<Arc<str>>,
        task: impl Into<Arc<str>>,
        label: bool,
        score: f64,
    ) -> Self {
        Self {
            patient: patient.into(),
            scan: scan.into(),
            task: task.into(),
            label,
            score,
            site: None,
            run: None,
            model: None,
            protocol: None,
            trained_at: None,
            manufacturer: None,
            thickness: None,
            sex: None,
            age: None,
            part: Part::Test,
        }
    }
}

/// Shows the task only: patients, scans and their scores stay out of logs.
impl fmt::Debug for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prediction")
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}

impl Part {
    /// Name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Train, Self::Validation, Self::Test]
            .into_iter()
            .find(|part| part.name() == name)
    }
}

impl Predictions {
    /// Reads a file.
    ///
    /// # Errors
    /// An unreadable file, a missing column, or a value its column does not allow, with its line.
    pub fn read(path: &Path) -> Result<Self, EvaluateError> {
        let file = File::open(path).map_err(|source| EvaluateError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::from_reader(BufReader::new(file))
    }

    /// Reads a table.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn from_reader(reader: impl Read) -> Result<Self, EvaluateError> {
        let mut table = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(reader);
        let columns = Columns::find(table.headers()?)?;
        let mut names = Names::default();
        let mut rows = Vec::new();
        let mut record = StringRecord::new();
        while table.read_record(&mut record)? {
            rows.push(columns.row(&record, &mut names)?);
        }
        Ok(Self { rows })
    }

    /// Writes a file with all columns that some row has a value for.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), EvaluateError> {
        let file = File::create(path).map_err(|source| EvaluateError::Io {
            path: path.to_owned(),
            source,
        })?;
        self.to_writer(BufWriter::new(file))
    }

    /// Writes a table.
    ///
    /// # Errors
    /// A writer that fails.
    pub fn to_writer(&self, writer: impl Write) -> Result<(), EvaluateError> {
        let mut table = csv::Writer::from_writer(writer);
        let written: Vec<Column> = Column::ALL
            .into_iter()
            .filter(|column| {
                column.required() || self.rows.iter().any(|row| !column.value(row).is_empty())
            })
            .collect();
        table.write_record(written.iter().map(|column| column.name()))?;
        for row in &self.rows {
            table.write_record(written.iter().map(|column| column.value(row)))?;
        }
        table.flush().map_err(csv::Error::from)?;
        Ok(())
    }
}

/// A column the table knows, in the order it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Patient,
    Scan,
    Site,
    Task,
    Label,
    Score,
    Run,
    Model,
    Protocol,
    TrainedAt,
    Manufacturer,
    Thickness,
    Sex,
    Age,
    Part,
}

impl Column {
    const ALL: [Self; 15] = [
        Self::Patient,
        Self::Scan,
        Self::Site,
        Self::Task,
        Self::Label,
        Self::Score,
        Self::Run,
        Self::Model,
        Self::Protocol,
        Self::TrainedAt,
        Self::Manufacturer,
        Self::Thickness,
        Self::Sex,
        Self::Age,
        Self::Part,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::Scan => "scan",
            Self::Site => "site",
            Self::Task => "task",
            Self::Label => "label",
            Self::Score => "score",
            Self::Run => "run",
            Self::Model => "model",
            Self::Protocol => "protocol",
            Self::TrainedAt => "trained_at",
            Self::Manufacturer => "manufacturer",
            Self::Thickness => "thickness",
            Self::Sex => "sex",
            Self::Age => "age",
            Self::Part => "part",
        }
    }

    fn required(self) -> bool {
        matches!(
            self,
            Self::Patient | Self::Scan | Self::Task | Self::Label | Self::Score
        )
    }

    fn value(self, row: &Prediction) -> String {
        let text = |value: &Option<Arc<str>>| value.as_deref().unwrap_or_default().to_owned();
        let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        match self {
            Self::Patient => row.patient.to_string(),
            Self::Scan => row.scan.to_string(),
            Self::Site => text(&row.site),
            Self::Task => row.task.to_string(),
            Self::Label => u8::from(row.label).to_string(),
            Self::Score => row.score.to_string(),
            Self::Run => text(&row.run),
            Self::Model => text(&row.model),
            Self::Protocol => text(&row.protocol),
            Self::TrainedAt => text(&row.trained_at),
            Self::Manufacturer => text(&row.manufacturer),
            Self::Thickness => number(row.thickness),
            Self::Sex => text(&row.sex),
            Self::Age => number(row.age),
            // Test is what a missing column means.
            Self::Part if row.part == Part::Test => String::new(),
            Self::Part => row.part.name().to_owned(),
        }
    }
}

/// Where each known column stands in a file.
struct Columns([Option<usize>; Column::ALL.len()]);

impl Columns {
    fn find(header: &StringRecord) -> Result<Self, EvaluateError> {
        let mut places = [None; Column::ALL.len()];
        for column in Column::ALL {
            let mut matches = (0..header.len()).filter(|&place| &header[place] == column.name());
            places[column as usize] = matches.next();
            if matches.next().is_some() {
                return Err(EvaluateError::RepeatedColumn {
                    column: column.name(),
                });
            }
            if places[column as usize].is_none() && column.required() {
                let found = header.iter().collect::<Vec<_>>().join(", ");
                return Err(EvaluateError::MissingColumn {
                    column: column.name(),
                    found,
                });
            }
        }
        Ok(Self(places))
    }

    fn row(&self, record: &StringRecord, names: &mut Names) -> Result<Prediction, EvaluateError> {
        let fields = Fields {
            columns: self,
            record,
        };
        let mut text = |column| fields.value(column).map(|value| names.intern(value));
        Ok(Prediction {
            patient: text(Column::Patient)
                .ok_or_else(|| fields.wrong(Column::Patient, "a name"))?,
            scan: text(Column::Scan).ok_or_else(|| fields.wrong(Column::Scan, "a name"))?,
            task: text(Column::Task).ok_or_else(|| fields.wrong(Column::Task, "a name"))?,
            site: text(Column::Site),
            run: text(Column::Run),
            model: text(Column::Model),
            protocol: text(Column::Protocol),
            trained_at: text(Column::TrainedAt),
            manufacturer: text(Column::Manufacturer),
            sex: text(Column::Sex),
            label: match fields.value(Column::Label) {
                Some("0") => false,
                Some("1") => true,
                _ => return Err(fields.wrong(Column::Label, "0 or 1")),
            },
            // A score that is not a number empties one cell of the result, not the whole table.
            score: fields
                .number(Column::Score)?
                .ok_or_else(|| fields.wrong(Column::Score, "a number"))?,
            thickness: fields.positive(Column::Thickness, "a thickness above 0 mm")?,
            age: fields.positive(Column::Age, "an age in years")?,
            part: match fields.value(Column::Part) {
                None => Part::Test,
                Some(name) => Part::parse(name)
                    .ok_or_else(|| fields.wrong(Column::Part, "train, validation or test"))?,
            },
        })
    }
}

struct Fields<'a> {
    columns: &'a Columns,
    record: &'a StringRecord,
}

impl<'a> Fields<'a> {
    fn value(&self, column: Column) -> Option<&'a str> {
        let place = self.columns.0[column as usize]?;
        self.record.get(place).filter(|value| !value.is_empty())
    }

    fn number(&self, column: Column) -> Result<Option<f64>, EvaluateError> {
        let parse = |value: &str| value.parse().map_err(|_| self.wrong(column, "a number"));
        self.value(column).map(parse).transpose()
    }

    fn positive(
        &self,
        column: Column,
        expected: &'static str,
    ) -> Result<Option<f64>, EvaluateError> {
        match self.number(column)? {
            Some(value) if !(value.is_finite() && value >= 0.0) => {
                Err(self.wrong(column, expected))
            }
            value => Ok(value),
        }
    }

    fn wrong(&self, column: Column, expected: &'static str) -> EvaluateError {
        EvaluateError::Value {
            line: self.record.position().map_or(0, csv::Position::line),
            column: column.name(),
            expected,
            found: self.value(column).unwrap_or_default().to_owned(),
        }
    }
}

/// Shares equal strings: a table repeats each name thousands of times.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = name.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Result<Predictions, EvaluateError> {
        Predictions::from_reader(table.as_bytes())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut full = Prediction::new("p1", "s1", "ICH", true, 0.123_456_789_012_345_67);
        full.site = Some("north, main".into());
        full.model = Some("FM-CT \"DINO\"".into());
        full.thickness = Some(0.5);
        full.part = Part::Validation;
        let bare = Prediction::new("p2", "s2", "ICH", false, -3.0);
        let table = Predictions {
            rows: vec![full, bare],
        };
        let mut bytes = Vec::new();
        table.to_writer(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("patient,scan,site,task,label,score,model,thickness,part\n"));
        assert_eq!(read(&text).unwrap(), table);
    }

    #[test]
    fn columns_are_found_by_name_and_others_are_ignored() {
        let table = read("score,note,label,task,scan,patient\n0.5,x,1,ICH,s,p\n").unwrap();
        assert_eq!(table.rows, [Prediction::new("p", "s", "ICH", true, 0.5)]);
    }

    #[test]
    fn errors_name_line_and_column() {
        let header = "patient,scan,task,label,score,age,part\n";
        let message = |row: &str| {
            read(&format!("{header}p,s,t,0,1,,\n{row}\n"))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            message("p,s,t,2,1,,"),
            "predictions: line 3, column label: expected 0 or 1, found \"2\""
        );
        assert_eq!(
            message("p,s,t,1,high,,"),
            "predictions: line 3, column score: expected a number, found \"high\""
        );
        assert!(message("p,s,t,1,1,-4,").contains("column age"));
        assert!(message("p,s,t,1,1,,dev").contains("train, validation or test"));
        assert!(message(",s,t,1,1,,").contains("column patient"));
        assert_eq!(
            read("patient,scan,task,label\n").unwrap_err().to_string(),
            "predictions: no column score, found patient, scan, task, label"
        );
        assert!(read("patient,scan,task,label,score,score\n").is_err());
        assert!(matches!(
            read(&format!("{header}p,s,t\n")),
            Err(EvaluateError::Csv(_))
        ));
    }

    #[test]
    fn a_score_that_is_not_a_number_is_kept_for_its_cell_to_report() {
        let table = read("patient,scan,task,label,score\np,s,t,0,NaN\n").unwrap();
        assert!(table.rows[0].score.is_nan());
    }

    #[test]
    fn debug_shows_no_patient() {
        let shown = format!(
            "{:?}",
            Prediction::new("Jane Doe", "scan-17", "ICH", true, 0.7)
        );
        assert!(!shown.contains("Jane") && !shown.contains("17") && !shown.contains("0.7"));
    }
}
