//! Stage, then fold: updates that lie on disk become the next model.
//!
//! Every strategy reads the same column range of every staged update, in the canonical order of
//! sites, folds it, writes it, and goes on to the next range. Memory is a few columns for each
//! site, whatever the size of the model; the result depends on neither arrival order nor the
//! number of threads; and running it again on the same blobs gives the same bytes.
//!
//! Sums are in float64. A new weight is rounded to float32 once.

mod columns;
mod finite;
mod fold;
mod krum;
mod order;
mod server_optimizer;
mod validate;
mod weights;

use std::io;

use protocol::layout::{Layout, Part};
use protocol::plan::Config;
use thiserror::Error;

pub use columns::{ReadAt, WriteAt};
pub use validate::{Defect, inspect};

use columns::{copy_section, write_section};
use finite::require_finite;
use fold::{Columns, Fold};
use server_optimizer::ServerOptimizer;

/// One staged update and what its site said of it.
#[derive(Clone, Copy)]
pub struct Contribution<'a> {
    /// The staged bytes, already validated.
    pub update: &'a dyn ReadAt,
    /// Examples the site trained on in this round.
    pub examples: u64,
    /// Optimizer steps it took.
    pub steps: u64,
    /// Euclidean norm of its change of weights, as [`inspect`] found it.
    pub norm: f64,
}

/// What one aggregation reads.
pub struct Inputs<'a> {
    /// What the plan says.
    pub config: &'a Config,
    /// Where each number lies.
    pub layout: &'a Layout,
    /// Global step at which the round began.
    pub first_step: u64,
    /// The model the sites started from.
    pub model: &'a dyn ReadAt,
    /// The server optimizer's moments; `None` in the first round.
    pub moments: Option<&'a dyn ReadAt>,
    /// Staged updates in the canonical order of sites.
    pub contributions: &'a [Contribution<'a>],
}

/// What an aggregation did, besides the bytes it wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Weight of each contribution in the mean, in order; empty for order statistics, which have
    /// none. L-DAWA's weights are means over tensors.
    pub weights: Vec<f64>,
    /// Euclidean norm of the folded change, before the server optimizer.
    pub delta_norm: f64,
}

/// Why an aggregation stopped; nothing is published then. Updates were validated before, so what is
/// wrong is not wrong in one of them alone.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AggregateError {
    /// There is nothing to fold, and a model without updates is not a new model.
    #[error("aggregate: expected at least one update, found none")]
    Empty,
    /// Reading or writing a blob failed.
    #[error("aggregate: blob not read or written")]
    Io(#[from] io::Error),
    /// The new model, or the server's moments, would hold a value that is NaN or infinite.
    #[error(
        "aggregate: values must be finite, element {element} of tensor {tensor} ({what}) is not"
    )]
    NotFinite {
        /// Weights, teacher, statistics, control, or a moment.
        what: &'static str,
        /// Name of the tensor.
        tensor: String,
        /// Place in it.
        element: u64,
    },
    /// A robust rule got fewer updates than its guarantee needs.
    #[error("aggregate: {strategy} needs at least {needed} updates, found {found}")]
    TooFew {
        /// The plan's strategy.
        strategy: &'static str,
        /// Fewest updates it is defined for.
        needed: usize,
        /// Updates that were staged.
        found: usize,
    },
}

/// Folds the staged updates into the next model, and the next moments where the strategy has any.
///
/// # Errors
/// If there are too few updates for the strategy, a value of the result is not finite, or a blob
/// cannot be read or written.
pub fn aggregate(
    inputs: &Inputs<'_>,
    model: &mut dyn WriteAt,
    moments: &mut dyn WriteAt,
) -> Result<Summary, AggregateError> {
    if inputs.contributions.is_empty() {
        return Err(AggregateError::Empty);
    }
    let fold = Fold::new(inputs)?;
    let delta_norm = fold_weights(inputs, &fold, model, moments)?;
    fold_statistics(inputs, &fold, model)?;
    copy_local(inputs, model)?;
    fold_control(inputs, model)?;
    Ok(Summary {
        weights: fold.mean_weights(),
        delta_norm,
    })
}

/// Bytes of the server optimizer's moments under this plan.
pub fn moments_bytes(config: &Config, layout: &Layout) -> u64 {
    ServerOptimizer::new(&config.strategy).moments() * layout.elements(Part::Weights) * 4
}

/// Weights, and in the same pass the moments and the teacher, which depend on them.
fn fold_weights(
    inputs: &Inputs<'_>,
    fold: &Fold,
    model: &mut dyn WriteAt,
    moments: &mut dyn WriteAt,
) -> Result<f64, AggregateError> {
    let Inputs { config, layout, .. } = inputs;
    let optimizer = ServerOptimizer::new(&config.strategy);
    let section = layout
        .model_section(Part::Weights)
        .expect("every model has weights");
    let teacher = layout.model_section(Part::Teacher);
    let teacher_momentum = config.dino.as_ref().map_or(0.0, |dino| {
        let steps = config.steps_per_round();
        dino.teacher_momentum
            .product(inputs.first_step, steps, config.total_steps())
    });
    let elements = section.elements;
    let mut columns = Columns::new(inputs, Part::Weights);
    let mut squared_norm = 0.0;
    let mut delta = Vec::new();
    let [mut weights, mut averaged, mut first, mut second] = [const { Vec::new() }; 4];
    for range in columns.ranges() {
        columns.read(range.clone())?;
        fold.weights(&columns, range.clone(), &mut delta);
        squared_norm += columns::dot(&delta, &delta);
        columns::read_section(inputs.model, &section, range.clone(), &mut weights)?;
        optimizer.read_moments(
            inputs.moments,
            elements,
            range.clone(),
            &mut first,
            &mut second,
        )?;
        optimizer.step(&delta, &mut weights, &mut first, &mut second);
        for (what, values) in [
            ("weights", &weights),
            ("first moment", &first),
            ("second moment", &second),
        ] {
            require_finite(layout, (what, Part::Weights), range.start, values)?;
        }
        write_section(model, &section, range.start, &weights)?;
        optimizer.write_moments(moments, elements, range.start, &first, &second)?;
        if let Some(teacher) = &teacher {
            columns::read_section(inputs.model, teacher, range.clone(), &mut averaged)?;
            for (teacher, weight) in averaged.iter_mut().zip(&weights) {
                let (old, new) = (f64::from(*teacher), f64::from(*weight));
                *teacher = (teacher_momentum * old + (1.0 - teacher_momentum) * new) as f32;
            }
            let kind = ("teacher", Part::Weights);
            require_finite(layout, kind, range.start, &averaged)?;
            write_section(model, teacher, range.start, &averaged)?;
        }
    }
    Ok(squared_norm.sqrt())
}

/// Statistics move by the fold itself: no server optimizer, no clipping, no step normalization.
fn fold_statistics(
    inputs: &Inputs<'_>,
    fold: &Fold,
    model: &mut dyn WriteAt,
) -> Result<(), AggregateError> {
    let section = inputs
        .layout
        .model_section(Part::Statistics)
        .expect("every model has statistics");
    let mut columns = Columns::new(inputs, Part::Statistics);
    let (mut delta, mut values) = (Vec::new(), Vec::new());
    for range in columns.ranges() {
        columns.read(range.clone())?;
        fold.statistics(&columns, &mut delta);
        columns::read_section(inputs.model, &section, range.clone(), &mut values)?;
        for (value, delta) in values.iter_mut().zip(&delta) {
            *value = (f64::from(*value) + delta) as f32;
        }
        let kind = ("statistics", Part::Statistics);
        require_finite(inputs.layout, kind, range.start, &values)?;
        write_section(model, &section, range.start, &values)?;
    }
    Ok(())
}

fn copy_local(inputs: &Inputs<'_>, model: &mut dyn WriteAt) -> Result<(), AggregateError> {
    let section = inputs
        .layout
        .model_section(Part::Local)
        .expect("every model has a local section");
    Ok(copy_section(inputs.model, &section, model)?)
}

/// SCAFFOLD: c ← c + Σ Δcₖ / N over all N sites of the plan (Karimireddy et al. 2020, eq. 5).
fn fold_control(inputs: &Inputs<'_>, model: &mut dyn WriteAt) -> Result<(), AggregateError> {
    let Some(section) = inputs.layout.model_section(Part::Control) else {
        return Ok(());
    };
    let mut columns = Columns::new(inputs, Part::Control);
    let share = 1.0 / inputs.config.cohort.sites.len() as f64;
    let shares = vec![share; inputs.contributions.len()];
    let (mut delta, mut control) = (Vec::new(), Vec::new());
    for range in columns.ranges() {
        columns.read(range.clone())?;
        fold::weighted_sum(&columns, &shares, &mut delta);
        columns::read_section(inputs.model, &section, range.clone(), &mut control)?;
        for (control, delta) in control.iter_mut().zip(&delta) {
            *control = (f64::from(*control) + delta) as f32;
        }
        let kind = ("control", Part::Weights);
        require_finite(inputs.layout, kind, range.start, &control)?;
        write_section(model, &section, range.start, &control)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
