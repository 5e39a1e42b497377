//! Disk, memory, device.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::device::DeviceChoice;

pub(super) fn examine(work: &Path, needed_bytes: u64, tell: &mut impl FnMut(Finding)) {
    tell(match free_bytes(work) {
        Ok(free) => disk(work, free, needed_bytes),
        Err(error) => Finding::bad(
            "disk",
            format!("{}: {error}", work.display()),
            "name a directory that exists and that this user may write to",
        ),
    });
    tell(
        match fs::read_to_string("/proc/meminfo")
            .ok()
            .as_deref()
            .and_then(available_bytes)
        {
            Some(available) => memory(available),
            None => Finding::skipped("memory", "this system does not tell how much there is"),
        },
    );
    tell(device(
        DeviceChoice::Cuda(0)
            .open()
            .map(drop)
            .map_err(|error| error.to_string()),
    ));
}

fn free_bytes(path: &Path) -> Result<u64, rustix::io::Errno> {
    let volume = rustix::fs::statvfs(path)?;
    Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
}

fn disk(path: &Path, free: u64, needed: u64) -> Finding {
    let detail = format!(
        "{} free in {}, {} needed",
        gib(free),
        path.display(),
        gib(needed)
    );
    if free >= needed {
        Finding::good("disk", detail)
    } else {
        Finding::bad(
            "disk",
            detail,
            format!("ask IT: a volume with {} free", gib(needed)),
        )
    }
}

/// `MemAvailable` of `/proc/meminfo`, which counts what the page cache can give back.
fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn memory(available: u64) -> Finding {
    let detail = format!("{} available", gib(available));
    if available >= MIN_MEMORY {
        Finding::good("memory", detail)
    } else {
        let ask = format!("ask IT: a machine with {} of free memory", gib(MIN_MEMORY));
        Finding::poor("memory", detail, ask)
    }
}

fn device(cuda: Result<(), String>) -> Finding {
    match cuda {
        Ok(()) => Finding::good("device", "GPU cuda:0"),
        Err(why) => Finding::poor(
            "device",
            format!("processor only ({why})"),
            "ask IT: an NVIDIA GPU and its driver, for anything larger than the small presets",
        ),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Memory below which the small preset may not train.
const MIN_MEMORY: u64 = 4 << 30;

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_own_account() {
        let meminfo = "MemTotal:       16318480 kB\nMemFree:  1 kB\nMemAvailable:    8388608 kB\n";
        assert_eq!(available_bytes(meminfo), Some(8 << 30));
        assert_eq!(available_bytes("MemTotal: 1 kB\n"), None);
        assert_eq!(available_bytes("MemAvailable: many kB\n"), None);
        assert_eq!(memory(8 << 30).outcome, Outcome::Good);
        assert_eq!(memory(1 << 30).outcome, Outcome::Poor);
    }

    #[test]
    fn full_disk_says_how_much_is_needed() {
        let finding = disk(Path::new("work"), 1 << 30, 5 << 30);
        assert_eq!(finding.outcome, Outcome::Bad);
        assert_eq!(finding.detail, "1.0 GiB free in work, 5.0 GiB needed");
        assert_eq!(
            finding.ask.as_deref(),
            Some("ask IT: a volume with 5.0 GiB free")
        );
        assert_eq!(
            disk(Path::new("work"), 5 << 30, 5 << 30).outcome,
            Outcome::Good
        );
    }

    #[test]
    fn disk_of_this_machine_has_a_size_and_a_missing_one_an_error() {
        assert!(free_bytes(Path::new("/")).is_ok());
        assert!(free_bytes(Path::new("/no/such/place")).is_err());
    }
}
