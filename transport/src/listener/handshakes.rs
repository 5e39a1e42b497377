//! How many strangers may be at the door, and how many of them from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many from each network that has any.
type UnderWay = Mutex<HashMap<IpAddr, usize>>;

/// Handshakes under way: bounded in all, a quarter of it for those whose addresses are not proven,
/// and a quarter for one network. Somebody who opens them and says no more thus keeps nobody else
/// out, at his own address and at false ones.
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

    /// Whether so many are taken that a newcomer must prove its address first.
    pub(super) fn are_for_proven(&self) -> bool {
        self.most - self.all.available_permits() >= self.share()
    }

    fn share(&self) -> usize {
        self.most.div_ceil(4)
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
                let network = network(address);
                let mut under_way = lock(&self.under_way);
                let count = under_way.entry(network).or_insert(0);
                if *count >= self.share() {
                    return None;
                }
                *count += 1;
                Some((Arc::clone(&self.under_way), network))
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
        let Some((under_way, network)) = &self.share else {
            return;
        };
        let mut under_way = lock(under_way);
        if let Some(count) = under_way.get_mut(network) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(network);
            }
        }
    }
}

/// What one party has to itself: an IPv4 address, which an IPv6 socket may show as IPv6, or the 2^64
/// addresses of an IPv6 subnet (RFC 4291, section 2.5.1).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & SUBNET).into(),
        address => address,
    }
}

fn lock(under_way: &UnderWay) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bits of an IPv6 address that name its /64.
const SUBNET: u128 = u128::MAX << 64;

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
        assert!(handshakes.are_for_proven());
        assert!(handshakes.begin(None).is_none());
        assert!(handshakes.begin(Some([127, 0, 0, 1].into())).is_none());
        drop(held);
        assert!(!handshakes.are_for_proven());
    }

    #[test]
    fn an_ipv6_subnet_is_one_address_and_the_next_one_is_another() {
        let handshakes = Handshakes::new(8);
        let begin = |address: &str| handshakes.begin(Some(address.parse().unwrap()));
        let _held = [
            begin("2001:db8:0:1::1").unwrap(),
            begin("2001:db8:0:1:ffff:ffff:ffff:ffff").unwrap(),
        ];
        assert!(begin("2001:db8:0:1:2::3").is_none());
        assert!(begin("2001:db8:0:2::1").is_some());
    }

    #[test]
    fn an_ipv4_address_counts_alone_on_an_ipv6_socket_too() {
        let handshakes = Handshakes::new(8);
        let begin = |address: &str| handshakes.begin(Some(address.parse().unwrap()));
        let _held = [
            begin("::ffff:192.0.2.1").unwrap(),
            begin("192.0.2.1").unwrap(),
        ];
        assert!(begin("::ffff:192.0.2.1").is_none());
        assert!(begin("::ffff:192.0.2.2").is_some());
    }

    #[test]
    fn a_quarter_is_for_addresses_that_are_not_proven() {
        let handshakes = Handshakes::new(8);
        let mut held = Vec::new();
        while !handshakes.are_for_proven() {
            held.push(handshakes.begin(None).unwrap());
        }
        assert_eq!(held.len(), 2);
    }
}
