//! Writes what the report reads about a cohort: who is in it, and where its scans lie.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use crate::report::ReportError;
use crate::train::data::{Labelled, LabelledScan};

/// Writes `cohort.csv`: every scan of `sets`, with the labels of the first set's tasks.
///
/// # Errors
/// A file that cannot be written.
pub fn write_cohort(folder: &Path, sets: &[&Labelled]) -> Result<(), ReportError> {
    let tasks = sets.first().map_or(&[][..], |set| set.tasks());
    let header = ["patient", "scan", "site", "sex", "age", "part"];
    let rows = sets.iter().flat_map(|set| set.rows());
    let rows = rows.map(|row| {
        vec![
            row.patient.to_string(),
            row.scan.to_string(),
            text(row.site.as_deref()),
            text(row.sex.as_deref()),
            number(row.age),
            row.part.name().to_owned(),
        ]
    });
    let labels = sets.iter().flat_map(|set| set.rows());
    save_table(folder, "cohort.csv", &header, tasks, rows.zip(labels))
}

/// Writes `embeddings.safetensors` and `embeddings.csv`: one embedding of `width` values for each
/// of `scans`.
///
/// # Errors
/// A file that cannot be written.
///
/// # Panics
/// If `values` are not `width` for each scan.
pub fn write_embeddings(
    folder: &Path,
    set: &Labelled,
    scans: &[usize],
    width: usize,
    values: &[f32],
) -> Result<(), ReportError> {
    let path = folder.join("embeddings.safetensors");
    fs::create_dir_all(folder).map_err(|source| ReportError::Io {
        path: folder.to_owned(),
        source,
    })?;
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let view = TensorView::new(Dtype::F32, vec![scans.len(), width], &bytes)
        .expect("one embedding for each scan");
    let tensors = BTreeMap::from([("embeddings", view)]);
    safetensors::serialize_to_file(tensors, None, &path).map_err(|error| ReportError::Io {
        path: path.clone(),
        source: std::io::Error::other(error),
    })?;
    let header = ["scan", "patient", "manufacturer", "thickness", "site"];
    let rows = scans.iter().map(|scan| {
        let row = &set.rows()[*scan];
        let cells = vec![
            row.scan.to_string(),
            row.patient.to_string(),
            text(row.manufacturer.as_deref()),
            number(row.thickness),
            text(row.site.as_deref()),
        ];
        (cells, row)
    });
    save_table(folder, "embeddings.csv", &header, set.tasks(), rows)
}

/// Known columns, then one column of 0, 1 or nothing per task.
fn save_table<'a>(
    folder: &Path,
    name: &str,
    header: &[&str],
    tasks: &[std::sync::Arc<str>],
    rows: impl Iterator<Item = (Vec<String>, &'a LabelledScan)>,
) -> Result<(), ReportError> {
    let path = folder.join(name);
    let failed = |source: std::io::Error| ReportError::Io {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let mut table = csv::Writer::from_path(&path).map_err(|error| failed(error.into()))?;
    let columns = header
        .iter()
        .copied()
        .chain(tasks.iter().map(|task| &**task));
    table
        .write_record(columns)
        .map_err(|error| failed(error.into()))?;
    for (mut cells, row) in rows {
        cells.extend(row.labels.iter().map(|label| match label {
            Some(label) => u8::from(*label).to_string(),
            None => String::new(),
        }));
        table
            .write_record(cells)
            .map_err(|error| failed(error.into()))?;
    }
    table.flush().map_err(failed)
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use core_model::phantom::Site;

    use super::*;
    use crate::report::Run;
    use crate::train::data::Phantoms;

    #[test]
    fn what_is_written_is_what_the_report_reads() {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::builtin("langone").unwrap();
        let set = Labelled::phantoms(Phantoms::new(site, 3, 12, 8, 1));
        let values: Vec<f32> = (0..6).map(|value| value as f32).collect();
        write_cohort(folder.path(), &[&set]).unwrap();
        write_embeddings(folder.path(), &set, &[4, 0, 2], 2, &values).unwrap();
        fs::write(folder.path().join("config.toml"), "").unwrap();
        let run = Run::read(folder.path()).unwrap();
        assert_eq!(run.cohort.len(), set.rows().len());
        let (read, row) = (&run.cohort[0], &set.rows()[0]);
        assert_eq!(read.scan, *row.scan);
        assert_eq!(read.sex.as_deref(), row.sex.as_deref());
        assert_eq!(read.labels["ICH"], row.labels[5]);
        let embeddings = run.embeddings.unwrap();
        assert_eq!((embeddings.width, embeddings.values), (2, values));
        assert_eq!(embeddings.thickness[0], set.rows()[4].thickness);
        assert!(embeddings.manufacturer.iter().all(Option::is_some));
    }
}
