//! The plan of a run, as its launcher wrote it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::plan::Plan;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(plan) = Plan::parse(bytes) {
        assert_eq!(plan.text(), bytes, "the digest holds for these bytes only");
        let _ = (plan.config().total_steps(), plan.config().cohort.quorum());
    }
});
