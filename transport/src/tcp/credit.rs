//! Credit: how many chunks may be under way over TCP.
//!
//! Both ends begin with [`INITIAL_CREDIT`], whatever their settings say, so that neither has to ask.
//! Each chunk that the receiver took is answered by one credit record; its number moves what the
//! sender may have under way to the receiver's own setting and then keeps it there. The sender
//! keeps to its own setting as well: the lower of the two holds.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Chunks that may be sent before the receiver has said anything. Part of the wire: never changes.
pub(crate) const INITIAL_CREDIT: u32 = 10;

/// What one end may send.
#[derive(Debug)]
pub(super) struct Credit {
    /// Chunks that our own setting still lets out.
    ours: Semaphore,
    window: u32,
    /// Chunks that the peer will still take.
    theirs: Semaphore,
}

/// The right to send one chunk; dropped unspent, it goes back.
#[derive(Debug)]
pub(super) struct Right<'a> {
    ours: SemaphorePermit<'a>,
    theirs: SemaphorePermit<'a>,
}

impl Credit {
    /// Allows `window` chunks under way by our own setting.
    pub(super) fn new(window: u32) -> Self {
        Self {
            ours: Semaphore::new(window as usize),
            window,
            theirs: Semaphore::new(INITIAL_CREDIT as usize),
        }
    }

    /// Waits until one more chunk may be sent; `None` never comes, for nothing closes them.
    pub(super) async fn right(&self) -> Option<Right<'_>> {
        Some(Right {
            ours: self.ours.acquire().await.ok()?,
            theirs: self.theirs.acquire().await.ok()?,
        })
    }

    /// Waits until the peer took every chunk sent so far.
    pub(super) async fn settled(&self) {
        let _ = self.ours.acquire_many(self.window).await;
    }

    /// The peer took a chunk, and takes so many more.
    ///
    /// # Errors
    /// If that is more than it may say.
    pub(super) fn granted(&self, chunks: u8) -> Result<(), &'static str> {
        if self.ours.available_permits() >= self.window as usize {
            return Err("credit for a chunk that was not sent");
        }
        let chunks = usize::from(chunks);
        if self.theirs.available_permits() + chunks > MAX_CREDIT {
            return Err("too much credit");
        }
        self.ours.add_permits(1);
        self.theirs.add_permits(chunks);
        Ok(())
    }
}

impl Right<'_> {
    /// Uses it up.
    pub(super) fn spend(self) {
        self.ours.forget();
        self.theirs.forget();
    }
}

/// What one end lets the other send.
#[derive(Debug)]
pub(super) struct Grants {
    window: u32,
    /// Chunks that the peer may have under way now.
    allowed: u32,
}

impl Grants {
    /// Lets the peer have `window` chunks under way, in the end.
    pub(super) fn new(window: u32) -> Self {
        Self {
            window,
            allowed: INITIAL_CREDIT,
        }
    }

    /// A chunk was taken: so many more may be sent.
    pub(super) fn took(&mut self) -> u8 {
        let others = self.allowed.saturating_sub(1);
        let more = u8::try_from(self.window.saturating_sub(others)).unwrap_or(u8::MAX);
        self.allowed = others + u32::from(more);
        more
    }
}

/// More credit than any window.
const MAX_CREDIT: usize = 255;

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Spends every right there is now, and counts them.
    fn spend_all(credit: &Credit) -> usize {
        std::iter::from_fn(|| credit.right().now_or_never().flatten().map(Right::spend)).count()
    }

    #[test]
    fn the_first_chunks_are_as_many_as_both_ends_know_of() {
        for (window, first) in [(4, 4), (10, 10), (40, 10)] {
            assert_eq!(spend_all(&Credit::new(window)), first);
        }
    }

    #[test]
    fn in_the_end_the_lower_setting_of_both_holds() {
        for (ours, theirs) in [(40, 3), (3, 40), (10, 10), (255, 255), (1, 1), (255, 1)] {
            let (credit, mut grants) = (Credit::new(ours), Grants::new(theirs));
            let room = theirs.max(INITIAL_CREDIT) as usize;
            let mut under_way = 0;
            for _ in 0..600 {
                under_way += spend_all(&credit);
                assert!(under_way <= room, "{under_way} of {room}");
                under_way -= 1;
                credit.granted(grants.took()).unwrap();
            }
            under_way += spend_all(&credit);
            assert_eq!(under_way, ours.min(theirs) as usize);
            assert!(credit.settled().now_or_never().is_none());
            for _ in 0..under_way {
                credit.granted(grants.took()).unwrap();
            }
            assert!(credit.settled().now_or_never().is_some());
        }
    }

    #[test]
    fn credit_that_cannot_be_is_refused() {
        let credit = Credit::new(4);
        assert!(credit.granted(1).is_err(), "nothing was sent");
        assert_eq!(spend_all(&credit), 4);
        assert!(credit.granted(250).is_err(), "256 under way");
        assert!(credit.granted(249).is_ok());
    }

    #[test]
    fn a_right_that_is_not_spent_goes_back() {
        let credit = Credit::new(1);
        drop(credit.right().now_or_never().flatten());
        assert_eq!(spend_all(&credit), 1);
    }
}
