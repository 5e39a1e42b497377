//! From a global model to a site's start, and from a site's result to its update.
//!
//! Models are large and fresh memory is dear, so bytes of models and updates pass through in pieces;
//! whole are only the vectors that training and the next round need.

use std::borrow::Cow;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use protocol::encoding::{Encoding, Feedback};
use protocol::layout::{Layout, Part, Section, Slot};
use protocol::plan::{Config, Strategy, Teacher};
use protocol::{Params, Schema};

use super::error::FederationError;
use super::store::Carried;
use super::trainer::Trained;

mod scored;

pub(super) use scored::scored;

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

/// What a round leaves beside the update.
pub struct Finished {
    /// Euclidean norm of the change of weights as it is sent: what a lossy encoding sends late is in
    /// the update that sends it.
    pub norm: f64,
    /// For the next round, once the update has arrived.
    pub carried: Carried,
}

/// Makes a site's start of a global model's bytes and what the site carried from its last round.
///
/// # Errors
/// If the bytes are not of the plan's and schema's size, or cannot be read.
pub fn start(
    config: &Config,
    schema: &Schema,
    layout: &Layout,
    model: &mut (impl Read + Seek),
    carried: &Carried,
) -> Result<Started, FederationError> {
    check_size(layout, model)?;
    let mut read = |part| read_part(layout, model, part);
    let anchor = read(Part::Weights)?.unwrap_or_default();
    let statistics = read(Part::Statistics)?.unwrap_or_default();
    let published = read(Part::Teacher)?;
    let control = read(Part::Control)?;
    let local = local(layout, model, carried)?;
    let (weights, lambda) = mix(config, &anchor, carried);
    let teacher = teacher(config, published.as_deref(), &anchor, carried)
        .map(|weights| subset(schema, layout, &weights))
        .transpose()?;
    let correction = control.as_ref().map(|control| match &carried.control {
        Some(own) => control
            .iter()
            .zip(own)
            .map(|(global, own)| global - own)
            .collect(),
        None => control.clone(),
    });
    let params = assemble(schema, layout, [&*weights, &statistics, &local])?;
    drop(weights);
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

/// Writes the update of a finished round to `update`. `seed` steers stochastic rounding.
///
/// # Errors
/// If the trainer gave back tensors of another schema or values that are not finite, or the update
/// cannot be written.
pub fn finish(
    config: &Config,
    layout: &Layout,
    started: &Started,
    trained: &Trained,
    carried: &Carried,
    seed: u64,
    update: &mut impl Write,
) -> Result<Finished, FederationError> {
    if trained.params.schema() != started.params.schema() {
        let reason = "tensors of another schema than it was given";
        return Err(FederationError::Trainer(reason.to_owned()));
    }
    let written = |result: io::Result<()>| result.map_err(FederationError::UpdateWrite);
    let changes = || changes(layout, &trained.params, Part::Weights, &started.anchor);
    let square = |value: f32| f64::from(value).powi(2);
    let mut squares: f64 = changes().flatten().map(square).sum();
    let changed = || {
        let statistics = &started.statistics;
        self::changes(layout, &trained.params, Part::Statistics, statistics)
    };
    let of_statistics: f64 = changed().flatten().map(square).sum();
    if !(squares + of_statistics).is_finite() {
        return Err(FederationError::NotFinite);
    }
    let mut next = Carried {
        local: part(layout, &trained.params, Part::Local),
        lambda: started.lambda,
        ..Carried::default()
    };
    let encoding = config.encoding.update;
    if encoding.is_lossy() {
        let mut delta = Vec::with_capacity(started.anchor.len());
        changes().for_each(|piece| delta.extend(piece));
        let mut feedback = match &carried.residual {
            Some(residual) => Feedback::from_residual(residual.clone()),
            None => Feedback::new(delta.len()),
        };
        written(update.write_all(&feedback.encode(encoding, &delta, seed)))?;
        let residual = feedback.residual().to_vec();
        squares = match &carried.residual {
            Some(before) => {
                let moved = delta.iter().zip(before).zip(&residual);
                moved.map(|((delta, before), left)| square(delta + before - left))
            }
            .sum(),
            None => delta
                .iter()
                .zip(&residual)
                .map(|(delta, left)| square(delta - left))
                .sum(),
        };
        next.residual = Some(residual);
    } else {
        written(write_exact(changes(), update))?;
    }
    written(write_exact(changed(), update))?;
    if let Some(control) = &started.control {
        let weights = part(layout, &trained.params, Part::Weights);
        let change = control_change(control, carried, started, &weights, trained);
        if !change.iter().all(|value| value.is_finite()) {
            return Err(FederationError::NotFinite);
        }
        written(write_exact(
            change.chunks(PIECE).map(<[f32]>::to_vec),
            update,
        ))?;
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
        next.previous = Some(part(layout, &trained.params, Part::Weights));
    }
    if keeps_teacher(config) {
        next.teacher = trained
            .teacher
            .as_ref()
            .map(|teacher| teacher.values().to_vec())
            .filter(|values| values.len() == started.anchor.len());
    }
    Ok(Finished {
        norm: squares.sqrt(),
        carried: next,
    })
}

/// FedEMA (Zhuang et al. 2022): the start is μ · own + (1 − μ) · global with
/// μ = min(λ ‖global − own‖, 1); λ makes μ equal τ at the site's first synchronization.
fn mix<'a>(config: &Config, anchor: &'a [f32], carried: &Carried) -> (Cow<'a, [f32]>, Option<f32>) {
    let (Strategy::Fedema { tau }, Some(own)) = (&config.strategy, &carried.previous) else {
        return (Cow::Borrowed(anchor), carried.lambda);
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

fn teacher<'a>(
    config: &Config,
    published: Option<&'a [f32]>,
    anchor: &'a [f32],
    carried: &'a Carried,
) -> Option<Cow<'a, [f32]>> {
    let dino = config.dino.as_ref()?;
    Some(match (dino.teacher, &carried.teacher) {
        (Teacher::ServerEma, _) => Cow::Borrowed(published.unwrap_or_default()),
        (Teacher::Local, Some(own)) => Cow::Borrowed(own),
        (Teacher::LocalResync, Some(own)) => own
            .iter()
            .zip(anchor)
            .map(|(&own, &global)| {
                (dino.resync * f64::from(own) + (1.0 - dino.resync) * f64::from(global)) as f32
            })
            .collect(),
        (_, None) => Cow::Borrowed(anchor),
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

/// What training changed in one part, in pieces: the values of `params` minus the `old` ones.
fn changes<'a>(
    layout: &'a Layout,
    params: &'a Params,
    part: Part,
    old: &'a [f32],
) -> impl Iterator<Item = Vec<f32>> + 'a {
    tensors(layout, params, part).flat_map(|(range, new)| {
        let pieces = new.chunks(PIECE).zip(old[range].chunks(PIECE));
        pieces.map(|(new, old)| new.iter().zip(old).map(|(new, old)| new - old).collect())
    })
}

/// One part of a site's tensors, one after the other.
fn part(layout: &Layout, params: &Params, part: Part) -> Vec<f32> {
    let tensors = tensors(layout, params, part).map(|(_, values)| values);
    tensors.collect::<Vec<_>>().concat()
}

/// Tensors of one part with their places in it.
fn tensors<'a>(
    layout: &'a Layout,
    params: &'a Params,
    part: Part,
) -> impl Iterator<Item = (Range<usize>, &'a [f32])> {
    let slots = layout.slots().iter().zip(params.iter());
    slots
        .filter(move |(slot, _)| slot.part == part)
        .map(|(slot, (_, values))| (places(slot), values))
}

fn places(slot: &Slot) -> Range<usize> {
    slot.elements.start as usize..slot.elements.end as usize
}

fn write_exact(pieces: impl Iterator<Item = Vec<f32>>, update: &mut impl Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.clear();
        Encoding::F32.encode(&piece, 0, 0, &mut bytes);
        update.write_all(&bytes)?;
    }
    Ok(())
}

fn check_size(layout: &Layout, model: &mut impl Seek) -> Result<(), FederationError> {
    let found = model.seek(SeekFrom::End(0));
    let found = found.map_err(FederationError::ModelRead)?;
    let expected = layout.model_bytes();
    if expected != found {
        return Err(FederationError::ModelSize { expected, found });
    }
    Ok(())
}

/// The tensors that stay at the site: its own once it has trained.
fn local(
    layout: &Layout,
    model: &mut (impl Read + Seek),
    carried: &Carried,
) -> Result<Vec<f32>, FederationError> {
    if !carried.local.is_empty() {
        return Ok(carried.local.clone());
    }
    Ok(read_part(layout, model, Part::Local)?.unwrap_or_default())
}

fn read_part(
    layout: &Layout,
    model: &mut (impl Read + Seek),
    part: Part,
) -> Result<Option<Vec<f32>>, FederationError> {
    let section = layout.model_section(part);
    let values = section.map(|section| read_section(model, section));
    values.transpose().map_err(FederationError::ModelRead)
}

/// One section of a model as numbers.
fn read_section(model: &mut (impl Read + Seek), section: Section) -> io::Result<Vec<f32>> {
    model.seek(SeekFrom::Start(section.offset))?;
    let mut values = vec![0.0; section.elements as usize];
    let mut bytes = vec![0; PIECE * size_of::<f32>()];
    for values in values.chunks_mut(PIECE) {
        let bytes = &mut bytes[..size_of_val(values)];
        model.read_exact(bytes)?;
        let decoded = section.encoding.decode(bytes, values);
        decoded.map_err(io::Error::other)?;
    }
    Ok(values)
}

/// Tensors in the schema's order from their parts: weights, statistics, local.
fn assemble(
    schema: &Schema,
    layout: &Layout,
    parts: [&[f32]; 3],
) -> Result<Params, FederationError> {
    let mut values = Vec::with_capacity(schema.elements() as usize);
    for slot in layout.slots() {
        values.extend_from_slice(&parts[slot.part as usize][places(slot)]);
    }
    Params::new(schema.clone(), values).map_err(|error| FederationError::Trainer(error.to_string()))
}

/// The trained tensors alone, by name.
fn subset(schema: &Schema, layout: &Layout, weights: &[f32]) -> Result<Params, FederationError> {
    let tensors = schema.tensors().iter().zip(layout.slots());
    let trained = tensors
        .filter(|(_, slot)| slot.part == Part::Weights)
        .map(|(spec, slot)| {
            (
                spec.name().to_owned(),
                spec.shape().to_vec(),
                weights[places(slot)].to_vec(),
            )
        });
    Params::from_tensors(trained).map_err(|error| FederationError::Trainer(error.to_string()))
}

/// Numbers that are read, encoded and written at a time.
const PIECE: usize = 1 << 14;

#[cfg(test)]
mod tests;
