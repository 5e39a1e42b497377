//! Tests that cross crates: one binary, one module per subject.
//!
//! | module | what it shows |
//! |---|---|
//! | `architecture` | the arrows between crates are those of docs/ARCHITECTURE.md |
//! | `authorization` | every message from every role in every state of its certificate; default deny |
//! | `kill` | `kill -9` of real processes at every index of the journal: the same model, byte for byte |
//! | `network` | what `kill` and the benchmarks share: real processes in one folder |
//! | `simulation` | a whole network on a virtual clock under seeded faults: each update counts once or not at all |

mod architecture;
mod authorization;
mod kill;
#[expect(dead_code, reason = "the benchmark uses the rest")]
mod network;
mod simulation;
