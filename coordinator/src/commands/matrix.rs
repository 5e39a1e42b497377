//! `matrix`: trained at × tested at.

use std::path::PathBuf;

use coordinator::service::{matrix, with_interval};
use protocol::{Round, RunId};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that `init` made
    #[arg(long, env = "FMCT_COORDINATOR_DIR", default_value = ".")]
    dir: PathBuf,
    /// The runs, a row each; every run that was evaluated if absent
    run: Vec<RunId>,
    /// Round whose model is meant; each run's result if absent
    #[arg(long)]
    round: Option<u32>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let rows = matrix(&args.dir, &args.run, args.round.map(Round))?;
    for row in &rows {
        let trained_at: Vec<&str> = row.trained_at.iter().map(|site| site.as_str()).collect();
        let trained_at = match &*trained_at {
            [] => "nobody here".to_owned(),
            names => names.join(", "),
        };
        println!(
            "run {}, round {}, trained at {trained_at}",
            row.run, row.round
        );
        for site in row.tested_at() {
            let side = if row.trained_at.contains(site) {
                "internal"
            } else {
                "external"
            };
            if let Some(auc) = row.mean_auc(site) {
                println!(
                    "  tested at {:<24} {side}  mean AUC {auc:.3}",
                    site.as_str()
                );
            }
        }
        for (task, areas) in &row.tasks {
            for (side, area) in [("internal", areas.internal), ("external", areas.external)] {
                if let Some(area) = area {
                    println!(
                        "  {task:<10} {side}, pooled  AUC {}, binning at most ±{:.4}, {} of {} patients with it",
                        with_interval(&area),
                        area.bound,
                        area.positives,
                        area.positives + area.negatives
                    );
                }
            }
        }
    }
    Ok(())
}
