//! Messages of the control channel: one closed enum, one tag and one set of senders for each.
//!
//! Nothing in a message says who it is from; that is the verified certificate's to say. A message
//! from a role that [`Message::is_allowed_from`] does not name is never acted on.

use crate::codec::{self, CodecError};
use crate::ids::Role;
use crate::signed::Signed;

mod rejection;
mod run;
mod session;
#[cfg(test)]
mod tests;
mod transfer;

pub use rejection::{Reason, Rejection, Subject};
pub use run::{
    Doing, Failed, Finish, Join, Launch, Leave, Metrics, Plan, Scalar, Status, Task, TaskMetrics,
    Withdraw, Withdrawal, Work,
};
pub use session::{
    Consortium, Heartbeat, Hello, MAX_CERTIFICATE_LEN, MAX_CONSORTIUM_LEN, Overview, Probe, Renew,
    Renewed, Watch, Welcome,
};
pub use transfer::{Content, Have, Manifest, OutlinePage, Receipt, Resend, UpdateFacts, Want};

macro_rules! messages {
    ($($(#[$doc:meta])* $tag:literal $name:ident($body:ty) from $($role:ident)|+;)+) => {
        /// A message of the control channel.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Message {
            $($(#[$doc])* $name($body),)+
        }

        impl Message {
            /// Every tag, with the name of its message.
            pub const TAGS: &'static [(u8, &'static str)] = &[$(($tag, stringify!($name)),)+];

            /// The number of this kind of message on the wire. Never changes.
            pub const fn tag(&self) -> u8 {
                match self {
                    $(Self::$name(_) => $tag,)+
                }
            }

            /// The name of this kind of message.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)+
                }
            }

            /// Whether a peer of that role may send it.
            pub const fn is_allowed_from(&self, role: Role) -> bool {
                match self {
                    $(Self::$name(_) => matches!(role, $(Role::$role)|+),)+
                }
            }

            pub(crate) fn encode_body(&self, frame: &mut Vec<u8>) -> Result<(), CodecError> {
                frame.extend(match self {
                    $(Self::$name(body) => codec::encode_body(body)?,)+
                });
                Ok(())
            }

            pub(crate) fn decode_body(tag: u8, body: &[u8]) -> Result<Self, CodecError> {
                match tag {
                    $($tag => codec::decode_body(body).map(Self::$name),)+
                    found => Err(CodecError::Tag { found }),
                }
            }
        }

        $(impl From<$body> for Message {
            fn from(body: $body) -> Self {
                Self::$name(body)
            }
        })+
    };
}

messages! {
    /// A member introduces itself: the first message on a connection.
    1 Hello(Hello) from Site | Observer;
    /// The coordinator's answer to a hello.
    2 Welcome(Welcome) from Coordinator;
    /// Both ends, at a fixed interval: alive.
    3 Heartbeat(Heartbeat) from Coordinator | Site | Observer;
    /// The newest consortium file.
    4 Consortium(Consortium) from Coordinator;
    /// Asks for a new certificate before the old one expires.
    5 Renew(Renew) from Site | Observer;
    /// The new certificate.
    6 Renewed(Renewed) from Coordinator;
    /// Something was refused.
    7 Rejection(Rejection) from Coordinator | Site;
    /// Asks for bulk bytes, to measure the path.
    8 Probe(Probe) from Site;

    /// A run was launched: its plan.
    16 Plan(Plan) from Coordinator;
    /// A site has approved a plan and takes part.
    17 Join(Join) from Site;
    /// A site takes no part any longer.
    18 Leave(Leave) from Site;
    /// Work for one round.
    19 Task(Task) from Coordinator;
    /// Work is no longer wanted.
    20 Withdraw(Withdraw) from Coordinator;
    /// A site cannot do its task.
    21 Failed(Failed) from Site;
    /// Where a site is in its task.
    22 Status(Status) from Site;
    /// What a site measured: aggregates, never a scan's own numbers.
    23 Metrics(Metrics) from Site;
    /// The run is over.
    24 Finish(Finish) from Coordinator;
    /// Asks for an overview of everything: it tells of each site, so no site may ask.
    25 Watch(Watch) from Observer;
    /// What `status` shows.
    26 Overview(Overview) from Coordinator;

    /// Asks for a blob, announced or not.
    32 Want(Want) from Coordinator | Site;
    /// Announces a blob and says what it is.
    33 Manifest(Signed<Manifest>) from Coordinator | Site;
    /// Hashes of a blob's chunks.
    34 OutlinePage(OutlinePage) from Coordinator | Site;
    /// Chunks of a blob that need not be sent.
    35 Have(Have) from Coordinator | Site;
    /// A chunk arrived damaged.
    36 Resend(Resend) from Coordinator | Site;
    /// A blob is complete, verified and durable.
    37 Receipt(Signed<Receipt>) from Coordinator | Site;
}
