//! The model card that goes with an exported model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter, Write};
use std::path::Path;

use protocol::plan::{Objective, Selection};
use protocol::{ConsortiumId, Digest, Round, RunId, SiteId};

use super::active::Active;
use super::error::ServiceError;
use super::lineage::Lineage;
use super::matrix::{MatrixRow, Part, Together, row};
use crate::journal::Journal;
use crate::run::Checkpoint;

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
    let lineage = Lineage::read(&Journal::open_existing(directory)?)?;
    let active = lineage.run(run)?;
    let state = active.driver.run();
    let round = round.unwrap_or_else(|| state.result().round);
    let rounds = state.history().iter();
    let checkpoint = rounds
        .map(|record| record.checkpoint)
        .find(|checkpoint| checkpoint.round == round);
    let evaluations = checkpoint.map(|checkpoint| lineage.evaluations(checkpoint.model));
    let others = evaluations.into_iter().flatten();
    let others = others.filter(|other| other.launch.run != *run);
    let rows: Vec<MatrixRow> = row(&lineage, active, Some(round))
        .into_iter()
        .chain(others.filter_map(|other| row(&lineage, other, None)))
        .collect();
    let trained_at = lineage.trained_at(active);
    let card = Card {
        consortium: consortium.to_string(),
        round,
        checkpoint,
        names: names(active, &rows, trained_at.as_ref(), named),
        trained_at,
        rows,
        active,
    };
    Ok(card.to_string())
}

struct Card<'a> {
    consortium: String,
    round: Round,
    checkpoint: Option<Checkpoint>,
    names: BTreeMap<SiteId, String>,
    /// `None` where nobody here knows.
    trained_at: Option<BTreeSet<SiteId>>,
    /// Of this run, and of runs that only evaluated its model.
    rows: Vec<MatrixRow>,
    active: &'a Active,
}

/// Consented names, and pseudonyms in an order that only a member can work out from names.
fn names(
    active: &Active,
    rows: &[MatrixRow],
    trained_at: Option<&BTreeSet<SiteId>>,
    named: &BTreeSet<SiteId>,
) -> BTreeMap<SiteId, String> {
    let cohort = &active.config.cohort;
    let sites: BTreeSet<&SiteId> = (cohort.sites.iter())
        .chain(&cohort.evaluators)
        .chain(trained_at.into_iter().flatten())
        .chain(rows.iter().flat_map(MatrixRow::tested_at))
        .collect();
    let mut sites = Vec::from_iter(sites);
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

impl Display for Card<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Active {
            config,
            plan,
            launch,
            ..
        } = self.active;
        writeln!(f, "# Model card: {}\n", launch.run)?;
        writeln!(f, "**Research only. Not for clinical use.**\n")?;
        writeln!(f, "| | |\n|---|---|")?;
        writeln!(f, "| consortium | {} |", self.consortium)?;
        writeln!(f, "| plan | {}, blake3 `{}` |", config.name, plan.digest())?;
        writeln!(f, "| objective | {} |", objective(config.objective))?;
        let preset = format!("{:?}", config.preset).to_lowercase();
        writeln!(f, "| architecture | {}, preset {preset} |", config.model)?;
        writeln!(f, "| strategy | {} |", config.strategy.name())?;
        let rule = if self.chooses_by_auc() {
            "best mean AUC on the validation patients of the sites that trained"
        } else {
            "the last round"
        };
        writeln!(
            f,
            "| round | {} of {}; the plan selects {rule} |",
            self.round, config.rounds
        )?;
        if let Some(checkpoint) = self.checkpoint {
            writeln!(
                f,
                "| model | blake3 `{}` in the journal |",
                checkpoint.model
            )?;
        }
        let listed = |sites: &BTreeSet<SiteId>| -> String {
            let shown: BTreeSet<&str> = sites.iter().map(|site| &*self.names[site]).collect();
            if shown.is_empty() {
                "none".to_owned()
            } else {
                Vec::from_iter(shown).join(", ")
            }
        };
        let unknown = || "unknown: no run of this coordinator made the model".to_owned();
        let trained_at = self.trained_at.as_ref().map_or_else(unknown, listed);
        writeln!(f, "| trained at | {trained_at} |")?;
        let cohort = &config.cohort;
        let trained = |site: &SiteId| self.trained_at.as_ref().is_some_and(|at| at.contains(site));
        let only = cohort.sites.iter().chain(&cohort.evaluators);
        let only = only.filter(|site| !trained(site)).cloned().collect();
        writeln!(f, "| evaluated only | {} |", listed(&only))?;
        self.rounds(f)?;
        self.metrics(f)?;
        writeln!(f, "\n## Limits\n")?;
        for limit in LIMITS {
            writeln!(f, "* {limit}")?;
        }
        Ok(())
    }
}

impl Card<'_> {
    /// Whether the plan's round is the one with the best validation AUC.
    fn chooses_by_auc(&self) -> bool {
        let evaluation = self.active.config.evaluation.as_ref();
        evaluation.map(|evaluation| evaluation.select) == Some(Selection::BestMeanAuc)
    }

    fn rounds(&self, f: &mut Formatter<'_>) -> fmt::Result {
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

    fn metrics(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## Metrics\n")?;
        if self.rows.is_empty() {
            return writeln!(f, "No site has reported an evaluation of this model.");
        }
        writeln!(
            f,
            "From the score histograms and areas that sites reported; no score has left a site. *Internal*: held-out \
             patients of sites that trained it. *External*: sites that did not, in this run or one it \
             goes on from; what made its first weights is not known here. Intervals are DeLong's at \
             95 %; the bound is what binning can add to either side."
        )?;
        for row in &self.rows {
            match row.part {
                Part::Test => writeln!(
                    f,
                    "\n### Test patients, run {}\n\nPatients that chose nothing.\n",
                    row.run
                )?,
                Part::Validation if self.chooses_by_auc() => writeln!(
                    f,
                    "\n### Validation patients, run {}\n\n**The internal patients below chose the \
                     round**, so their figures are too good for new patients.\n",
                    row.run
                )?,
                Part::Validation => writeln!(
                    f,
                    "\n### Validation patients, run {}\n\nThe plan takes the last round, so they \
                     did not choose it.\n",
                    row.run
                )?,
            }
            self.figures(f, row)?;
        }
        if self.rows.iter().all(|row| row.part != Part::Test) {
            writeln!(
                f,
                "\nThere is no figure on test patients: no plan with the objective `evaluate` has \
                 been run on this model."
            )?;
        }
        Ok(())
    }

    fn figures(&self, f: &mut Formatter<'_>, row: &MatrixRow) -> fmt::Result {
        let areas = row.tasks.iter();
        let mut lines = [const { String::new() }; 2];
        for (task, side, together) in areas.flat_map(|(task, areas)| {
            areas
                .together
                .iter()
                .map(move |(side, all)| (task, side, all))
        }) {
            match together {
                Together::Pooled(area) => writeln!(
                    lines[0],
                    "| {task}, {side} | {} | {} | {area} | {:.4} |",
                    area.positives + area.negatives,
                    area.positives,
                    area.bound
                )?,
                Together::Mean { auc, sites } => {
                    writeln!(lines[1], "| {task}, {side} | {sites} | {auc:.3} |")?;
                }
            }
        }
        let [pooled, means] = lines;
        if !pooled.is_empty() {
            writeln!(
                f,
                "| task | patients | with it | AUC (95 %) | binning bound |\n|---|---|---|---|---|\n\
                 {pooled}"
            )?;
        }
        if !means.is_empty() {
            writeln!(
                f,
                "Each site scores with a classifier of its own, so scores of several sites are on no \
                 common scale and are not pooled.\n\n\
                 | task | sites | mean of the sites' AUCs |\n|---|---|---|\n{means}"
            )?;
        }
        writeln!(f, "| site | | mean AUC over its tasks |\n|---|---|---|")?;
        let mut shown: Vec<(&String, &SiteId)> = row
            .tested_at()
            .into_iter()
            .map(|site| (&self.names[site], site))
            .collect();
        shown.sort();
        for (name, site) in shown {
            if let Some(auc) = row.mean_auc(site) {
                writeln!(f, "| {name} | {} | {auc:.3} |", row.side(site))?;
            }
        }
        Ok(())
    }
}

fn objective(objective: Objective) -> &'static str {
    match objective {
        Objective::Dino => {
            "self-distillation (DINO); the file holds the teacher where the coordinator keeps one"
        }
        Objective::Evaluate => "evaluation only",
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
