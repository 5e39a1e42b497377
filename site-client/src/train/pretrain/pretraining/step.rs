//! One optimizer step: passes, their gradients, the update.

use burn::tensor::Tensor;
use core_model::gradients::Gradients;
use core_model::ssl::dino::Dino;
use core_model::ssl::mae::Mae;
use core_model::ssl::mask::Mask;

use super::replicas::{Pass, Place};
use super::{Network, Pretraining, volumes};
use crate::train::TrainError;
use crate::train::pretrain::{Batch, Rates};

impl Pretraining {
    pub(super) fn step_mae(
        &mut self,
        passes: impl Iterator<Item = Result<Batch, TrainError>>,
        total: usize,
        rates: Rates,
    ) -> Result<f64, TrainError> {
        let Network::Mae(mae) = &mut self.network else {
            unreachable!("checked by the caller")
        };
        let channels = self.plan.vit().channels;
        let (tokens, ratio) = (self.plan.vit().patches(), self.plan.mae().mask_ratio);
        let pass = |mae: &mut Mae, batch: Batch, place: &Place<'_>| {
            let mask = Mask::from_noise(&batch.noise, tokens, ratio);
            let scans = batch.scans.len();
            let views = volumes(batch.views, scans, channels, place.device);
            let volume = views.into_iter().next().expect("MAE has one view");
            let loss = mae.forward(volume, &mask).loss * (scans as f64 / total as f64);
            place.pass(mae, scans, loss)
        };
        let mut sum = Accumulated::default();
        self.devices
            .run(&mut **mae, passes, pass, |pass| sum.add(pass, self.step))?;
        sum.require(total)?;
        let (lr, decay) = (rates.lr, rates.weight_decay);
        **mae = self
            .optimizer
            .step((**mae).clone(), sum.gradients, lr, decay)
            .map_err(|fault| fault.at(self.step + 1))?;
        Ok(sum.loss)
    }

    pub(super) fn step_dino(
        &mut self,
        passes: impl Iterator<Item = Result<Batch, TrainError>>,
        total: usize,
        rates: Rates,
    ) -> Result<f64, TrainError> {
        let Network::Dino(dino) = &mut self.network else {
            unreachable!("checked by the caller")
        };
        let channels = self.plan.vit().channels;
        let global = self.plan.config().dino.global_views;
        let before = dino.center.clone();
        let pass = |dino: &mut Dino, batch: Batch, place: &Place<'_>| {
            let scans = batch.scans.len();
            let share = scans as f64 / total as f64;
            let views = volumes(batch.views, scans, channels, place.device);
            // Every pass is judged by the same center, and moves it by its share.
            dino.center = before.clone().to_device(&place.device.clone().inner());
            let loss = dino.forward(&views, global, rates.temperature) * share;
            let pass = place.pass(&dino.student, scans, loss);
            (pass, dino.center.clone() * share)
        };
        let home = self.devices.home().clone().inner();
        let mut after: Option<Tensor<1>> = None;
        let mut sum = Accumulated::default();
        let ran = self
            .devices
            .run(&mut **dino, passes, pass, |(pass, center)| {
                let moved = center.to_device(&home);
                after = Some(match after.take() {
                    Some(sum) => sum + moved,
                    None => moved,
                });
                sum.add(pass, self.step)
            });
        // A pass moves the center by itself; a step that fails leaves it where it was.
        dino.center = before;
        ran?;
        sum.require(total)?;
        let mut gradients = sum.gradients;
        if rates.frozen {
            gradients.drop_prefix("head.last_layer");
        }
        let (lr, decay) = (rates.lr, rates.weight_decay);
        dino.student = self
            .optimizer
            .step(dino.student.clone(), gradients, lr, decay)
            .map_err(|fault| fault.at(self.step + 1))?;
        if let Some(after) = after {
            dino.center = after;
        }
        dino.update_teacher(rates.momentum);
        Ok(sum.loss)
    }
}

/// The summed gradients of the passes of one step.
#[derive(Default)]
struct Accumulated {
    scans: usize,
    loss: f64,
    gradients: Gradients,
}

impl Accumulated {
    /// Adds a pass, its loss already scaled by its share of the step.
    fn add(&mut self, pass: Pass, step: u64) -> Result<(), TrainError> {
        if !pass.loss.is_finite() {
            return Err(TrainError::loss(step + 1, pass.loss));
        }
        self.scans += pass.scans;
        self.loss += pass.loss;
        self.gradients.accumulate(pass.gradients);
        Ok(())
    }

    /// Each pass was weighed as a part of `total` scans; they must be all there.
    fn require(&self, total: usize) -> Result<(), TrainError> {
        if self.scans == total {
            return Ok(());
        }
        let found = self.scans;
        Err(TrainError::data(format!(
            "global batch: expected {total} scans, found {found}"
        )))
    }
}
