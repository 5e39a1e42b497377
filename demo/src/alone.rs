//! The internal hospital pre-trains by itself: as many steps as it does in the federation, with the
//! same batches per step and the same schedules.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use site_client::params::from_state;
use site_client::train::data::{Source, Subset};
use site_client::train::pretrain::{Feed, Pretraining, Skipped};
use site_client::train::{Plan, Span};

use crate::setting::Setting;

pub(crate) fn run(dir: &Path) -> anyhow::Result<()> {
    let setting = Setting::read(dir)?;
    let steps = u64::from(setting.rounds) * u64::from(setting.steps);
    let mut config = setting.config();
    (config.mae.length, config.dino.length) = (Span::Steps(steps), Span::Steps(steps));
    let plan = Plan::new(config)?;
    let objective = setting.objective.goal();
    let set = setting.cohort(setting.internal())?;
    let training = set.part(site_client::evaluate::Part::Train);
    let source: Arc<dyn Source> = Arc::new(Subset::new(Arc::clone(set.source()), training));
    let mut pretraining = Pretraining::new(&plan, objective, source.len(), &Device::flex())?;
    let feed = Arc::new(Feed::new(&plan, objective, source));
    let mut skipped = Skipped::default();
    pretraining.train(&feed, steps, &mut skipped, &mut |_, _, _| {
        ControlFlow::Continue(())
    })?;
    // DINO: the teacher, as in the federated arm.
    let backbone = from_state(pretraining.backbone())?;
    fs::write(dir.join(FILE), backbone.to_safetensors())?;
    Ok(())
}

/// Where the model goes, in the demo's folder.
pub(crate) const FILE: &str = "single-site.safetensors";
