//! Messages, field by field and byte by byte.

use wincode::config::Configuration;

use crate::bounded::{List, Text};
use crate::encoding::Encoding;
use crate::ids::{Digest, Round};
use crate::message::*;
use crate::time::Timestamp;
use crate::transfer::{Bitmap, BlobRef, ChunkHash};

/// Writes fields with wincode; a struct is the tuple of its fields.
macro_rules! fields {
    ($($field:expr),* $(,)?) => {{
        let mut bytes = Vec::new();
        $(bytes.extend(
            wincode::config::serialize(&$field, Configuration::default().with_varint_encoding())
                .unwrap(),
        );)*
        bytes
    }};
}

/// A message in three forms.
pub(super) struct Golden {
    pub(super) message: Message,
    /// Its fields by wincode, an implementation of the format that is not ours.
    pub(super) fields: Vec<u8>,
    /// Hexadecimal bytes, with a remark behind `#` on each line.
    pub(super) bytes: &'static str,
}

fn golden(message: impl Into<Message>, fields: Vec<u8>, bytes: &'static str) -> Golden {
    Golden {
        message: message.into(),
        fields,
        bytes,
    }
}

pub(super) fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::lossy(text)
}

const A32: [u8; 32] = [0xaa; 32];
const B32: [u8; 32] = [0xbb; 32];
pub(super) const A: Digest = Digest::new(A32);
const B: Digest = Digest::new(B32);

pub(super) fn signed<T: crate::signed::Statement>(statement: &T) -> Signed<T> {
    Signed::new(statement, |_, _| [0x55; 64]).unwrap()
}

fn session() -> Vec<Golden> {
    vec![
        golden(
            Hello {
                software: text("fmct-site 1"),
                consortium: "headct".parse().unwrap(),
                consortium_version: 3,
                time: Timestamp(1_000),
            },
            fields!("fmct-site 1", "headct", 3_u64, 1_000_u64),
            "19000000 01 01              # length 25, version 1, tag 1
             0b 666d63742d736974652031   # software, 11 bytes
             06 686561646374             # consortium, 6 bytes
             03                          # consortium version
             fb e803                     # time: 1000 needs two bytes",
        ),
        golden(
            Welcome {
                software: text("hub"),
                consortium_version: 4,
                time: Timestamp(70_000),
            },
            fields!("hub", 4_u64, 70_000_u64),
            "0c000000 01 02              # length 12, version 1, tag 2
             03 687562                   # software
             04                          # consortium version
             fc 70110100                 # time: 70000 needs four bytes",
        ),
        golden(
            Heartbeat {
                sequence: 250,
                heard: 251,
            },
            fields!(250_u64, 251_u64),
            "06000000 01 03              # length 6, version 1, tag 3
             fa                          # sequence: 250 is the last in one byte
             fb fb00                     # heard: 251 is the first in two",
        ),
        golden(
            Consortium {
                file: List::new(vec![1, 2, 3]).unwrap(),
            },
            fields!(vec![1_u8, 2, 3]),
            "06000000 01 04              # length 6, version 1, tag 4
             03 010203                   # file",
        ),
        golden(
            Renew {
                request: List::new(vec![0x30, 0]).unwrap(),
            },
            fields!(vec![0x30_u8, 0]),
            "05000000 01 05              # length 5, version 1, tag 5
             02 3000                     # request",
        ),
        golden(
            Renewed {
                certificate: List::new(vec![0x30, 1]).unwrap(),
            },
            fields!(vec![0x30_u8, 1]),
            "05000000 01 06              # length 5, version 1, tag 6
             02 3001                     # certificate",
        ),
        golden(
            Rejection {
                subject: Subject::Blob(A),
                reason: Reason::Busy,
            },
            fields!(0_u32, A32, 0_u32),
            "24000000 01 07              # length 36, version 1, tag 7
             00                          # subject: a blob
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
             00                          # reason: busy",
        ),
        golden(
            Probe { bytes: 1 << 40 },
            fields!(1_u64 << 40),
            "0b000000 01 08              # length 11, version 1, tag 8
             fd 0000000000010000         # bytes: 2^40 needs eight bytes",
        ),
    ]
}

fn run() -> Vec<Golden> {
    let launch = Launch {
        run: "run-7".parse().unwrap(),
        plan: A,
        schema: B,
        at: Timestamp(5),
    };
    let launch_bytes = fields!("run-7", A32, B32, 5_u64);
    vec![
        golden(
            Plan {
                launch: signed(&launch),
                text: List::new(b"x=1".to_vec()).unwrap(),
            },
            fields!(launch_bytes, [0x55_u8; 64], b"x=1".to_vec()),
            "8e000000 01 10              # length 142, version 1, tag 16
             47                          # the signed statement, 71 bytes
             05 72756e2d37               # run
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa # plan
             bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb # schema
             05                          # at
             5555555555555555555555555555555555555555555555555555555555555555
             5555555555555555555555555555555555555555555555555555555555555555 # signature
             03 783d31                   # plan file",
        ),
        golden(
            Join {
                run: "run-7".parse().unwrap(),
                plan: A,
                examples: 12,
            },
            fields!("run-7", A32, 12_u64),
            "29000000 01 11              # length 41, version 1, tag 17
             05 72756e2d37               # run
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa # plan
             0c                          # examples",
        ),
        golden(
            Leave {
                run: "r".parse().unwrap(),
                reason: text("bye"),
            },
            fields!("r", "bye"),
            "08000000 01 12              # length 8, version 1, tag 18
             01 72                       # run
             03 627965                   # reason",
        ),
        golden(
            Task {
                run: "r".parse().unwrap(),
                round: Round(2),
                plan: A,
                work: Work::Evaluate,
                model: BlobRef {
                    digest: B,
                    len: 300,
                },
                step: 40,
                deadline: Timestamp(9),
            },
            fields!("r", 2_u32, A32, 1_u32, B32, 300_u64, 40_u64, 9_u64),
            "4b000000 01 13              # length 75, version 1, tag 19
             01 72                       # run
             02                          # round
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa # plan
             01                          # work: evaluate
             bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb # model
             fb 2c01                     # its length
             28                          # step
             09                          # deadline",
        ),
        golden(
            Withdraw {
                run: "r".parse().unwrap(),
                round: Round(2),
                reason: Withdrawal::Stopped,
            },
            fields!("r", 2_u32, 2_u32),
            "06000000 01 14              # length 6, version 1, tag 20
             01 72 02                    # run, round
             02                          # reason: stopped",
        ),
        golden(
            Failed {
                run: "r".parse().unwrap(),
                round: Round(2),
                reason: text("disk"),
            },
            fields!("r", 2_u32, "disk"),
            "0a000000 01 15              # length 10, version 1, tag 21
             01 72 02                    # run, round
             04 6469736b                 # reason",
        ),
        golden(
            Status {
                run: "r".parse().unwrap(),
                round: Round(2),
                doing: Doing::Training,
                done: 5,
                total: 500,
            },
            fields!("r", 2_u32, 2_u32, 5_u64, 500_u64),
            "0a000000 01 16              # length 10, version 1, tag 22
             01 72 02                    # run, round
             02                          # doing: training
             05 fb f401                  # done, total",
        ),
        golden(
            Metrics {
                run: "r".parse().unwrap(),
                round: Round(2),
                model: A,
                scalars: List::new(vec![Scalar {
                    name: text("loss"),
                    value: 1.5,
                    count: 3,
                }])
                .unwrap(),
                tasks: List::new(vec![TaskMetrics {
                    task: text("ich"),
                    positive: List::new(vec![1, 2]).unwrap(),
                    negative: List::new(vec![300]).unwrap(),
                    auc: Some(0.75),
                }])
                .unwrap(),
            },
            fields!(
                "r",
                2_u32,
                A32,
                vec![("loss".to_owned(), 1.5_f64, 3_u64)],
                vec![(
                    "ich".to_owned(),
                    vec![1_u32, 2],
                    vec![300_u32],
                    Some(0.75_f64)
                )],
            ),
            "49000000 01 17              # length 73, version 1, tag 23
             01 72 02                    # run, round
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa # model
             01                          # one scalar
             04 6c6f7373                 # its name
             000000000000f83f 03         # 1.5, over 3 examples
             01                          # one task
             03 696368                   # its name
             02 01 02                    # two bins of positives
             01 fb 2c01                  # one bin of negatives
             01 000000000000e83f         # an area, 0.75",
        ),
        golden(
            Finish {
                run: "r".parse().unwrap(),
                round: Round(9),
                model: BlobRef { digest: B, len: 4 },
            },
            fields!("r", 9_u32, B32, 4_u64),
            "26000000 01 18              # length 38, version 1, tag 24
             01 72 09                    # run, round
             bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb # model
             04                          # its length",
        ),
        golden(
            Watch { follow: true },
            fields!(true),
            "03000000 01 19              # length 3, version 1, tag 25
             01                          # follow",
        ),
        golden(
            Overview {
                json: List::new(b"{}".to_vec()).unwrap(),
            },
            fields!(b"{}".to_vec()),
            "05000000 01 1a              # length 5, version 1, tag 26
             02 7b7d                     # JSON",
        ),
    ]
}

fn transfer() -> Vec<Golden> {
    let manifest = Manifest {
        blob: BlobRef { digest: A, len: 4 },
        run: "r".parse().unwrap(),
        round: Round(2),
        schema: B,
        content: Content::Update(UpdateFacts {
            base: A,
            examples: 7,
            steps: 8,
            encoding: Encoding::Int8,
        }),
    };
    let manifest_bytes = fields!(A32, 4_u64, "r", 2_u32, B32, 1_u32, A32, 7_u64, 8_u64, 2_u32);
    let receipt = Receipt {
        blob: BlobRef { digest: A, len: 4 },
        stored: Timestamp(6),
    };
    let mut chunks = Bitmap::empty(9);
    chunks.insert(0);
    chunks.insert(8);
    vec![
        golden(
            Want { blob: A },
            fields!(A32),
            "22000000 01 20              # length 34, version 1, tag 32
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ),
        golden(
            signed(&manifest),
            fields!(manifest_bytes, [0x55_u8; 64]),
            "ab000000 01 21              # length 171, version 1, tag 33
             68                          # the signed statement, 104 bytes
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa # blob
             04                          # its length
             01 72 02                    # run, round
             bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb # schema
             01                          # content: an update
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa # of this model
             07 08 02                    # examples, steps, encoding: int8
             5555555555555555555555555555555555555555555555555555555555555555
             5555555555555555555555555555555555555555555555555555555555555555 # signature",
        ),
        golden(
            OutlinePage {
                blob: A,
                first: 0,
                hashes: List::new(vec![ChunkHash::from(B32)]).unwrap(),
            },
            fields!(A32, 0_u64, vec![B32]),
            "44000000 01 22              # length 68, version 1, tag 34
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
             00                          # first chunk
             01                          # one hash
             bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        ),
        golden(
            Have { blob: A, chunks },
            fields!(A32, 9_u64, vec![1_u8, 1]),
            "26000000 01 23              # length 38, version 1, tag 35
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
             09                          # nine chunks
             02 01 01                    # the first and the last are there",
        ),
        golden(
            Resend { blob: A, chunk: 8 },
            fields!(A32, 8_u64),
            "23000000 01 24              # length 35, version 1, tag 36
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
             08                          # chunk",
        ),
        golden(
            signed(&receipt),
            fields!(fields!(A32, 4_u64, 6_u64), [0x55_u8; 64]),
            "65000000 01 25              # length 101, version 1, tag 37
             22                          # the signed statement, 34 bytes
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
             04 06                       # length, stored
             5555555555555555555555555555555555555555555555555555555555555555
             5555555555555555555555555555555555555555555555555555555555555555 # signature",
        ),
    ]
}

pub(super) fn all() -> Vec<Golden> {
    [session(), run(), transfer()]
        .into_iter()
        .flatten()
        .collect()
}
