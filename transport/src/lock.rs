//! A file that one process at a time holds, or that several hold together.

use std::fs::{File, TryLockError};
use std::io;

/// A locked file, free again when this is dropped.
#[derive(Debug)]
pub struct FileLock(File);

impl FileLock {
    /// Locks an open file.
    ///
    /// # Errors
    /// If anybody else holds it, or it cannot be locked.
    pub fn take(file: File) -> Result<Self, TryLockError> {
        file.try_lock()?;
        Ok(Self(file))
    }

    /// Locks an open file together with others that do, once nobody holds it alone.
    ///
    /// # Errors
    /// If it cannot be locked.
    pub fn take_shared(file: File) -> io::Result<Self> {
        file.lock_shared()?;
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

    #[test]
    fn a_shared_lock_is_held_by_many_and_keeps_out_whoever_wants_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::create(folder.path().join("lock")).unwrap();
        let shared = || FileLock::take_shared(open()).unwrap();
        for held in [shared(), shared()] {
            let refused = FileLock::take(open()).unwrap_err();
            assert!(matches!(refused, TryLockError::WouldBlock));
            drop(held);
        }
        FileLock::take(open()).unwrap();
    }
}
