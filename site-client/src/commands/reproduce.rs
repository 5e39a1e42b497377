//! `fmct-site reproduce`: the paper's study, step by step.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use site_client::reproduce::{self, Outcome, State, Study, StudyConfig};

/// Runs the paper's whole single-site study: pre-training, fine-tuning, probes, few shots, baseline,
/// external validation and the report. Finished steps are skipped, so it may be stopped any time.
///
/// Research software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// phantom-tiny, paper, or a TOML file (docs/EVALUATION.md).
    config: String,
    /// Folder of the study.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print the plan and stop.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let text = match StudyConfig::builtin(&args.config) {
        Some(text) => text.to_owned(),
        None => fs::read_to_string(&args.config)
            .with_context(|| format!("cannot read study {}", args.config))?,
    };
    let study = Study::new(&StudyConfig::parse(&text)?)?;
    print_plan(&study, &args.out);
    if args.dry_run {
        return Ok(());
    }
    let program = std::env::current_exe().context("cannot find this program")?;
    reproduce::run(&study, &args.out, &program, |step, outcome| match outcome {
        Outcome::Skipped => println!("{}: done before", step.name),
        Outcome::Started => println!("{}: started", step.name),
        Outcome::Finished { seconds } => println!("{}: done in {}", step.name, duration(seconds)),
    })?;
    println!("{}", args.out.join("report").join("report.html").display());
    Ok(())
}

/// Each step with its state and its expected cost; a cost nobody measured is not printed.
fn print_plan(study: &Study, out: &std::path::Path) {
    let (mut seconds, mut mib, mut unknown) = (0.0, 0.0, 0);
    println!("{:<44} {:<18} expected", "step", "state");
    for (step, state) in study.steps().iter().zip(reproduce::state(study, out)) {
        let state_text = match state {
            State::New => "to do".to_owned(),
            State::Begun => "begun".to_owned(),
            State::Done { seconds } => format!("done in {}", duration(seconds)),
        };
        let mut cost = String::new();
        if !matches!(state, State::Done { .. }) {
            let estimate = step.estimate.as_ref();
            match step.expected_seconds() {
                Some(time) => {
                    seconds += time;
                    cost = format!("{} ({})", duration(time), source(estimate));
                }
                None => unknown += 1,
            }
            mib += estimate.and_then(|estimate| estimate.mib).unwrap_or(0.0);
        }
        println!("{:<44} {state_text:<18} {cost}", step.name);
    }
    println!(
        "expected: {} and {mib:.0} MiB where known; {unknown} steps to do are of unknown cost\n",
        duration(seconds),
    );
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn source(estimate: Option<&reproduce::Estimate>) -> &str {
    estimate.map_or("", |estimate| &estimate.source)
}
