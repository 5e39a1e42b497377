//! The token of the status page, in a file.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};

/// The token in the first line of a file that nobody else can read.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let failed = || format!("failed to read {}", path.display());
    let file = File::open(path).with_context(failed)?;
    let mode = file.metadata().with_context(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 && mode != MOUNTED {
        bail!(
            "{}: mode {mode:04o}, expected 0600 (chmod 600)",
            path.display()
        );
    }
    let text = std::io::read_to_string(file).with_context(failed)?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < MIN_TOKEN {
        bail!(
            "{}: token must have at least {MIN_TOKEN} characters",
            path.display()
        );
    }
    Ok(token.to_owned())
}

const MIN_TOKEN: usize = 16;
/// Kubernetes mounts a secret as root's, for the pod to read through a group of its own.
const MOUNTED: u32 = 0o440;

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};

    use super::*;

    #[test]
    fn token_is_read_from_a_file_that_nobody_else_can_read_and_from_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, "0123456789abcdef\nand a remark\n").unwrap();
        for (mode, is_read) in [
            (0o600, true),
            (0o400, true),
            (MOUNTED, true),
            (0o640, false),
            (0o604, false),
            (0o644, false),
            (0o444, false),
            (0o620, false),
        ] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match read(&path) {
                Ok(token) => assert!(is_read && token == "0123456789abcdef", "{mode:o}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(
                        !is_read && text.contains(&format!("mode {mode:04o}")),
                        "{text}"
                    );
                    assert!(text.contains("token:") && !text.contains("0123"), "{text}");
                }
            }
        }
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        write(&path, "\n0123456789abcdef\n").unwrap();
        assert!(read(&path).is_err(), "not on the first line");
    }
}
