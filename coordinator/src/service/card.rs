//! The model card that goes with an exported model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use protocol::plan::{Objective, Selection};
use protocol::{ConsortiumId, Digest, Round, RunId, SiteId};

use super::active::Active;
use super::error::ServiceError;
use super::matrix::{MatrixRow, row};
use super::verify::load;
use crate::areas::Area;
use crate::journal::Journal;

/// The card of a run's model, or of one round's, in Markdown. Sites in `named` have agreed to be
/// named; the others stand under pseudonyms.
///
/// # Errors
/// If there is no such run, or the journal cannot be read.
pub fn model_card(
    directory: &Path,
    consortium: &ConsortiumId,
    run: &RunId,
    round: Option<Round>,
    named: &BTreeSet<SiteId>,
) -> Result<String, ServiceError> {
    let journal = Journal::open_shared(directory)?;
    let active = load(&journal, run)?;
    let round = round.unwrap_or_else(|| active.driver.run().result().round);
    let card = Card {
        consortium: consortium.to_string(),
        round,
        names: names(&active, named),
        row: row(&active, Some(round)),
        active,
    };
    Ok(card.to_string())
}

struct Card {
    consortium: String,
    round: Round,
    names: BTreeMap<SiteId, String>,
    row: Option<MatrixRow>,
    active: Active,
}

/// Consented names, and pseudonyms in an order that only a member can work out from names.
fn names(active: &Active, named: &BTreeSet<SiteId>) -> BTreeMap<SiteId, String> {
    let cohort = &active.config.cohort;
    let mut sites: Vec<&SiteId> = cohort.sites.iter().chain(&cohort.evaluators).collect();
    sites.sort_by_key(|site| {
        let place = [&active.launch.signature, site.as_str().as_bytes()].concat();
        *Digest::derived(ORDER_CONTEXT, &place).as_bytes()
    });
    let name = |(place, site): (usize, &SiteId)| {
        let shown = if named.contains(site) {
            site.to_string()
        } else {
            format!("hospital {}", place + 1)
        };
        (site.clone(), shown)
    };
    sites.into_iter().enumerate().map(name).collect()
}

impl std::fmt::Display for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Active {
            config,
            plan,
            launch,
            driver,
            ..
        } = &self.active;
        let run = driver.run();
        writeln!(f, "# Model card: {}\n", launch.run)?;
        writeln!(f, "**Research only. Not for clinical use.**\n")?;
        writeln!(f, "| | |\n|---|---|")?;
        writeln!(f, "| consortium | {} |", self.consortium)?;
        writeln!(f, "| plan | {}, blake3 `{}` |", config.name, plan.digest())?;
        writeln!(f, "| objective | {} |", objective(config.objective))?;
        let preset = format!("{:?}", config.preset).to_lowercase();
        writeln!(f, "| architecture | {}, preset {preset} |", config.model)?;
        writeln!(f, "| strategy | {} |", config.strategy.name())?;
        let rule = match config
            .evaluation
            .as_ref()
            .map(|evaluation| evaluation.select)
        {
            Some(Selection::BestMeanAuc) => {
                "best mean AUC on the held-out patients of the sites that trained"
            }
            _ => "the last round",
        };
        writeln!(
            f,
            "| round | {} of {}; the plan selects {rule} |",
            self.round, config.rounds
        )?;
        let checkpoint = run
            .history()
            .iter()
            .map(|record| record.checkpoint)
            .find(|checkpoint| checkpoint.round == self.round);
        if let Some(checkpoint) = checkpoint {
            writeln!(
                f,
                "| model | blake3 `{}` in the journal |",
                checkpoint.model
            )?;
        }
        let listed = |sites: &[SiteId]| -> String {
            let shown: BTreeSet<&str> = sites.iter().map(|site| &*self.names[site]).collect();
            if shown.is_empty() {
                "none".to_owned()
            } else {
                Vec::from_iter(shown).join(", ")
            }
        };
        writeln!(f, "| trained at | {} |", listed(&config.cohort.sites))?;
        writeln!(
            f,
            "| evaluated only | {} |",
            listed(&config.cohort.evaluators)
        )?;
        self.rounds(f)?;
        self.metrics(f)?;
        writeln!(f, "\n## Limits\n")?;
        for limit in LIMITS {
            writeln!(f, "* {limit}")?;
        }
        Ok(())
    }
}

impl Card {
    fn rounds(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let history = self.active.driver.run().history();
        let until = history
            .iter()
            .filter(|record| record.checkpoint.round <= self.round);
        let (mut rounds, mut examples, mut dropped) = (0, 0, 0);
        for record in until.filter(|record| !record.updates.is_empty()) {
            rounds += 1;
            dropped += record.dropped.len();
            examples += record
                .updates
                .values()
                .map(|update| update.examples)
                .sum::<u64>();
        }
        writeln!(
            f,
            "| training | {rounds} rounds, {examples} scans seen in all (a scan counts each time), \
             {dropped} site rounds left out |"
        )
    }

    fn metrics(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "\n## Metrics\n")?;
        let Some(row) = &self.row else {
            return writeln!(f, "No site has reported an evaluation of this round.");
        };
        writeln!(
            f,
            "From the sites' own score histograms; no score has left a site. *Internal*: held-out \
             patients of sites that trained. *External*: sites whose patients trained nothing here. \
             Intervals are DeLong's at 95 %; the bound is what binning can add to either side.\n"
        )?;
        writeln!(
            f,
            "| task | patients | with it | AUC (95 %) | binning bound |\n|---|---|---|---|---|"
        )?;
        for (task, areas) in &row.tasks {
            for (side, area) in [("internal", areas.internal), ("external", areas.external)] {
                if let Some(area) = area {
                    let patients = area.positives + area.negatives;
                    writeln!(
                        f,
                        "| {task}, {side} | {patients} | {} | {} | {:.4} |",
                        area.positives,
                        with_interval(&area),
                        area.bound
                    )?;
                }
            }
        }
        writeln!(f, "\n| site | | mean AUC over its tasks |\n|---|---|---|")?;
        let mut sites = String::new();
        let mut shown: Vec<(&String, &SiteId)> = row
            .tested_at()
            .into_iter()
            .map(|site| (&self.names[site], site))
            .collect();
        shown.sort();
        for (name, site) in shown {
            let side = if row.trained_at.contains(site) {
                "internal"
            } else {
                "external"
            };
            if let Some(auc) = row.mean_auc(site) {
                writeln!(sites, "| {name} | {side} | {auc:.3} |")?;
            }
        }
        f.write_str(&sites)
    }
}

/// An area with its interval, where it has one.
pub fn with_interval(area: &Area) -> String {
    match area.interval {
        Some([low, high]) => format!("{:.3} ({low:.3} to {high:.3})", area.auc),
        None => format!("{:.3}", area.auc),
    }
}

fn objective(objective: Objective) -> &'static str {
    match objective {
        Objective::Dino => {
            "self-distillation (DINO); the file holds the teacher where the coordinator keeps one"
        }
        Objective::Evaluate => "evaluation only: the model came from elsewhere",
        Objective::Finetune => "fine-tuning of backbone and disease heads",
        Objective::Mae => "masked autoencoding (MAE)",
        Objective::Probe => "disease heads on a frozen backbone",
    }
}

const LIMITS: [&str; 4] = [
    "Not a medical device; no number here says that a score may guide the care of a patient.",
    "Performance at a hospital that is not listed is unknown; scanners, protocols and patients differ.",
    "Labels are each site's own; what counts as a disease may differ between sites.",
    "Small groups are left out of the metrics by the sites' policies, so rare diseases may be missing.",
];

const ORDER_CONTEXT: &str = "fmct 2026-11 order of pseudonyms on a model card v1";
