//! `egress`: what left this site, from its own log.

use std::io::{self, Write};
use std::path::PathBuf;

use protocol::RunId;
use site_client::federation::EgressLog;

/// Prints everything that left this site: when, what, how many bytes, its digest and norm.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The site's directory.
    #[arg(long, env = "FMCT_SITE_DIR")]
    dir: PathBuf,
    /// Only this run.
    #[arg(long)]
    run: Option<RunId>,
    /// One JSON object a line, with the names of all tensors and the counts of each bin.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let rows = EgressLog::new(&args.dir).rows()?;
    let wanted = |run: &RunId| args.run.as_ref().is_none_or(|only| only == run);
    let mut out = io::stdout().lock();
    let mut bytes = 0;
    for row in rows.iter().filter(|row| wanted(&row.run)) {
        bytes += row.bytes;
        if args.json {
            writeln!(out, "{}", serde_json::to_string(row)?)?;
            continue;
        }
        let norm = row
            .norm
            .map_or_else(String::new, |norm| format!(", norm {norm:.4e}"));
        writeln!(
            out,
            "{}  run {}, round {}: {}",
            certs::utc(row.at),
            row.run,
            row.round,
            row.kind.name()
        )?;
        writeln!(
            out,
            "    {} bytes, {} tensors, {} examples{norm}",
            row.bytes,
            row.tensors.len(),
            row.examples
        )?;
        writeln!(out, "    blake3 {}", row.digest)?;
        for task in row.metrics.iter().flat_map(|report| &report.tasks) {
            let count = |bins: &[u32]| bins.iter().map(|&n| u64::from(n)).sum::<u64>();
            let (with, without) = (count(&task.positive), count(&task.negative));
            let auc = task
                .auc
                .map_or_else(|| "withheld".to_owned(), |auc| format!("{auc:.4}"));
            writeln!(
                out,
                "    {}: AUC {auc}, histogram of {with} patients with it and {without} without",
                task.task
            )?;
        }
        if let Some(text) = &row.text {
            writeln!(out, "    {text:?}")?;
        }
    }
    if !args.json {
        writeln!(out, "{bytes} bytes in all")?;
    }
    Ok(())
}
