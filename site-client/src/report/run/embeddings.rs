//! Embeddings of scans, for the projection.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::labeled::read_rows;
use crate::report::ReportError;

/// Embeddings and what is known about their scans.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Embeddings {
    /// Width of an embedding.
    pub width: usize,
    /// Values, scan after scan.
    pub values: Vec<f32>,
    /// Maker of the scanner, by scan.
    pub manufacturer: Vec<Option<String>>,
    /// Slice thickness in mm, by scan.
    pub thickness: Vec<Option<f64>>,
    /// Site, by scan.
    pub site: Vec<Option<String>>,
    /// Labels by task and scan; absent where unknown.
    pub labels: BTreeMap<String, Vec<Option<bool>>>,
}

impl Embeddings {
    /// Number of scans.
    pub fn scans(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    pub(super) fn read(folder: &Path) -> Result<Option<Self>, ReportError> {
        let path = folder.join("embeddings.safetensors");
        if !path.exists() {
            return Ok(None);
        }
        let wrong = |rule: String| ReportError::Embeddings {
            path: path.clone(),
            rule,
        };
        let bytes = fs::read(&path).map_err(|source| ReportError::Io {
            path: path.clone(),
            source,
        })?;
        let tensors = safetensors::SafeTensors::deserialize(&bytes)
            .map_err(|error| wrong(error.to_string()))?;
        let tensor = tensors
            .tensor("embeddings")
            .map_err(|error| wrong(error.to_string()))?;
        let [scans, width] = *tensor.shape() else {
            return Err(wrong(format!(
                "shape {:?}, expected [scans, width]",
                tensor.shape()
            )));
        };
        if tensor.dtype() != safetensors::Dtype::F32 {
            return Err(wrong(format!(
                "values are {:?}, expected F32",
                tensor.dtype()
            )));
        }
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(wrong(format!(
                "a value is {value}, expected finite numbers"
            )));
        }
        let mut embeddings = Self {
            width,
            values,
            ..Self::default()
        };
        let table = folder.join("embeddings.csv");
        let rows = read_rows(
            &table,
            &["scan", "patient", "manufacturer", "thickness", "site"],
        )?;
        if rows.len() != scans {
            return Err(wrong(format!(
                "{scans} embeddings, but {} rows of scans",
                rows.len()
            )));
        }
        for row in rows {
            embeddings.manufacturer.push(row.text("manufacturer"));
            embeddings.thickness.push(row.number(&table, "thickness")?);
            embeddings.site.push(row.text("site"));
            for (task, label) in row.labels(&table)? {
                embeddings.labels.entry(task).or_default().push(label);
            }
        }
        Ok(Some(embeddings))
    }
}
