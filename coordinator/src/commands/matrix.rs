//! `matrix`: trained at × tested at.

use std::path::PathBuf;

use coordinator::service::matrix;
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
        let trained_at = match &row.trained_at {
            None => "unknown sites: no run here made the model".to_owned(),
            Some(sites) => {
                let names: Vec<&str> = sites.iter().map(|site| site.as_str()).collect();
                names.join(", ")
            }
        };
        println!(
            "run {}, round {}, trained at {trained_at}; {} patients",
            row.run, row.round, row.part
        );
        for site in row.tested_at() {
            if let Some(auc) = row.mean_auc(site) {
                println!(
                    "  tested at {:<24} {}  mean AUC {auc:.3}",
                    site.as_str(),
                    row.side(site)
                );
            }
        }
        for (task, areas) in &row.tasks {
            for (side, together) in &areas.together {
                println!("  {task:<10} {side}, {together}");
            }
        }
    }
    Ok(())
}
