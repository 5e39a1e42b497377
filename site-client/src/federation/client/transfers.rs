//! Models in, updates out: how a transfer ends, and when it is tried again.

use std::time::Duration;

use protocol::message::Reason;
use protocol::{BlobRef, Digest};
use transport::{TransferError, receive_blob};

use super::{Site, Told};
use crate::federation::error::FederationError;
use crate::federation::session::Event;

impl Site {
    pub(super) fn fetch(&mut self, digest: Digest) {
        let (Some(active), Some(link)) = (&mut self.active, self.link.clone()) else {
            return;
        };
        if active.fetching == Some(digest) {
            return;
        }
        active.fetching = Some(digest);
        let blob = BlobRef {
            digest,
            len: active.workplace.layout.model_bytes(),
        };
        let (store, tell, serial) = (self.blobs.clone(), self.tell.clone(), self.serial);
        self.tasks.spawn(async move {
            let result = receive_blob(&link, &store, blob, |_| {}).await.map(|_| ());
            let _ = tell.send(Told::Fetched(serial, digest, result)).await;
        });
    }

    pub(super) async fn fetched(
        &mut self,
        serial: u64,
        digest: Digest,
        result: Result<(), TransferError>,
    ) -> Result<(), FederationError> {
        if let Some(active) = &mut self.active
            && serial == self.serial
        {
            active.fetching = None;
        }
        match result {
            Ok(()) => self.handle(Event::Fetched(digest)).await,
            Err(error) => {
                tracing::warn!(%error, "model not fetched");
                self.try_again_later(serial, digest);
                Ok(())
            }
        }
    }

    pub(super) async fn sent(
        &mut self,
        serial: u64,
        digest: Digest,
        result: Result<(), TransferError>,
    ) -> Result<(), FederationError> {
        if let Some(active) = &mut self.active
            && serial == self.serial
        {
            active.sending = None;
        }
        match result {
            Ok(()) => self.handle(Event::Received(digest)).await,
            Err(TransferError::Rejected(reason))
                if !matches!(reason, Reason::Busy | Reason::StorageFull) =>
            {
                tracing::warn!(%reason, "update refused");
                self.handle(Event::Refused(digest, reason.to_string()))
                    .await
            }
            Err(TransferError::Store(error)) if error.is_lost() => {
                tracing::warn!(%error, "update lost: it is made again");
                self.handle(Event::Lost(digest)).await
            }
            Err(error) => {
                tracing::warn!(%error, "update not delivered");
                self.try_again_later(serial, digest);
                Ok(())
            }
        }
    }

    /// A link that ended is followed by another, on which everything is tried again. On one that
    /// lives on, nothing else would: a disk that was full has room again without telling anybody.
    fn try_again_later(&mut self, serial: u64, digest: Digest) {
        if serial != self.serial || self.link.is_none() {
            return;
        }
        let tell = self.tell.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(RETRY_AFTER).await;
            let _ = tell.send(Told::Waited(serial, digest)).await;
        });
    }
}

/// Pause before a transfer that failed is tried again on the same link.
const RETRY_AFTER: Duration = Duration::from_secs(30);
