//! `fmct-site metrics`: statistics of a predictions table.

use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use site_client::evaluate::{Cell, Clustering, GroupBy, MetricsTable, Predictions, Settings};

/// Prints AUC, average precision, intervals and tests of a predictions table.
///
/// Research software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Table with at least the columns patient, scan, task, label and score.
    #[arg(long, value_name = "P.csv")]
    predictions: PathBuf,
    /// Table of another model on the same scans.
    #[arg(long, value_name = "Q.csv")]
    compare: Option<PathBuf>,
    /// Split the scans by a column.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Unit of resampling: scan as published, patient for intervals that are wide enough.
    #[arg(long, value_enum, default_value = "patient")]
    cluster: Cluster,
    /// Bootstrap resamples; the paper used 100.
    #[arg(long, default_value_t = 1000)]
    bootstraps: usize,
    /// Permutations.
    #[arg(long, default_value_t = 1000)]
    permutations: usize,
    /// Coverage of intervals.
    #[arg(long, default_value_t = 0.95)]
    level: f64,
    /// Seed of resampling and permutation.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    Site,
    Manufacturer,
    Thickness,
    Sex,
    Age,
}

#[derive(Clone, Copy, ValueEnum)]
enum Cluster {
    Scan,
    Patient,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let read = |path: &PathBuf| {
        Predictions::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let predictions = read(&args.predictions)?;
    let other = args.compare.as_ref().map(read).transpose()?;
    anyhow::ensure!(
        args.level > 0.0 && args.level < 1.0,
        "--level {}, expected between 0 and 1",
        args.level
    );
    anyhow::ensure!(args.bootstraps > 0, "--bootstraps 0, expected at least 1");
    let settings = Settings {
        level: args.level,
        bootstraps: args.bootstraps,
        permutations: args.permutations,
        clustering: match args.cluster {
            Cluster::Scan => Clustering::Scan,
            Cluster::Patient => Clustering::Patient,
        },
        seed: args.seed,
        by: args.by.map(|by| match by {
            By::Site => GroupBy::Site,
            By::Manufacturer => GroupBy::Manufacturer,
            By::Thickness => GroupBy::Thickness,
            By::Sex => GroupBy::Sex,
            By::Age => GroupBy::Age,
        }),
    };
    let table = MetricsTable::compute(&predictions, other.as_ref(), &settings)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&table)?);
    } else {
        print_table(&table);
    }
    Ok(())
}

fn print_table(table: &MetricsTable) {
    let name = |cell: &Cell| {
        let parts = [
            &cell.run,
            &cell.model,
            &cell.protocol,
            &cell.trained_at,
            &cell.group,
        ];
        let parts: Vec<&str> = parts.into_iter().flatten().map(|part| &**part).collect();
        if parts.is_empty() {
            "all".to_owned()
        } else {
            parts.join(" · ")
        }
    };
    let mut block = String::new();
    for cell in &table.cells {
        if name(cell) != block {
            block = name(cell);
            println!("\n{block}");
            println!(
                "  {:<14} {:>7} {:>9}  {:<22} {:<22} note",
                "task", "scans", "positive", "AUC", "AP"
            );
        }
        let mut note = cell.reason.clone().unwrap_or_default();
        if let Some(comparison) = &cell.comparison {
            note = match (comparison.delta, comparison.permutation_p) {
                (Some(delta), Some(p)) => format!("Δ {delta:+.3}, p = {p:.3} {note}"),
                _ => comparison.reason.clone().unwrap_or_default(),
            };
        }
        println!(
            "  {:<14} {:>7} {:>9}  {:<22} {:<22} {note}",
            cell.task,
            cell.n,
            cell.positives,
            value(cell.auc, cell.auc_ci),
            value(cell.ap, cell.ap_ci),
        );
    }
    println!();
    for note in &table.notes {
        println!("{note}");
    }
}

fn value(value: Option<f64>, interval: Option<[f64; 2]>) -> String {
    match (value, interval) {
        (Some(value), Some([low, high])) => format!("{value:.3} ({low:.3}–{high:.3})"),
        (Some(value), None) => format!("{value:.3}"),
        _ => "–".to_owned(),
    }
}
