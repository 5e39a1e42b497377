//! Whether a table of features fits into memory.

use std::fs;

use crate::train::TrainError;

/// What a table of single-precision features holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) scans: usize,
    pub(super) tokens: usize,
    pub(super) dim: usize,
}

impl Shape {
    /// Size in bytes.
    fn bytes(self) -> u128 {
        [self.scans, self.tokens, self.dim, size_of::<f32>()]
            .into_iter()
            .map(|factor| factor as u128)
            .product()
    }

    /// An error if the table is larger than what is available.
    pub(super) fn require_room(self, available_bytes: u64) -> Result<(), TrainError> {
        let Self { scans, tokens, dim } = self;
        let needed = self.bytes();
        if needed <= u128::from(available_bytes) {
            return Ok(());
        }
        let advice = if tokens > 1 {
            "a linear probe keeps one token of each scan; otherwise take fewer scans or a machine \
             with more memory"
        } else {
            "take fewer scans or a machine with more memory"
        };
        Err(TrainError::data(format!(
            "frozen features: {scans} scans of {tokens} tokens of {dim} values take {}, expected at \
             most the {} of memory available: {advice}",
            gib(needed),
            gib(available_bytes.into()),
        )))
    }
}

/// Memory that the system can give, in bytes; nothing where it does not say.
pub(super) fn available_bytes() -> Option<u64> {
    available_in(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// `MemAvailable`, which counts what the page cache can give back.
fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

fn gib(bytes: u128) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All tokens of the published model for the labelled scans of the paper's site.
    const PAPER: Shape = Shape {
        scans: 10_579,
        tokens: 513,
        dim: 768,
    };

    #[test]
    fn a_table_larger_than_memory_is_refused_with_its_size_and_what_to_do() {
        let error = PAPER.require_room(8 << 30).unwrap_err().to_string();
        assert!(
            error.contains("10579 scans of 513 tokens of 768 values take 15.5 GiB")
                && error.contains("the 8.0 GiB of memory available")
                && error.contains("linear probe"),
            "{error}"
        );
        let class_tokens = Shape { tokens: 1, ..PAPER };
        class_tokens.require_room(8 << 30).unwrap();
        let error = class_tokens.require_room(1 << 20).unwrap_err().to_string();
        assert!(!error.contains("linear probe"), "{error}");
    }

    #[test]
    fn a_table_of_exactly_what_is_available_fits() {
        let bytes = 10_579 * 513 * 768 * 4;
        PAPER.require_room(bytes).unwrap();
        assert!(PAPER.require_room(bytes - 1).is_err());
    }

    #[test]
    fn available_memory_is_read_from_what_the_system_says() {
        let meminfo = "MemTotal:  9 kB\nMemFree:  1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available_in(meminfo), Some(2 << 20));
        assert_eq!(available_in("MemAvailable: many kB\n"), None);
        assert_eq!(available_in(""), None);
    }
}
