//! How many strangers may be at the door, and how many of them from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many from each address that has any.
type UnderWay = Mutex<HashMap<IpAddr, usize>>;

/// Handshakes under way: bounded in all, and a quarter of it for one proven address. Somebody who
/// opens them and says no more thus keeps nobody else out.
#[derive(Clone, Debug)]
pub(super) struct Handshakes {
    all: Arc<Semaphore>,
    most: usize,
    under_way: Arc<UnderWay>,
}

/// One handshake under way, until dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    _one_of_all: OwnedSemaphorePermit,
    share: Option<(Arc<UnderWay>, IpAddr)>,
}

impl Handshakes {
    pub(super) fn new(most: u32) -> Self {
        let most = most as usize;
        Self {
            all: Arc::new(Semaphore::new(most)),
            most,
            under_way: Arc::default(),
        }
    }

    pub(super) fn are_half_taken(&self) -> bool {
        self.all.available_permits() < self.most.div_ceil(2)
    }

    /// Waits until there is room for one more from somewhere.
    pub(super) async fn room(&self) {
        // Never closed, so an error is impossible; the permit is taken in `begin`.
        let _ = self.all.acquire().await;
    }

    /// One more, from `address` if that is proven; `None` if there is no room for it.
    pub(super) fn begin(&self, address: Option<IpAddr>) -> Option<Handshake> {
        let one_of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let share = match address {
            Some(address) => {
                let mut under_way = lock(&self.under_way);
                let count = under_way.entry(address).or_insert(0);
                if *count >= self.most.div_ceil(4) {
                    return None;
                }
                *count += 1;
                Some((Arc::clone(&self.under_way), address))
            }
            None => None,
        };
        Some(Handshake {
            _one_of_all: one_of_all,
            share,
        })
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let Some((under_way, address)) = &self.share else {
            return;
        };
        let mut under_way = lock(under_way);
        if let Some(count) = under_way.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(address);
            }
        }
    }
}

fn lock(under_way: &UnderWay) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_takes_no_more_than_its_quarter() {
        let handshakes = Handshakes::new(8);
        let [crowd, other] = [[127, 0, 0, 2], [127, 0, 0, 3]].map(|ip| Some(IpAddr::from(ip)));
        let mut held: Vec<_> = (0..2).map(|_| handshakes.begin(crowd).unwrap()).collect();
        assert!(handshakes.begin(crowd).is_none());
        assert!(handshakes.begin(other).is_some());
        held.pop();
        assert!(handshakes.begin(crowd).is_some());
        drop(held);
        assert!(lock(&handshakes.under_way).is_empty());
    }

    #[test]
    fn unproven_addresses_share_what_there_is() {
        let handshakes = Handshakes::new(4);
        let held: Vec<_> = (0..4).map(|_| handshakes.begin(None).unwrap()).collect();
        assert!(handshakes.are_half_taken());
        assert!(handshakes.begin(None).is_none());
        assert!(handshakes.begin(Some([127, 0, 0, 1].into())).is_none());
        drop(held);
        assert!(!handshakes.are_half_taken());
    }
}
