//! One message of every kind.

use std::collections::BTreeSet;

use certs::Identity;
use protocol::bounded::{List, Text};
use protocol::encoding::Encoding;
use protocol::message::{
    Consortium, Content, Doing, Failed, Finish, Have, Heartbeat, Hello, Join, Launch, Leave,
    Manifest, Metrics, OutlinePage, Overview, Plan, Probe, Reason, Receipt, Rejection, Renew,
    Renewed, Resend, Status, Subject, Task, UpdateFacts, Want, Watch, Welcome, Withdraw,
    Withdrawal, Work,
};
use protocol::transfer::{Bitmap, BlobRef};
use protocol::{Digest, Message, Round, RunId, Signed, Statement, Timestamp};

/// Something a site and an observer may say, and a coordinator as well.
pub(super) fn always_allowed(identity: &Identity) -> Message {
    match identity.role() {
        protocol::Role::Coordinator => Welcome {
            software: Text::lossy("test"),
            consortium_version: 1,
            time: Timestamp(1),
        }
        .into(),
        _ => Hello {
            software: Text::lossy("test"),
            consortium: "headct".parse().expect("a name"),
            consortium_version: 1,
            time: Timestamp(1),
        }
        .into(),
    }
}

/// One message of every kind, signed by `identity` where a message is signed.
pub(super) fn of_every_kind(identity: &Identity) -> Vec<Message> {
    let run: RunId = "run".parse().expect("a name");
    let round = Round(1);
    let digest = Digest::of(b"something");
    let blob = BlobRef::of(b"something");
    let text = || Text::lossy("test");
    let bytes = || vec![1, 2, 3];
    let facts = UpdateFacts {
        base: digest,
        examples: 1,
        steps: 1,
        encoding: Encoding::F32,
    };
    let manifest = Manifest {
        blob,
        run: run.clone(),
        round,
        schema: digest,
        content: Content::Update(facts),
    };
    let launch = Launch {
        run: run.clone(),
        plan: digest,
        schema: digest,
        at: Timestamp(1),
    };
    let messages = vec![
        Hello {
            software: text(),
            consortium: "headct".parse().expect("a name"),
            consortium_version: 1,
            time: Timestamp(1),
        }
        .into(),
        Welcome {
            software: text(),
            consortium_version: 1,
            time: Timestamp(1),
        }
        .into(),
        Heartbeat {
            sequence: 1,
            heard: 0,
        }
        .into(),
        Consortium {
            file: list(bytes()),
        }
        .into(),
        Renew {
            request: list(bytes()),
        }
        .into(),
        Renewed {
            certificate: list(bytes()),
        }
        .into(),
        Rejection {
            subject: Subject::Connection,
            reason: Reason::Busy,
        }
        .into(),
        Probe { bytes: 1 }.into(),
        Plan {
            launch: signed(identity, &launch),
            text: list(bytes()),
        }
        .into(),
        Join {
            run: run.clone(),
            plan: digest,
            examples: 1,
        }
        .into(),
        Leave {
            run: run.clone(),
            reason: Text::lossy("test"),
        }
        .into(),
        Task {
            run: run.clone(),
            round,
            plan: digest,
            work: Work::Train,
            model: blob,
            step: 0,
            deadline: Timestamp(1),
        }
        .into(),
        Withdraw {
            run: run.clone(),
            round,
            reason: Withdrawal::Stopped,
        }
        .into(),
        Failed {
            run: run.clone(),
            round,
            reason: Text::lossy("test"),
        }
        .into(),
        Status {
            run: run.clone(),
            round,
            doing: Doing::Waiting,
            done: 0,
            total: 1,
        }
        .into(),
        Metrics {
            run: run.clone(),
            round,
            model: digest,
            scalars: List::default(),
            tasks: List::default(),
        }
        .into(),
        Finish {
            run,
            round,
            model: blob,
        }
        .into(),
        Watch { follow: false }.into(),
        Overview {
            json: list(bytes()),
        }
        .into(),
        Want { blob: digest }.into(),
        Message::Manifest(signed(identity, &manifest)),
        OutlinePage {
            blob: digest,
            first: 0,
            hashes: List::default(),
        }
        .into(),
        Have {
            blob: digest,
            chunks: Bitmap::empty(1),
        }
        .into(),
        Resend {
            blob: digest,
            chunk: 0,
        }
        .into(),
        Message::Receipt(signed(
            identity,
            &Receipt {
                blob,
                stored: Timestamp(1),
            },
        )),
    ];
    let made: BTreeSet<u8> = messages.iter().map(Message::tag).collect();
    let known: BTreeSet<u8> = Message::TAGS.iter().map(|(tag, _)| *tag).collect();
    assert_eq!(made, known, "a kind of message is missing here");
    messages
}

fn signed<T: Statement>(identity: &Identity, statement: &T) -> Signed<T> {
    Signed::new(statement, |context, bytes| identity.sign(context, bytes)).expect("a short one")
}

fn list<const MAX: usize>(bytes: Vec<u8>) -> List<u8, MAX> {
    List::new(bytes).expect("a short one")
}
