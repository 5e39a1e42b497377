//! What a pre-trained model is worth: the labels of the internal hospital on top of it.

use std::sync::Arc;

use burn::tensor::Device;
use core_model::metrics::Ranked;
use core_model::state::StateDict;
use site_client::evaluate::Prediction;
use site_client::train::data::Labelled;
use site_client::train::downstream::{Draw, Protocol, Trial};
use site_client::train::{Config, Plan};

use crate::patients::{self, hospitals};
use crate::record::Verdict;

/// Learning rate, of backbone and head alike, that the tuned protocol tries beside the paper's.
const HIGHER: f64 = 3e-3;

/// The labelled patients of a repeat.
pub(crate) struct Judge {
    plan: Plan,
    seed: u64,
    set: Labelled,
    external: Vec<Labelled>,
}

impl Judge {
    pub(crate) fn new(plan: &Plan, seed: u64) -> anyhow::Result<Self> {
        Ok(Self {
            plan: plan.clone(),
            seed,
            set: patients::labelled(plan, seed)?,
            external: patients::external(plan, seed)?,
        })
    }

    /// A linear probe, the paper's protocol at this size, and the better of that and a higher rate by
    /// validation.
    pub(crate) fn verdicts(
        &self,
        network: &str,
        backbone: Option<&StateDict>,
    ) -> anyhow::Result<Vec<Verdict>> {
        let mut config: Config = self.plan.config().clone();
        (config.finetune.backbone_lr, config.finetune.head_lr) = (HIGHER, HIGHER);
        let plan = Plan::new(config)?;
        let finetune = Protocol::Finetune;
        let paper = self.trial(network, "paper", finetune, &self.plan, backbone)?;
        let higher = self.trial(network, "tuned", finetune, &plan, backbone)?;
        let tuned = if higher.validation > paper.validation {
            higher
        } else {
            Verdict {
                protocol: "tuned".to_owned(),
                ..paper.clone()
            }
        };
        Ok(vec![self.probe(network, backbone)?, paper, tuned])
    }

    /// A linear probe alone.
    pub(crate) fn probe(
        &self,
        network: &str,
        backbone: Option<&StateDict>,
    ) -> anyhow::Result<Verdict> {
        let protocol = Protocol::LinearProbe;
        self.trial(network, "probe", protocol, &self.plan, backbone)
    }

    fn trial(
        &self,
        network: &str,
        name: &str,
        protocol: Protocol,
        plan: &Plan,
        backbone: Option<&StateDict>,
    ) -> anyhow::Result<Verdict> {
        let device = Device::flex();
        let trial = Trial {
            plan,
            protocol,
            backbone,
            seed: self.seed,
            device: &device,
        };
        let draw = Draw::balanced(&self.set, plan.config().finetune.draws)?;
        let trained = trial.run(&self.set, &self.external, &draw, &mut |_, _, _| {})?;
        let area = |site| mean_area(self.set.tasks(), &trained.predictions, site);
        let [internal, external @ ..] = hospitals();
        Ok(Verdict {
            network: network.to_owned(),
            protocol: name.to_owned(),
            validation: trained.fit.validation_auc,
            internal: area(internal)?,
            external: external
                .into_iter()
                .map(area)
                .collect::<anyhow::Result<_>>()?,
        })
    }
}

/// Mean over diseases of the AUC at one hospital.
fn mean_area(tasks: &[Arc<str>], rows: &[Prediction], site: &str) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for task in tasks {
        let here = |row: &&Prediction| row.site.as_deref() == Some(site) && row.task == *task;
        let (labels, scores): (Vec<bool>, Vec<f64>) = rows
            .iter()
            .filter(here)
            .map(|row| (row.label, row.score))
            .unzip();
        sum += Ranked::new(&labels, &scores)?.areas().roc_auc;
    }
    Ok(sum / tasks.len() as f64)
}
