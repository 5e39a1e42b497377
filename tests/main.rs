//! Tests that cross crates: one binary, one module per subject.
