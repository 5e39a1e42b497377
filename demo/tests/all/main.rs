//! What federation computes, and the demo as a process.
//!
//! | module | what it shows |
//! |---|---|
//! | `exact` | federation computes what one machine with all scans would, where it must |
//! | `finetuning` | so it does for a classifier |
//! | `kills` | killing any process of the demo changes nothing in its model |
//! | `pooled` | averaging one step at sites with different scans is the step of all scans together |
//! | `process` | what the demo prints, writes, sends, and leaves behind |
//! | `real_input` | real scans from DICOM to the exported model's attention |
//! | `treatments` | DINO's teacher and center, optimizer moments and frozen backbones go where the plan says |
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exact;
mod finetuning;
mod harness;
mod kills;
mod pooled;
mod process;
mod real_input;
mod treatments;
