//! Tables in Markdown: means over seeds, and paired differences, each with Student's t interval.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use core_model::metrics::mean_interval;
use protocol::layout::Layout;
use protocol::plan::Plan;
use site_client::federation::first_checkpoint;

use crate::patients::hospitals;
use crate::record::{Record, Verdict};

/// Scores of one row of a table: by seed, internal and mean external AUC.
type Scores = BTreeMap<u64, [f64; 2]>;

pub(crate) fn print(out: &Path) -> anyhow::Result<()> {
    let study = Study(Record::all(out)?);
    for protocol in PROTOCOLS {
        study.levels(protocol)?;
        study.differences(protocol)?;
    }
    study.treatments()?;
    study.cost();
    bytes()
}

struct Study(Vec<Record>);

impl Study {
    /// One arm's scores under one protocol; DINO's teacher where there is one.
    fn scores(&self, arm: &str, protocol: &str) -> Scores {
        self.of_network(arm, protocol, None)
    }

    fn of_network(&self, arm: &str, protocol: &str, network: Option<&str>) -> Scores {
        let mut scores = Scores::new();
        for record in self.0.iter().filter(|record| record.arm == arm) {
            if let Some(verdict) = pick(record, protocol, network) {
                scores.insert(record.seed, both(verdict));
            }
        }
        scores
    }

    /// By seed, the hospital's own model with the best validation AUC, once all have one.
    fn best_alone(&self, objective: &str, protocol: &str) -> Scores {
        let mut alone: BTreeMap<u64, Vec<&Verdict>> = BTreeMap::new();
        let prefix = format!("{objective}-alone-");
        for record in self
            .0
            .iter()
            .filter(|record| record.arm.starts_with(&prefix))
        {
            let verdicts = alone.entry(record.seed).or_default();
            verdicts.extend(pick(record, protocol, None));
        }
        alone.retain(|_, verdicts| verdicts.len() == hospitals().len());
        let best = |(seed, verdicts): (u64, Vec<&Verdict>)| {
            let by_validation = |a: &&Verdict, b: &&Verdict| a.validation.total_cmp(&b.validation);
            let best = verdicts.into_iter().max_by(by_validation)?;
            Some((seed, both(best)))
        };
        alone.into_iter().filter_map(best).collect()
    }

    fn levels(&self, protocol: &str) -> anyhow::Result<()> {
        println!("\n{protocol}: mean AUC over ten diseases\n");
        println!("| pre-training | seeds | internal | external |\n|---|---|---|---|");
        let mut rows = vec![(
            "none (scratch)".to_owned(),
            self.scores("scratch", protocol),
        )];
        for objective in OBJECTIVES {
            for arm in ["pooled", "federated"] {
                let name = format!("{objective}-{arm}");
                rows.push((name.clone(), self.scores(&name, protocol)));
            }
            rows.push((
                format!("{objective}, best hospital alone"),
                self.best_alone(objective, protocol),
            ));
            for hospital in hospitals() {
                let name = format!("{objective}-alone-{hospital}");
                rows.push((name.clone(), self.scores(&name, protocol)));
            }
        }
        for (name, scores) in rows {
            line(&name, &scores)?;
        }
        Ok(())
    }

    fn differences(&self, protocol: &str) -> anyhow::Result<()> {
        println!("\n{protocol}: paired differences\n");
        println!("| comparison | seeds | internal | external |\n|---|---|---|---|");
        let scratch = self.scores("scratch", protocol);
        let tuned = self.scores("scratch", "tuned");
        for objective in OBJECTIVES {
            let federated = self.scores(&format!("{objective}-federated"), protocol);
            let pooled = self.scores(&format!("{objective}-pooled"), protocol);
            let alone = self.best_alone(objective, protocol);
            let name = |text: &str| format!("{objective}: {text}");
            difference(&name("federated − pooled"), &federated, &pooled)?;
            difference(&name("federated − best hospital alone"), &federated, &alone)?;
            difference(&name("federated − scratch"), &federated, &scratch)?;
            difference(&name("pooled − scratch"), &pooled, &scratch)?;
            if protocol != "tuned" {
                difference(&name("federated − scratch, tuned"), &federated, &tuned)?;
            }
        }
        Ok(())
    }

    /// What a federation may do with DINO's teacher and center, with moments, and with encodings.
    fn treatments(&self) -> anyhow::Result<()> {
        for protocol in ["probe", "paper"] {
            println!("\n{protocol}: treatments, paired with the default of the same objective\n");
            println!("| arm | seeds | internal | external |\n|---|---|---|---|");
            let student = self.of_network("dino-federated", protocol, Some("student"));
            for (name, arm) in [
                ("DINO: local-resync", "dino-federated-local-resync"),
                ("DINO: local teacher", "dino-federated-local-teacher"),
                ("DINO: own center", "dino-federated-own-center"),
            ] {
                let scores = self.of_network(arm, protocol, Some("student"));
                difference(&format!("{name} − server-ema, students"), &scores, &student)?;
            }
            let teacher = self.scores("dino-federated", protocol);
            difference("DINO: teacher − student, server-ema", &teacher, &student)?;
            let resync = self.scores("dino-federated-local-resync", protocol);
            difference(
                "DINO: local-resync − server-ema, as used",
                &resync,
                &teacher,
            )?;
            let default = self.scores("mae-federated", protocol);
            for (name, arm) in [
                ("MAE: moments reset − kept", "mae-federated-reset"),
                ("MAE: bf16 − f32", "mae-federated-bf16"),
                ("MAE: int8 − f32", "mae-federated-int8"),
            ] {
                difference(name, &self.scores(arm, protocol), &default)?;
            }
        }
        Ok(())
    }

    fn cost(&self) {
        println!(
            "\n| arm | scans trained on | down, bytes a round | up, bytes a round | seconds |"
        );
        println!("|---|---|---|---|---|");
        let mut rows: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
        for record in self.0.iter().filter(|record| record.scans > 0) {
            rows.entry(&record.arm).or_default().push(record);
        }
        for (arm, records) in rows {
            let first = records[0];
            let seconds = records.iter().map(|record| record.seconds).sum::<f64>();
            let seconds = seconds / records.len() as f64;
            let Record {
                scans, down, up, ..
            } = first;
            println!("| {arm} | {scans} | {down} | {up} | {seconds:.0} |");
        }
    }
}

fn pick<'a>(record: &'a Record, protocol: &str, network: Option<&str>) -> Option<&'a Verdict> {
    record.verdicts.iter().find(|verdict| {
        verdict.protocol == protocol && network.is_none_or(|network| verdict.network == network)
    })
}

fn both(verdict: &Verdict) -> [f64; 2] {
    let external = verdict.external.iter().sum::<f64>() / verdict.external.len() as f64;
    [verdict.internal, external]
}

fn line(name: &str, scores: &Scores) -> anyhow::Result<()> {
    if scores.len() < REPEATS {
        return Ok(());
    }
    print!("| {name} | {} |", scores.len());
    for side in 0..2 {
        let values: Vec<f64> = scores.values().map(|score| score[side]).collect();
        let (mean, interval) = mean_interval(&values, LEVEL)?;
        print!(" {mean:.3} ({:.3} to {:.3}) |", interval.low, interval.high);
    }
    println!();
    Ok(())
}

fn difference(name: &str, one: &Scores, other: &Scores) -> anyhow::Result<()> {
    let pair = |(seed, a): (&u64, &[f64; 2])| {
        let b = other.get(seed)?;
        Some((*seed, [a[0] - b[0], a[1] - b[1]]))
    };
    let paired: Scores = one.iter().filter_map(pair).collect();
    if paired.len() < REPEATS {
        return Ok(());
    }
    print!("| {name} | {} |", paired.len());
    for side in 0..2 {
        let values: Vec<f64> = paired.values().map(|score| score[side]).collect();
        let (mean, interval) = mean_interval(&values, LEVEL)?;
        print!(
            " {mean:+.3} ({:+.3} to {:+.3}) |",
            interval.low, interval.high
        );
    }
    println!();
    Ok(())
}

/// Bytes of one round at one site, from the layout that both ends share.
fn bytes() -> anyhow::Result<()> {
    println!("\n| model | objective | encoding | down, bytes | up, bytes |\n|---|---|---|---|---|");
    for (preset, name) in [("tiny", "tiny"), ("paper", "ViT-B, as published")] {
        for objective in OBJECTIVES {
            for encoding in ["f32", "bf16", "int8"] {
                let statistics = if objective == "dino" {
                    "[\"center\"]"
                } else {
                    "[]"
                };
                let text = format!(
                    "name = \"bytes\"\nobjective = \"{objective}\"\nmodel = \"vit\"\npreset = \"{preset}\"\n\
                     initial = \"{}\"\nrounds = 1\nstatistics = {statistics}\n\
                     [cohort]\nrule = \"full\"\nsites = [\"one\"]\n[local]\nsteps = 1\nbatch_size = 2\n\
                     [schedule]\nlearning_rate = {{ peak = 1e-3 }}\n[encoding]\nupdate = \"{encoding}\"\n{}",
                    "0".repeat(64),
                    if objective == "dino" { "[dino]\n" } else { "" },
                );
                let plan = Plan::parse(text.as_bytes())?;
                let first = first_checkpoint(plan.config(), None, &Device::flex())?;
                let tensors = first.schema().tensors().iter();
                let tensors = tensors.map(|tensor| (tensor.name(), tensor.elements()));
                let layout = Layout::new(tensors, plan.config());
                let (down, up) = (layout.model_bytes(), layout.update_bytes());
                println!("| {name} | {objective} | {encoding} | {down} | {up} |");
            }
        }
    }
    Ok(())
}

const PROTOCOLS: [&str; 3] = ["probe", "paper", "tuned"];
const OBJECTIVES: [&str; 2] = ["dino", "mae"];
const LEVEL: f64 = 0.95;
/// Repeats below which an interval would say nothing.
const REPEATS: usize = 2;
