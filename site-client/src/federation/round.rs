//! From a global model to a site's start, and from a site's result to its update.

use protocol::encoding::{Encoding, Feedback};
use protocol::layout::{Layout, Part};
use protocol::plan::{Config, Strategy, Teacher};
use protocol::{Params, Schema};

use super::error::FederationError;
use super::store::Carried;
use super::trainer::Trained;

/// Where a site starts a round.
pub struct Started {
    /// All tensors to start from.
    pub params: Params,
    /// DINO: the teacher to start from, for the tensors that are trained; by name, like `params`.
    pub teacher: Option<Params>,
    /// The global model's trained tensors, one after the other: what FedProx pulls towards.
    pub anchor: Vec<f32>,
    /// SCAFFOLD: c − cₖ, added to every gradient, laid out like `anchor`.
    pub correction: Option<Vec<f32>>,
    /// FedEMA: the scaler λ once it is known.
    lambda: Option<f32>,
    statistics: Vec<f32>,
    control: Option<Vec<f32>>,
}

/// What a round leaves: bytes to send, and what the site carries to its next round.
pub struct Finished {
    /// The update.
    pub update: Vec<u8>,
    /// Euclidean norm of the change of weights, before encoding.
    pub norm: f64,
    /// For the next round, once the update has arrived.
    pub carried: Carried,
}

/// Makes a site's start of a global model's bytes and what the site carried from its last round.
///
/// # Errors
/// If the bytes are not of the plan's and schema's size.
pub fn start(
    config: &Config,
    schema: &Schema,
    layout: &Layout,
    model: &[u8],
    carried: &Carried,
) -> Result<Started, FederationError> {
    let (expected, found) = (layout.model_bytes(), model.len() as u64);
    if expected != found {
        return Err(FederationError::ModelSize { expected, found });
    }
    let anchor = part(layout, model, Part::Weights);
    let statistics = part(layout, model, Part::Statistics);
    let local = if carried.local.is_empty() {
        part(layout, model, Part::Local)
    } else {
        carried.local.clone()
    };
    let (weights, lambda) = mix(config, &anchor, carried);
    let teacher = teacher(config, layout, model, &anchor, carried)
        .map(|weights| subset(schema, layout, &weights))
        .transpose()?;
    let control = layout
        .model_section(Part::Control)
        .map(|_| part(layout, model, Part::Control));
    let correction = control.as_ref().map(|control| match &carried.control {
        Some(own) => control
            .iter()
            .zip(own)
            .map(|(global, own)| global - own)
            .collect(),
        None => control.clone(),
    });
    let params = assemble(schema, layout, [&weights, &statistics, &local])?;
    Ok(Started {
        params,
        teacher,
        anchor,
        correction,
        lambda,
        statistics,
        control,
    })
}

/// Makes the update of a finished round. `seed` steers stochastic rounding.
///
/// # Errors
/// If the trainer gave back tensors of another schema.
pub fn finish(
    config: &Config,
    layout: &Layout,
    started: &Started,
    trained: &Trained,
    carried: &Carried,
    seed: u64,
) -> Result<Finished, FederationError> {
    if trained.params.schema() != started.params.schema() {
        let reason = "tensors of another schema than it was given";
        return Err(FederationError::Trainer(reason.to_owned()));
    }
    let [weights, statistics, local] = scatter(layout, &trained.params);
    let delta: Vec<f32> = difference(&weights, &started.anchor);
    let norm = delta
        .iter()
        .map(|&value| f64::from(value).powi(2))
        .sum::<f64>()
        .sqrt();
    let encoding = config.encoding.update;
    let mut next = Carried {
        local,
        lambda: started.lambda,
        ..Carried::default()
    };
    let mut update = if encoding.is_lossy() {
        let mut feedback = match &carried.residual {
            Some(residual) => Feedback::from_residual(residual.clone()),
            None => Feedback::new(delta.len()),
        };
        let bytes = feedback.encode(encoding, &delta, seed);
        next.residual = Some(feedback.residual().to_vec());
        bytes
    } else {
        let mut bytes = Vec::new();
        encoding.encode(&delta, 0, seed, &mut bytes);
        bytes
    };
    let exact = Encoding::F32;
    exact.encode(
        &difference(&statistics, &started.statistics),
        0,
        seed,
        &mut update,
    );
    if let Some(control) = &started.control {
        let change = control_change(control, carried, started, &weights, trained);
        exact.encode(&change, 0, seed, &mut update);
        next.control = Some(match &carried.control {
            Some(own) => own
                .iter()
                .zip(&change)
                .map(|(own, change)| own + change)
                .collect(),
            None => change,
        });
    }
    if matches!(config.strategy, Strategy::Fedema { .. }) {
        next.previous = Some(weights);
    }
    if keeps_teacher(config) {
        next.teacher = trained
            .teacher
            .as_ref()
            .map(|teacher| teacher.values().to_vec())
            .filter(|values| values.len() == started.anchor.len());
    }
    Ok(Finished {
        update,
        norm,
        carried: next,
    })
}

/// FedEMA (Zhuang et al. 2022): the start is μ · own + (1 − μ) · global with
/// μ = min(λ ‖global − own‖, 1); λ makes μ equal τ at the site's first synchronization.
fn mix(config: &Config, anchor: &[f32], carried: &Carried) -> (Vec<f32>, Option<f32>) {
    let (Strategy::Fedema { tau }, Some(own)) = (&config.strategy, &carried.previous) else {
        return (anchor.to_vec(), carried.lambda);
    };
    let pairs = || anchor.iter().zip(own);
    let distance = pairs()
        .map(|(&global, &own)| (f64::from(global) - f64::from(own)).powi(2))
        .sum::<f64>()
        .sqrt();
    let lambda = carried.lambda.map_or_else(
        || if distance > 0.0 { tau / distance } else { 0.0 },
        f64::from,
    );
    let share = (lambda * distance).min(1.0);
    let mixed = pairs()
        .map(|(&global, &own)| (share * f64::from(own) + (1.0 - share) * f64::from(global)) as f32)
        .collect();
    (mixed, Some(lambda as f32))
}

fn keeps_teacher(config: &Config) -> bool {
    config
        .dino
        .as_ref()
        .is_some_and(|dino| dino.teacher != Teacher::ServerEma)
}

fn teacher(
    config: &Config,
    layout: &Layout,
    model: &[u8],
    anchor: &[f32],
    carried: &Carried,
) -> Option<Vec<f32>> {
    let dino = config.dino.as_ref()?;
    Some(match (dino.teacher, &carried.teacher) {
        (Teacher::ServerEma, _) => part(layout, model, Part::Teacher),
        (Teacher::Local, Some(own)) => own.clone(),
        (Teacher::LocalResync, Some(own)) => own
            .iter()
            .zip(anchor)
            .map(|(&own, &global)| {
                (dino.resync * f64::from(own) + (1.0 - dino.resync) * f64::from(global)) as f32
            })
            .collect(),
        (_, None) => anchor.to_vec(),
    })
}

/// Δcₖ = −c + (x − yₖ) / Σ η (Karimireddy et al. 2020, option II; K η is the sum of the rates).
fn control_change(
    control: &[f32],
    carried: &Carried,
    started: &Started,
    weights: &[f32],
    trained: &Trained,
) -> Vec<f32> {
    let rate = if trained.learning_rate_sum > 0.0 {
        trained.learning_rate_sum.recip()
    } else {
        0.0
    };
    // cₖ cancels: cₖ⁺ − cₖ = −c + (x − y)/Kη. It is kept at the site all the same, for the
    // correction of the next round.
    debug_assert!(
        carried
            .control
            .as_ref()
            .is_none_or(|own| own.len() == control.len())
    );
    control
        .iter()
        .zip(started.anchor.iter().zip(weights))
        .map(|(&control, (&x, &y))| {
            ((f64::from(x) - f64::from(y)) * rate - f64::from(control)) as f32
        })
        .collect()
}

fn difference(new: &[f32], old: &[f32]) -> Vec<f32> {
    new.iter().zip(old).map(|(new, old)| new - old).collect()
}

/// One part of a model's bytes as numbers; empty if the model has none.
fn part(layout: &Layout, model: &[u8], part: Part) -> Vec<f32> {
    let Some(section) = layout.model_section(part) else {
        return Vec::new();
    };
    let bytes = &model[section.offset as usize..section.end() as usize];
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect()
}

/// Tensors in the schema's order from their parts: weights, statistics, local.
fn assemble(
    schema: &Schema,
    layout: &Layout,
    parts: [&[f32]; 3],
) -> Result<Params, FederationError> {
    let mut values = Vec::with_capacity(schema.elements() as usize);
    for slot in layout.slots() {
        let range = slot.elements.start as usize..slot.elements.end as usize;
        values.extend_from_slice(&parts[slot.part as usize][range]);
    }
    Params::new(schema.clone(), values).map_err(|error| FederationError::Trainer(error.to_string()))
}

/// The trained tensors alone, by name.
fn subset(schema: &Schema, layout: &Layout, weights: &[f32]) -> Result<Params, FederationError> {
    let tensors = schema.tensors().iter().zip(layout.slots());
    let trained = tensors
        .filter(|(_, slot)| slot.part == Part::Weights)
        .map(|(spec, slot)| {
            let range = slot.elements.start as usize..slot.elements.end as usize;
            (
                spec.name().to_owned(),
                spec.shape().to_vec(),
                weights[range].to_vec(),
            )
        });
    Params::from_tensors(trained).map_err(|error| FederationError::Trainer(error.to_string()))
}

/// The reverse of [`assemble`].
fn scatter(layout: &Layout, params: &Params) -> [Vec<f32>; 3] {
    let mut parts = [const { Vec::new() }; 3];
    for (slot, (_, values)) in layout.slots().iter().zip(params.iter()) {
        parts[slot.part as usize].extend_from_slice(values);
    }
    parts
}

#[cfg(test)]
mod tests;
