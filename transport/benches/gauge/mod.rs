//! What this process took, as the kernel counts it.

use std::fs;

/// Processor seconds so far, user and system, in steps of 10 ms (`proc_pid_stat(5)`).
pub(crate) fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The name, in brackets, may hold spaces: `utime` and `stime` are the 12th and 13th after it.
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    ticks as f64 / 100.0
}

/// Lets the peak begin anew at what is resident now (`proc_pid_clear_refs(5)`).
pub(crate) fn reset_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Most bytes that were resident at once since then.
pub(crate) fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}
