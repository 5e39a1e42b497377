//! A fold that is not finite is no model, whatever its updates were: it is never published.

use protocol::layout::{Layout, Part};

use super::AggregateError;

/// Refuses values of a part, which start at element `start` of its section, unless all are finite.
/// `what` they are called in the error, for teacher, control and moments lie as the weights do.
pub(super) fn require_finite(
    layout: &Layout,
    (what, part): (&'static str, Part),
    start: u64,
    values: &[f32],
) -> Result<(), AggregateError> {
    // Without an early end, so that the common case is vectorized.
    let finite = (values.iter()).fold(true, |all, value| all & value.is_finite());
    if finite {
        return Ok(());
    }
    let bad = values.iter().position(|value| !value.is_finite());
    let at = start + bad.unwrap_or_default() as u64;
    let mut slots = layout.slots().iter().filter(|slot| slot.part == part);
    let slot = slots.find(|slot| slot.elements.contains(&at));
    Err(AggregateError::NotFinite {
        what,
        tensor: slot.map_or_else(String::new, |slot| slot.name.clone()),
        element: slot.map_or(at, |slot| at - slot.elements.start),
    })
}
