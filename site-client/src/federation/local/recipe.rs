//! A federation's plan in the words of the training code: presets, schedules, steps, first weights.

use std::sync::Arc;

use burn::tensor::Device;
use core_model::heads::ProbeKind;
use core_model::state::StateDict;
use protocol::SiteId;
use protocol::params::Params;
use protocol::plan;

use super::CENTER;
use super::fault::failed;
use super::pretraining::vector;
use crate::federation::TrainError;
use crate::params::from_state;
use crate::train::data::stream;
use crate::train::downstream::{Finetuning, Learner, Start};
use crate::train::pretrain::{Pretraining, Schedule};
use crate::train::{Architecture, Config, Objective, Plan, Preset};

/// The seed of a site's own draws within a run.
#[must_use]
pub fn site_seed(seed: u64, site: &SiteId) -> u64 {
    stream(seed, site.as_str(), &[])
}

/// The first checkpoint of a plan: fresh weights from its seed, over `backbone` where one is given.
///
/// # Errors
/// If the plan's architecture is unknown or cannot do what the plan asks, or the backbone is of
/// another.
pub fn first_checkpoint(
    config: &plan::Config,
    backbone: Option<&StateDict>,
    device: &Device,
) -> Result<Params, TrainError> {
    let plan = local_plan(config, config.seed)?;
    let pretraining = |objective| {
        let mut fresh = Pretraining::with_schedule(&plan, objective, schedule(config), device)
            .map_err(failed)?;
        if let Some(backbone) = backbone {
            let (mut all, prefix) = (
                fresh.parameters(),
                if objective == Objective::Dino {
                    "backbone."
                } else {
                    ""
                },
            );
            all.extend(
                backbone
                    .iter()
                    .map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())),
            );
            fresh.load(&all).map_err(failed)?;
        }
        let mut all = fresh.parameters();
        if let Some(center) = fresh.center() {
            all.insert(CENTER.to_owned(), vector(center));
        }
        Ok(all)
    };
    let all = match config.objective {
        plan::Objective::Dino => pretraining(Objective::Dino)?,
        plan::Objective::Mae => pretraining(Objective::Mae)?,
        plan::Objective::Evaluate | plan::Objective::Finetune | plan::Objective::Probe => {
            let tasks = task_names(config)?.len();
            let start = backbone.map_or(Start::Scratch, Start::Backbone);
            let seeds = (config.seed, config.total_steps().max(1));
            Finetuning::new(&plan, ProbeKind::Linear, tasks, start, seeds, device)
                .map_err(failed)?
                .parameters()
        }
    };
    from_state(all).map_err(failed)
}

pub(super) fn task_names(config: &plan::Config) -> Result<Vec<Arc<str>>, TrainError> {
    let Some(evaluation) = &config.evaluation else {
        let reason = "the plan names no tasks: evaluation.tasks is absent";
        return Err(TrainError::Failed(reason.to_owned()));
    };
    Ok(evaluation
        .tasks
        .iter()
        .map(|task| task.as_str().into())
        .collect())
}

/// The site's training plan: the preset with what the federation's plan says over it.
///
/// # Errors
/// If the plan's architecture is not its preset's, or the preset cannot do what the plan asks.
pub fn local_plan(config: &plan::Config, seed: u64) -> Result<Plan, TrainError> {
    let mut local = Config::preset(match config.preset {
        plan::Preset::Paper => Preset::Paper,
        plan::Preset::Repo => Preset::Repo,
        plan::Preset::Small => Preset::Small,
        plan::Preset::Tiny => Preset::Tiny,
    });
    let known = match local.model.architecture {
        Architecture::Resnet50 => "resnet50-3d",
        Architecture::Vit => "vit",
    };
    let (preset, found) = (config.preset, &config.model);
    if found != known {
        return Err(TrainError::Failed(format!(
            "plan: model: must be \"{known}\", the architecture of preset {preset:?}, found \"{found}\""
        )));
    }
    local.seed = seed;
    if let Some(work) = &config.local {
        let batch = work.batch_size as usize;
        let pass = |usual: usize| {
            if batch.is_multiple_of(usual) {
                usual
            } else {
                batch
            }
        };
        (local.dino.device_batch, local.mae.device_batch) =
            (pass(local.dino.device_batch), pass(local.mae.device_batch));
        (local.dino.global_batch, local.mae.global_batch) = (batch, batch);
        local.finetune.batch = batch;
    }
    if let Some(schedule) = &config.schedule {
        let ratio = local.finetune.head_lr / local.finetune.backbone_lr;
        local.finetune.backbone_lr = schedule.learning_rate.peak;
        local.finetune.head_lr = schedule.learning_rate.peak * ratio;
        local.finetune.weight_decay = schedule.weight_decay.start;
        let rate = schedule.learning_rate;
        local.finetune.min_lr_ratio = rate.end / rate.peak;
        local.finetune.warmup = rate.warmup_steps as f64 / config.total_steps().max(1) as f64;
    }
    Plan::new(local).map_err(failed)
}

/// The schedules of a federated run, by global step.
pub(super) fn schedule(config: &plan::Config) -> Schedule {
    let (rate, decay) = config
        .schedule
        .as_ref()
        .map_or(([0.0; 2], [0.0; 2]), |schedule| {
            let (rate, decay) = (schedule.learning_rate, schedule.weight_decay);
            ([rate.peak, rate.end], [decay.start, decay.end])
        });
    let warmup = config
        .schedule
        .as_ref()
        .map_or(0, |schedule| schedule.learning_rate.warmup_steps);
    let dino = config.dino.as_ref();
    Schedule {
        total: config.total_steps(),
        warmup,
        lr: rate,
        weight_decay: decay,
        momentum: dino.map_or([1.0; 2], |d| {
            [d.teacher_momentum.start, d.teacher_momentum.end]
        }),
        temperature: dino.map_or([1.0; 2], |d| {
            [d.teacher_temperature_start, d.teacher_temperature_end]
        }),
        temperature_warmup: dino.map_or(0, |d| d.teacher_temperature_warmup_steps),
        frozen: dino.map_or(0, |d| d.freeze_last_layer_steps),
    }
}

/// Steps of one round at a site with `scans` scans.
pub(super) fn local_steps(config: &plan::Config, scans: usize) -> u64 {
    let Some(local) = &config.local else { return 0 };
    match (local.steps, local.epochs) {
        (Some(steps), _) => u64::from(steps),
        (None, epochs) => {
            let samples = u64::from(epochs.unwrap_or(1)) * scans as u64;
            samples.div_ceil(u64::from(local.batch_size)).max(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_of_a_model_that_is_not_the_presets_is_refused_by_name() {
        let first = |model: &str| {
            let text = format!(
                "name = \"test\"\nobjective = \"mae\"\nmodel = \"{model}\"\npreset = \"tiny\"\n\
                 initial = \"{}\"\nrounds = 1\nlocal = {{ steps = 1, batch_size = 2 }}\n\
                 schedule = {{ learning_rate = {{ peak = 1e-3 }} }}\n\
                 cohort = {{ rule = \"full\", sites = [\"north\"] }}\n",
                "0".repeat(64)
            );
            let plan = plan::Plan::parse(text.as_bytes()).unwrap();
            first_checkpoint(plan.config(), None, &Device::flex()).map(drop)
        };
        assert!(first("vit").is_ok());
        for unknown in ["vit-huge", "resnet50-3d"] {
            assert_eq!(
                first(unknown).unwrap_err().to_string(),
                format!(
                    "plan: model: must be \"vit\", the architecture of preset Tiny, found \"{unknown}\""
                )
            );
        }
    }
}
