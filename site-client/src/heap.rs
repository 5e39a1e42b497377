//! The memory of a training process.

use std::process::Command;

/// Makes a process, before it is started, keep the memory it frees.
///
/// A training step gives back what the next one asks for. Left to itself, glibc hands large pieces to
/// the system, which clears every page anew: a fifth of a step on the processor. Other allocators
/// pass over the two variables.
pub fn keep(command: &mut Command) -> &mut Command {
    command
        .env("MALLOC_MMAP_THRESHOLD_", KEPT_BYTES)
        .env("MALLOC_TRIM_THRESHOLD_", KEPT_BYTES)
}

/// More than a process frees at once.
const KEPT_BYTES: &str = "4294967296";
