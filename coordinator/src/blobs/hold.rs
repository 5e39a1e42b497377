//! A hold on the blobs of a directory, over processes.

use std::fs::File;
use std::io;

/// While this lives, no blob is removed. Any number may be held at once.
#[derive(Debug)]
pub struct Hold(File);

impl Hold {
    /// Waits while somebody removes blobs.
    pub(super) fn take(file: File) -> io::Result<Self> {
        file.lock_shared()?;
        Ok(Self(file))
    }
}

impl Drop for Hold {
    /// Closing the file would not do while a child that is just starting has a copy of it.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "blobs stay held until this process ends");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::blobs::Blobs;

    #[test]
    fn blobs_are_held_by_many_or_cleared_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = || Blobs::open_shared(folder.path().to_owned()).unwrap();
        let holds = [blobs().hold().unwrap(), blobs().hold().unwrap()];
        for hold in holds {
            assert!(blobs().clear().unwrap().is_none());
            drop(hold);
        }
        let cleared = blobs().clear().unwrap().unwrap();
        assert!(blobs().clear().unwrap().is_none());
        drop(cleared);
        blobs().hold().unwrap();
    }
}
