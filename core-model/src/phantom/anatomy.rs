//! The healthy head: everything outside the brain, and the brain.

mod brain;
mod head;
mod ventricles;

pub(crate) use brain::{Brain, Habitus, Tissue};
pub(crate) use head::{AIR_HU, Head, Layers, Swelling};
