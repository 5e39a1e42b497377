use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use certs::VerifiedPeer;
use protocol::message::{Receipt, Subject};
use protocol::{CloseCode, Digest, Message};
use tokio::sync::{mpsc, watch};

use super::{Routes, Way, open};
use crate::pipe::Pipe;
use crate::probe;

/// Sorts what arrives on the control channel.
pub(super) struct Router {
    pub(super) peer: VerifiedPeer,
    pub(super) pipe: Arc<Pipe>,
    pub(super) routes: Arc<Routes>,
    pub(super) deliver: mpsc::Sender<Message>,
    pub(super) heard_sequence: watch::Sender<u64>,
    pub(super) set_ready: watch::Sender<bool>,
    /// Whether a probe is being answered.
    pub(super) is_probed: Arc<AtomicBool>,
}

impl Router {
    pub(super) async fn run(self, mut arriving: mpsc::Receiver<Message>) {
        while let Some(message) = arriving.recv().await {
            self.set_ready.send_replace(true);
            if !message.is_allowed_from(self.peer.role()) {
                let (message, role) = (message.name(), self.peer.role());
                tracing::warn!(peer = %self.peer.id(), message, %role, "message not allowed");
                return self.pipe.close(CloseCode::NotAllowed);
            }
            if let Message::Heartbeat(heartbeat) = message {
                self.heard_sequence.send_replace(heartbeat.sequence);
                continue;
            }
            if let Message::Probe(asked) = message {
                probe::answer(asked, &self.pipe, &self.is_probed);
                continue;
            }
            let Some(destinations) = self.destinations(&message) else {
                return self.pipe.close(CloseCode::Malformed);
            };
            let routes: Vec<_> = destinations
                .into_iter()
                .filter_map(|(way, blob)| self.routes.find(way, blob))
                .collect();
            if routes.is_empty() {
                if self.deliver.send(message).await.is_err() {
                    return;
                }
                continue;
            }
            for route in routes {
                if let Err(mpsc::error::TrySendError::Full(message)) =
                    route.messages.try_send(message.clone())
                {
                    tracing::warn!(peer = %self.peer.id(), message = message.name(), "flood");
                    return self.pipe.close(CloseCode::Malformed);
                }
            }
        }
    }

    /// Transfers that the message may belong to; `None` if its signature is false.
    fn destinations(&self, message: &Message) -> Option<Vec<(Way, Digest)>> {
        Some(match message {
            Message::Manifest(signed) => {
                let manifest = open(&self.peer, signed).ok()?;
                vec![(Way::In, manifest.blob.digest)]
            }
            Message::OutlinePage(page) => vec![(Way::In, page.blob)],
            Message::Want(want) => vec![(Way::Out, want.blob)],
            Message::Have(have) => vec![(Way::Out, have.blob)],
            Message::Resend(resend) => vec![(Way::Out, resend.blob)],
            Message::Receipt(signed) => {
                let receipt: Receipt = open(&self.peer, signed).ok()?;
                vec![(Way::Out, receipt.blob.digest)]
            }
            Message::Rejection(rejection) => match rejection.subject {
                Subject::Blob(blob) => vec![(Way::In, blob), (Way::Out, blob)],
                _ => Vec::new(),
            },
            _ => Vec::new(),
        })
    }
}
