//! Tests that cross crates: one binary, one module per subject.
//!
//! | module | what it shows |
//! |---|---|
//! | `architecture` | the arrows between crates are those of docs/ARCHITECTURE.md |
//! | `authorization` | every message from every role in every state of its certificate; default deny |

mod architecture;
mod authorization;
