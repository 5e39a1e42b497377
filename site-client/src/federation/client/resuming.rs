//! Interrupted work: it goes on when the site starts, whether or not the coordinator is there.

use super::Site;
use crate::federation::error::FederationError;
use crate::federation::store::SiteStore;

impl Site {
    /// Goes on with what the end of the process interrupted, by the plan that was kept. Where that
    /// is impossible the coordinator's plan is waited for.
    pub(super) async fn resume(&mut self) -> Result<(), FederationError> {
        let kept = || {
            let Some((run, store)) = SiteStore::interrupted(&self.runs())? else {
                return Ok(None);
            };
            Ok(store.plan()?.map(|text| (run, store, text)))
        };
        let (run, store, text) = match kept() {
            Ok(Some(kept)) => kept,
            Ok(None) => return Ok(()),
            Err(error) => {
                let error: FederationError = error;
                tracing::warn!(%error, "interrupted work not found");
                return Ok(());
            }
        };
        match self.look_at(&text).await {
            Ok((plan, schema)) => {
                tracing::info!(%run, "going on with interrupted work");
                self.take_up(run, plan, schema, store);
                self.act().await
            }
            Err(reason) => {
                tracing::warn!(%run, %reason, "interrupted work not gone on with");
                Ok(())
            }
        }
    }
}
