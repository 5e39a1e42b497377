//! What `finetune` and `probe` do alike: one model per group of tasks.

use std::path::Path;

use site_client::train::Plan;
use site_client::train::downstream::{
    Classifier, Draw, Protocol, Trial, TrialNote, macro_auc_of, write_results,
};
use site_client::train::record::Progress;

use super::training::{DataArgs, ExternalArgs, backbone, device, named, start_name, task_groups};

/// One command's worth of trials.
pub(super) struct Request<'a> {
    pub(super) plan: Plan,
    pub(super) protocol: Protocol,
    pub(super) from: &'a str,
    pub(super) tasks: &'a str,
    pub(super) data: &'a DataArgs,
    pub(super) external: &'a ExternalArgs,
    pub(super) out: &'a Path,
}

pub(super) fn run(request: &Request<'_>) -> anyhow::Result<()> {
    let Request { plan, protocol, .. } = request;
    let device = device(plan)?;
    let backbone = backbone(request.from)?;
    let set = request.data.open(plan)?;
    let seed = plan.config().seed;
    let trial = Trial {
        plan,
        protocol: *protocol,
        backbone: backbone.as_ref(),
        seed,
        device: &device,
    };
    let (mut predictions, mut names, mut fits) = (Vec::new(), Vec::new(), Vec::new());
    for tasks in task_groups(&set, request.tasks) {
        let set = set.of_tasks(&tasks)?;
        let external = request.external.open(plan, &set, request.data)?;
        let draw = Draw::balanced(&set, plan.config().finetune.draws)?;
        let name = tasks.join("+");
        let epochs = plan.config().finetune.epochs as u64;
        let mut progress = Progress::start(Some(&request.out.join(&name)), 0, epochs, 1)?;
        let trained = trial.run(&set, &external, &draw, &mut |epoch, loss, auc| {
            progress.step(epoch as u64, &[("loss", loss), ("validation_auc", auc)]);
        })?;
        progress.finish();
        let path = request.out.join(format!("{name}.safetensors"));
        let (start, parameters) = (backbone.as_ref(), &trained.parameters);
        Classifier::save(&path, plan, *protocol, &tasks, start, parameters)?;
        let tested = named(
            trained.predictions,
            start_name(request.from),
            protocol.name(),
            &set,
        );
        println!(
            "{name}: epoch {}, validation AUC {:.3}, test AUC {:.3}",
            trained.fit.best_epoch,
            trained.fit.validation_auc,
            macro_auc_of(
                &tested,
                set.rows().first().and_then(|row| row.site.as_deref())
            ),
        );
        predictions.extend(tested);
        names.push(name);
        fits.push(trained.fit);
    }
    let notes: Vec<_> = names
        .iter()
        .zip(&fits)
        .map(|(name, fit)| TrialNote::fitted(name, protocol.name(), fit))
        .collect();
    write_results(request.out, plan, predictions, &notes)?;
    println!(
        "predictions: {}",
        request.out.join("predictions.csv").display()
    );
    Ok(())
}
