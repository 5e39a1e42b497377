//! Uploads under way: of each site one for each round. What a site has begun and then gives up for
//! another does not stay on disk.

use std::collections::BTreeMap;

use protocol::{Digest, Round, SiteId};

/// Uploads that were welcome and are neither staged nor refused: moving, or cut and to be resumed.
#[derive(Debug, Default)]
pub(super) struct Arriving(BTreeMap<SiteId, BTreeMap<Digest, Transfers>>);

/// One upload.
#[derive(Debug)]
struct Transfers {
    round: Round,
    /// How often it is moving over each link: a site that comes back may be quicker than the end of
    /// the link it had.
    links: BTreeMap<u64, u32>,
}

/// Another upload of the same site and round is moving.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Busy;

impl Arriving {
    /// Notes that an upload begins, or goes on; gives back those that its site has given up for it.
    pub(super) fn begin(
        &mut self,
        site: &SiteId,
        link: u64,
        (blob, round): (Digest, Round),
    ) -> Result<Vec<Digest>, Busy> {
        let uploads = self.0.entry(site.clone()).or_default();
        let others = uploads.iter().filter(|(other, _)| **other != blob);
        let (moving, left): (Vec<_>, Vec<_>) = others.partition(|(_, one)| !one.links.is_empty());
        if moving.iter().any(|(_, other)| other.round == round) {
            return Err(Busy);
        }
        let left: Vec<Digest> = left.into_iter().map(|(blob, _)| *blob).collect();
        for blob in &left {
            uploads.remove(blob);
        }
        let links = BTreeMap::new();
        let upload = uploads.entry(blob).or_insert(Transfers { round, links });
        upload.round = round;
        *upload.links.entry(link).or_default() += 1;
        Ok(left)
    }

    /// An upload is not moving any more over a link; it may be resumed.
    pub(super) fn end(&mut self, site: &SiteId, link: u64, blob: Digest) {
        let uploads = self.0.get_mut(site);
        if let Some(upload) = uploads.and_then(|uploads| uploads.get_mut(&blob))
            && let Some(times) = upload.links.get_mut(&link)
        {
            *times -= 1;
            if *times == 0 {
                upload.links.remove(&link);
            }
        }
    }

    /// A link has ended, and with it all that moved over it.
    pub(super) fn cut(&mut self, site: &SiteId, link: u64) {
        for upload in self.0.get_mut(site).into_iter().flatten() {
            upload.1.links.remove(&link);
        }
    }

    /// An upload was staged or refused; nothing of it is resumed.
    pub(super) fn settle(&mut self, site: &SiteId, blob: Digest) {
        if let Some(uploads) = self.0.get_mut(site) {
            uploads.retain(|other, upload| *other != blob || !upload.links.is_empty());
        }
    }

    /// Whether any site is sending a blob, or has begun to.
    pub(super) fn contains(&self, blob: Digest) -> bool {
        self.0.values().any(|uploads| uploads.contains_key(&blob))
    }

    /// All of them.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Digest> {
        self.0.values().flat_map(|uploads| uploads.keys().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> SiteId {
        name.parse().unwrap()
    }

    fn of(name: &str, round: u32) -> (Digest, Round) {
        (Digest::of(name.as_bytes()), Round(round))
    }

    #[test]
    fn a_site_sends_one_upload_for_a_round_and_others_send_theirs() {
        let mut arriving = Arriving::default();
        let (north, south) = (site("north"), site("south"));
        assert_eq!(arriving.begin(&north, 1, of("a", 1)), Ok(vec![]));
        for _ in 0..3 {
            assert_eq!(arriving.begin(&north, 1, of("b", 1)), Err(Busy));
            assert_eq!(arriving.begin(&north, 2, of("b", 1)), Err(Busy));
        }
        assert_eq!(arriving.begin(&south, 3, of("b", 1)), Ok(vec![]));
        // One that is late does not stand in the way of the next round's.
        assert_eq!(arriving.begin(&north, 1, of("c", 2)), Ok(vec![]));
        assert_eq!(arriving.blobs().count(), 3);
    }

    #[test]
    fn an_upload_is_resumed_over_another_link_and_given_up_for_another_once_it_does_not_move() {
        let mut arriving = Arriving::default();
        let north = site("north");
        let (a, b) = (of("a", 1), of("b", 1));
        arriving.begin(&north, 1, a).unwrap();
        // It is back before the end of its first link was noticed.
        assert_eq!(arriving.begin(&north, 2, a), Ok(vec![]));
        arriving.cut(&north, 1);
        assert_eq!(arriving.begin(&north, 2, b), Err(Busy));
        arriving.end(&north, 2, a.0);
        assert!(arriving.contains(a.0), "it may go on");
        assert_eq!(arriving.begin(&north, 2, b), Ok(vec![a.0]));
        assert!(!arriving.contains(a.0));
    }

    #[test]
    fn what_is_settled_is_forgotten_unless_it_moves_once_more() {
        let mut arriving = Arriving::default();
        let north = site("north");
        let a = of("a", 1);
        for _ in 0..2 {
            arriving.begin(&north, 1, a).unwrap();
        }
        arriving.end(&north, 1, a.0);
        arriving.settle(&north, a.0);
        assert!(arriving.contains(a.0));
        assert_eq!(arriving.begin(&north, 1, of("b", 1)), Err(Busy));
        arriving.end(&north, 1, a.0);
        arriving.settle(&north, a.0);
        assert!(!arriving.contains(a.0));
        // The end of what is not known changes nothing.
        arriving.end(&north, 1, a.0);
        arriving.cut(&north, 1);
    }
}
