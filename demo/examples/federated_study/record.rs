//! What one unit of work leaves: one JSON file for each seed and arm.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// One arm under one seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Repeat.
    pub(crate) seed: u64,
    /// Name of the arm.
    pub(crate) arm: String,
    /// Every judgment of every model the arm left.
    pub(crate) verdicts: Vec<Verdict>,
    /// Bytes of the model that each site fetches in a round.
    pub(crate) down: u64,
    /// Bytes of the update that each site sends in a round.
    pub(crate) up: u64,
    /// Scans trained on in pre-training, over all sites.
    pub(crate) scans: u64,
    /// Seconds of pre-training.
    pub(crate) seconds: f64,
}

/// One model, judged by one protocol.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// DINO: `teacher` or `student`; empty elsewhere.
    pub(crate) network: String,
    /// How the labels were used.
    pub(crate) protocol: String,
    /// Mean AUC over diseases, validation patients of the internal site.
    pub(crate) validation: f64,
    /// Mean AUC over diseases, test patients of the internal site.
    pub(crate) internal: f64,
    /// The same at each external site, in their order.
    pub(crate) external: Vec<f64>,
}

impl Record {
    /// Reads every record of a study.
    pub(crate) fn all(out: &Path) -> anyhow::Result<Vec<Self>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(out).with_context(|| format!("{}", out.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "json") {
                let text = fs::read_to_string(&path)?;
                let record = serde_json::from_str(&text);
                records.push(record.with_context(|| format!("{}", path.display()))?);
            }
        }
        records.sort_by(|a: &Self, b| (&a.arm, a.seed).cmp(&(&b.arm, b.seed)));
        Ok(records)
    }

    /// Writes it whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let part = path.with_extension("part");
        fs::write(&part, serde_json::to_string(self)?)?;
        Ok(fs::rename(part, path)?)
    }
}
