//! The way of a scan to the device: where it comes from, in which order, by which threads.

mod cohort;
mod draw;
mod labelled;
mod loader;
mod order;
mod phantoms;
mod source;

pub(super) use cohort::refuse_many;
pub use cohort::{CohortFiles, CohortScans};
pub use draw::Classes;
pub use labelled::{Labelled, LabelledScan};
pub use loader::Loader;
pub use order::{Order, Visit};
pub use phantoms::{PhantomScan, Phantoms, phantom_tasks, window, windows};
pub use source::{Memory, Reading, Source, Subset, Windowed, in_fraction};

/// The seed of a random stream of its own for each purpose and place in a run.
///
/// Streams are derived, never advanced: whoever asks for the same purpose and place gets the same
/// draws, on any thread, in any order, before and after a resumption.
#[must_use]
pub fn stream(seed: u64, purpose: &str, place: &[u64]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(purpose.len() as u64).to_le_bytes());
    hasher.update(purpose.as_bytes());
    for part in place {
        hasher.update(&part.to_le_bytes());
    }
    let mut start = [0; 8];
    start.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(start)
}
