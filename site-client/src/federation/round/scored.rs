//! The network of a global model that sites score.

use std::io::{Read, Seek};

use protocol::layout::{Layout, Part};
use protocol::plan::Config;
use protocol::{Params, Schema};

use super::{assemble, check_size, local, read_part};
use crate::federation::error::FederationError;
use crate::federation::store::Carried;

/// All tensors of the network that an evaluation is of: the one that the coordinator gives away
/// afterwards, DINO's teacher where it keeps one. Nothing of the site is mixed in but the tensors
/// that the plan leaves at sites.
///
/// # Errors
/// If the bytes are not of the plan's and schema's size, or cannot be read.
pub(crate) fn scored(
    config: &Config,
    schema: &Schema,
    layout: &Layout,
    model: &mut (impl Read + Seek),
    carried: &Carried,
) -> Result<Params, FederationError> {
    check_size(layout, model)?;
    let network = if config.publishes_teacher() {
        Part::Teacher
    } else {
        Part::Weights
    };
    let weights = read_part(layout, model, network)?.unwrap_or_default();
    let statistics = read_part(layout, model, Part::Statistics)?.unwrap_or_default();
    let local = local(layout, model, carried)?;
    assemble(schema, layout, [&*weights, &statistics, &local])
}
