//! The tables the demo ends with, for a terminal of 80 columns.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use anyhow::Context;
use protocol::SiteId;
use site_client::evaluate::{
    Cell, Clustering, GroupBy, MACRO, MetricsTable, Predictions, Settings,
};

use crate::study::Arm;

/// AUC per disease and arm with intervals, of models fine-tuned at the internal hospital: on its
/// own test patients, and on those of all other hospitals together.
pub(crate) fn comparison(
    arms: &BTreeMap<Arm, Predictions>,
    internal: &SiteId,
) -> anyhow::Result<String> {
    let mut tables = BTreeMap::new();
    for (arm, predictions) in arms {
        let mut predictions = predictions.clone();
        for row in &mut predictions.rows {
            let own = row.site.as_deref() == Some(internal.as_str());
            row.site = Some(Arc::from(if own { INTERNAL } else { EXTERNAL }));
        }
        tables.insert(*arm, compute(&predictions)?);
    }
    let mut text = String::new();
    for (group, title) in [
        (
            INTERNAL,
            format!("internal: test patients of {internal}, where the labels are from"),
        ),
        (
            EXTERNAL,
            "external: test patients of all other hospitals".to_owned(),
        ),
    ] {
        writeln!(text, "\n{title}\n")?;
        write!(text, "{:<10}", "AUC")?;
        for arm in tables.keys() {
            write!(text, "  {:<15}", arm.label())?;
        }
        writeln!(text)?;
        let first = tables.values().next().context("no arm was run")?;
        for cell in first
            .cells
            .iter()
            .filter(|cell| cell.group.as_deref() == Some(group))
        {
            let name = if cell.task == MACRO {
                "mean"
            } else {
                &cell.task
            };
            write!(text, "{:<10}", shortened(name, 10))?;
            for table in tables.values() {
                let of_task = |other: &&Cell| other.task == cell.task && other.group == cell.group;
                write!(
                    text,
                    "  {:<15}",
                    table
                        .cells
                        .iter()
                        .find(of_task)
                        .map_or_else(String::new, area)
                )?;
            }
            writeln!(text)?;
        }
    }
    Ok(text)
}

/// Mean AUC of the models fine-tuned at each hospital, on the test patients of each hospital.
pub(crate) fn matrix(
    trained_at: &BTreeMap<SiteId, Predictions>,
    sites: &[SiteId],
) -> anyhow::Result<String> {
    let mut text = String::from("\nmean AUC of the federated model: fine-tuned at × tested at\n\n");
    write!(text, "{:<12}", "")?;
    for site in sites {
        write!(text, "  {:<14}", shortened(site.as_str(), 14))?;
    }
    writeln!(text)?;
    for (home, predictions) in trained_at {
        let table = compute(predictions)?;
        write!(text, "{:<12}", shortened(home.as_str(), 12))?;
        for site in sites {
            let wanted =
                |cell: &&Cell| cell.task == MACRO && cell.group.as_deref() == Some(site.as_str());
            let cell = table
                .cells
                .iter()
                .find(wanted)
                .map_or_else(String::new, area);
            write!(text, "  {cell:<14}")?;
        }
        writeln!(text)?;
    }
    Ok(text)
}

/// How the demo's statistics are computed: as published, but by patient.
pub(crate) fn settings() -> Settings {
    Settings {
        bootstraps: 100,
        clustering: Clustering::Patient,
        ..Settings::default()
    }
}

fn compute(predictions: &Predictions) -> anyhow::Result<MetricsTable> {
    let settings = Settings {
        by: Some(GroupBy::Site),
        ..settings()
    };
    Ok(MetricsTable::compute(predictions, None, &settings)?)
}

/// `.712 .655-.768`, or why not.
fn area(cell: &Cell) -> String {
    let short = |value: f64| format!("{value:.3}").trim_start_matches('0').to_owned();
    match (cell.auc, cell.auc_ci) {
        (Some(auc), Some([low, high])) => format!("{} {}-{}", short(auc), short(low), short(high)),
        (Some(auc), None) => short(auc),
        _ => "one class".to_owned(),
    }
}

fn shortened(name: &str, width: usize) -> &str {
    name.char_indices()
        .nth(width)
        .map_or(name, |(end, _)| &name[..end])
}

const INTERNAL: &str = "internal";
const EXTERNAL: &str = "external";
