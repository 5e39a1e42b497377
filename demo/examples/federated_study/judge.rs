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

/// Learning rates, of backbone and head alike, that the tuned protocol tries beside the paper's.
const RATES: [f64; 3] = [1e-3, 3e-3, 1e-2];

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

    /// A linear probe, and the paper's protocol at this size.
    pub(crate) fn verdicts(
        &self,
        network: &str,
        backbone: Option<&StateDict>,
    ) -> anyhow::Result<Vec<Verdict>> {
        let probe = Protocol::LinearProbe;
        Ok(vec![
            self.trial(network, "probe", probe, &self.plan, backbone)?,
            self.trial(network, "paper", Protocol::Finetune, &self.plan, backbone)?,
        ])
    }

    /// The best of the paper's protocol and other rates by validation.
    pub(crate) fn tuned(
        &self,
        paper: &Verdict,
        backbone: Option<&StateDict>,
    ) -> anyhow::Result<Verdict> {
        let mut tuned = Verdict {
            protocol: "tuned".to_owned(),
            ..paper.clone()
        };
        for rate in RATES {
            let mut config: Config = self.plan.config().clone();
            (config.finetune.backbone_lr, config.finetune.head_lr) = (rate, rate);
            let plan = Plan::new(config)?;
            let other = self.trial(&paper.network, "tuned", Protocol::Finetune, &plan, backbone)?;
            if other.validation > tuned.validation {
                tuned = other;
            }
        }
        Ok(tuned)
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
