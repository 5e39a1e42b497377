//! `fmct-coordinator`: founds a consortium, launches rounds, aggregates, proves what happened.

fn main() {}
