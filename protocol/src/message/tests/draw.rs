//! Messages of every kind with any values.

use super::golden::signed;
use crate::bounded::{List, Text};
use crate::encoding::Encoding;
use crate::ids::{Digest, Round};
use crate::message::*;
use crate::time::Timestamp;
use crate::transfer::{Bitmap, BlobRef, ChunkHash};

/// Values made of bytes that proptest chose; once they are used up, the smallest there are.
pub(super) struct Draw(pub(super) std::vec::IntoIter<u8>);

impl Draw {
    fn byte(&mut self) -> u8 {
        self.0.next().unwrap_or_default()
    }

    /// Of every magnitude: small numbers are written shorter.
    fn number(&mut self) -> u64 {
        let bytes = [(); 8].map(|()| self.byte());
        u64::from_le_bytes(bytes) >> (self.byte() % 64)
    }

    /// Not NaN, which equals nothing.
    fn float(&mut self) -> f64 {
        let float = f64::from_bits(self.number());
        if float.is_nan() { -0.0 } else { float }
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()].clone()
    }

    /// Short, as a rule; sometimes as long as is allowed.
    fn len(&mut self, max: usize) -> usize {
        match self.byte() {
            255 => max,
            byte => usize::from(byte % 12).min(max),
        }
    }

    fn text<const MAX: usize>(&mut self) -> Text<MAX> {
        let len = self.len(MAX);
        let chars: String = (0..len)
            .map(|_| self.one_of(&['a', ' ', 'é', '€', '𝄞']))
            .collect();
        Text::lossy(&chars)
    }

    fn list<T, const MAX: usize>(&mut self, one: fn(&mut Self) -> T) -> List<T, MAX> {
        let items = (0..self.len(MAX)).map(|_| one(self)).collect();
        List::new(items).unwrap()
    }

    fn name<Name: std::str::FromStr<Err: std::fmt::Debug>>(&mut self) -> Name {
        let len = 1 + self.len(62);
        let name: String = (0..len)
            .map(|_| self.one_of(&['a', 'z', '0', '9']))
            .collect();
        name.parse().unwrap()
    }

    fn round(&mut self) -> Round {
        Round(self.number() as u32)
    }

    fn time(&mut self) -> Timestamp {
        Timestamp(self.number())
    }

    fn digest(&mut self) -> Digest {
        Digest::new([(); Digest::LEN].map(|()| self.byte()))
    }

    fn blob(&mut self) -> BlobRef {
        BlobRef {
            digest: self.digest(),
            len: self.number(),
        }
    }

    fn bitmap(&mut self) -> Bitmap {
        let len = self.len(300) as u64;
        let mut chunks = Bitmap::empty(len);
        for chunk in 0..len {
            if self.byte() > 127 {
                chunks.insert(chunk);
            }
        }
        chunks
    }

    fn manifest(&mut self) -> Manifest {
        let facts = UpdateFacts {
            base: self.digest(),
            examples: self.number(),
            steps: self.number(),
            encoding: self.one_of(&[Encoding::F32, Encoding::Bf16, Encoding::Int8]),
        };
        let model = Content::Model {
            step: self.number(),
        };
        Manifest {
            blob: self.blob(),
            run: self.name(),
            round: self.round(),
            schema: self.digest(),
            content: self.one_of(&[model, Content::Update(facts)]),
        }
    }

    fn subject(&mut self) -> Subject {
        let all = [
            Subject::Blob(self.digest()),
            Subject::Connection,
            Subject::Metrics(self.name(), self.round()),
            Subject::Plan(self.digest()),
            Subject::Renewal,
            Subject::Task(self.name(), self.round()),
        ];
        self.one_of(&all)
    }

    fn reason(&mut self) -> Reason {
        let (found, limit, count) = (self.number(), self.number(), self.number() as u32);
        let (one, other) = (self.digest(), self.digest());
        let (first, second) = (self.round(), self.round());
        let all = [
            Reason::Busy,
            Reason::Damaged { count },
            Reason::Examples { found, limit },
            Reason::Invalid {
                defect: self.text(),
            },
            Reason::Manifest {
                defect: self.text(),
            },
            Reason::NotAllowed,
            Reason::NotAsked { phase: self.text() },
            Reason::NotInPlan,
            Reason::Policy { rule: self.text() },
            Reason::Replayed { staged: one },
            Reason::Steps { found },
            Reason::StorageFull,
            Reason::TooLarge { found, limit },
            Reason::Unknown,
            Reason::WrongBase {
                expected: one,
                found: other,
            },
            Reason::WrongRound {
                expected: first,
                found: second,
            },
            Reason::WrongSchema {
                expected: one,
                found: other,
            },
        ];
        self.one_of(&all)
    }

    fn scalar(&mut self) -> Scalar {
        Scalar {
            name: self.text(),
            value: self.float(),
            count: self.number(),
        }
    }

    fn task_metrics(&mut self) -> TaskMetrics {
        let auc = [None, Some(self.float())];
        TaskMetrics {
            task: self.text(),
            positive: self.list(|draw| draw.number() as u32),
            negative: self.list(|draw| draw.number() as u32),
            auc: self.one_of(&auc),
        }
    }

    /// Of the kind that has this tag.
    pub(super) fn message(&mut self, tag: u8) -> Message {
        let launch = Launch {
            run: self.name(),
            plan: self.digest(),
            schema: self.digest(),
            at: self.time(),
        };
        let receipt = Receipt {
            blob: self.blob(),
            stored: self.time(),
        };
        let (run, round, reason) = (self.name(), self.round(), self.text());
        let doing = [
            Doing::Waiting,
            Doing::Fetching,
            Doing::Training,
            Doing::Evaluating,
            Doing::Uploading,
        ];
        let withdrawals = [Withdrawal::Deadline, Withdrawal::Idle, Withdrawal::Stopped];
        let message: Message = match tag {
            1 => Hello {
                software: self.text(),
                consortium: self.name(),
                consortium_version: self.number(),
                time: self.time(),
            }
            .into(),
            2 => Welcome {
                software: self.text(),
                consortium_version: self.number(),
                time: self.time(),
            }
            .into(),
            3 => Heartbeat {
                sequence: self.number(),
                heard: self.number(),
            }
            .into(),
            4 => Consortium {
                file: self.list(Self::byte),
            }
            .into(),
            5 => Renew {
                request: self.list(Self::byte),
            }
            .into(),
            6 => Renewed {
                certificate: self.list(Self::byte),
            }
            .into(),
            7 => Rejection {
                subject: self.subject(),
                reason: self.reason(),
            }
            .into(),
            8 => Probe {
                bytes: self.number(),
            }
            .into(),
            16 => Plan {
                launch: signed(&launch),
                text: self.list(Self::byte),
            }
            .into(),
            17 => Join {
                run,
                plan: self.digest(),
                examples: self.number(),
            }
            .into(),
            18 => Leave { run, reason }.into(),
            19 => Task {
                run,
                round,
                plan: self.digest(),
                work: self.one_of(&[Work::Train, Work::Evaluate]),
                model: self.blob(),
                step: self.number(),
                deadline: self.time(),
            }
            .into(),
            20 => Withdraw {
                run,
                round,
                reason: self.one_of(&withdrawals),
            }
            .into(),
            21 => Failed { run, round, reason }.into(),
            22 => Status {
                run,
                round,
                doing: self.one_of(&doing),
                done: self.number(),
                total: self.number(),
            }
            .into(),
            23 => Metrics {
                run,
                round,
                model: self.digest(),
                scalars: self.list(Self::scalar),
                tasks: self.list(Self::task_metrics),
            }
            .into(),
            24 => Finish {
                run,
                round,
                model: self.blob(),
            }
            .into(),
            25 => Watch {
                follow: self.byte() > 127,
            }
            .into(),
            26 => Overview {
                json: self.list(Self::byte),
            }
            .into(),
            32 => Want {
                blob: self.digest(),
            }
            .into(),
            33 => Message::Manifest(signed(&self.manifest())),
            34 => OutlinePage {
                blob: self.digest(),
                first: self.number(),
                hashes: self.list(|draw| ChunkHash::of(draw.number(), 0, b"")),
            }
            .into(),
            35 => Have {
                blob: self.digest(),
                chunks: self.bitmap(),
            }
            .into(),
            36 => Resend {
                blob: self.digest(),
                chunk: self.number(),
            }
            .into(),
            37 => Message::Receipt(signed(&receipt)),
            _ => panic!("tag {tag}: a kind of message that is made nowhere here"),
        };
        assert_eq!(message.tag(), tag);
        message
    }
}
