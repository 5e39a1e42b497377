//! A file that one process at a time holds.

use std::fs::{File, TryLockError};
use std::io;

/// A locked file, free again when this is dropped.
#[derive(Debug)]
pub struct FileLock(File);

impl FileLock {
    /// Locks an open file.
    ///
    /// # Errors
    /// If another process holds it, or it cannot be locked.
    pub fn take(file: File) -> Result<Self, TryLockError> {
        file.try_lock()?;
        Ok(Self(file))
    }

    /// The file once more, for a child that is to hold it too: it stays locked as long as either
    /// lives, should this process be killed.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn share(&self) -> io::Result<File> {
        self.0.try_clone()
    }
}

impl Drop for FileLock {
    /// Closing the file would not do: a child that another thread is just starting holds a copy of
    /// every descriptor until it runs its program, and with it the lock.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "a file stays locked until this process ends");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_though_a_copy_of_the_descriptor_lives() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::create(folder.path().join("lock")).unwrap();
        let held = FileLock::take(open()).unwrap();
        let copy = held.share().unwrap();
        let refused = FileLock::take(open()).unwrap_err();
        assert!(matches!(refused, TryLockError::WouldBlock));
        drop(held);
        FileLock::take(open()).unwrap();
        drop(copy);
    }
}
