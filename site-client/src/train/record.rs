//! What a run leaves behind while it goes: checkpoints, progress, warnings.

mod checkpoint;
mod events;
mod progress;
mod stop;
mod watch;

pub(crate) use checkpoint::STATE;
pub use checkpoint::{Checkpoint, insert_part};
pub use events::EventFile;
pub use progress::Progress;
pub use stop::Stop;
pub use watch::{Alarm, Verdict, Vitals, entropies, spread};
