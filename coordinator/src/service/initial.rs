//! Launching a run: plan and first checkpoint become a journal's first event.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use certs::Identity;
use protocol::layout::{Layout, Part};
use protocol::message;
use protocol::params::Header;
use protocol::plan::Plan;
use protocol::{Digest, Round, RunId, Schema, Signed, Timestamp};

use super::error::ServiceError;
use crate::aggregate::ReadAt;
use crate::blobs::Blobs;
use crate::journal::{Journal, Launch};
use crate::run::Checkpoint;

/// A safetensors file of float32 tensors, not held in memory.
pub struct Initial {
    file: File,
    header: Header,
    digest: Digest,
}

impl Initial {
    /// Opens a file and hashes it.
    ///
    /// # Errors
    /// If it cannot be read or is not such a file.
    pub fn open(path: &Path) -> Result<Self, ServiceError> {
        let file = File::open(path).map_err(ServiceError::io(path))?;
        let mut hasher = blake3::Hasher::new();
        let mut reader = BufReader::with_capacity(1 << 20, &file);
        let mut bytes = vec![0; 1 << 20];
        loop {
            let read = reader.read(&mut bytes).map_err(ServiceError::io(path))?;
            if read == 0 {
                break;
            }
            hasher.update(&bytes[..read]);
        }
        let mut prefix = [0; 8];
        ReadAt::read_exact_at(&file, &mut prefix, 0).map_err(ServiceError::io(path))?;
        let mut bytes = vec![0; Header::expected_len(prefix)? as usize];
        ReadAt::read_exact_at(&file, &mut bytes, 0).map_err(ServiceError::io(path))?;
        let header = Header::parse(&bytes)?;
        Ok(Self {
            file,
            header,
            digest: hasher.finalize().into(),
        })
    }

    /// BLAKE3 of the file, which the plan names.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Names and shapes.
    pub fn schema(&self) -> &Schema {
        self.header.schema()
    }

    /// Writes the model's bytes as the layout orders them: the teacher starts as the weights, the
    /// control at zero.
    fn write_model(&self, layout: &Layout, out: &mut impl Write) -> std::io::Result<()> {
        for section in layout.model() {
            match section.part {
                Part::Control => copy_zeros(section.elements * 4, out)?,
                part => {
                    let source = if part == Part::Teacher {
                        Part::Weights
                    } else {
                        part
                    };
                    for (position, slot) in layout.slots().iter().enumerate() {
                        if slot.part == source {
                            self.copy_tensor(position, out)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn copy_tensor(&self, position: usize, out: &mut impl Write) -> std::io::Result<()> {
        let range = self.header.byte_range(position);
        let mut bytes = vec![0; COPY_BYTES.min(range.end - range.start) as usize];
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(COPY_BYTES) as usize;
            ReadAt::read_exact_at(&self.file, &mut bytes[..length], at)?;
            out.write_all(&bytes[..length])?;
            at += length as u64;
        }
        Ok(())
    }
}

/// Where the numbers of a schema's model lie under a plan.
pub(crate) fn layout(schema: &Schema, plan: &Plan) -> Layout {
    let tensors = schema
        .tensors()
        .iter()
        .map(|spec| (spec.name(), spec.elements()));
    Layout::new(tensors, plan.config())
}

/// Records a run: its plan, signed, and its first model.
///
/// # Errors
/// If the initial checkpoint is not the plan's, the run exists, or something cannot be written.
pub fn launch(
    journal: &mut Journal,
    blobs: &Blobs,
    identity: &Identity,
    run: &RunId,
    plan: &Plan,
    initial: &Initial,
    now: Timestamp,
) -> Result<Checkpoint, ServiceError> {
    let (expected, found) = (plan.config().initial, initial.digest());
    if expected != found {
        return Err(ServiceError::InitialDigest { expected, found });
    }
    let layout = layout(initial.schema(), plan);
    // Until the journal names it, whoever serves would take the model for one that nobody needs.
    let _held = blobs.hold().map_err(ServiceError::io("blobs"))?;
    let (mut file, path) = blobs
        .create(&format!("launch-{run}"))
        .map_err(ServiceError::io("blobs"))?;
    initial
        .write_model(&layout, &mut file)
        .map_err(ServiceError::io(&path))?;
    let model = blobs
        .commit(&file, &path)
        .map_err(ServiceError::io(&path))?
        .digest;
    let statement = message::Launch {
        run: run.clone(),
        plan: plan.digest(),
        schema: initial.schema().digest(),
        at: now,
    };
    let signed =
        Signed::new(&statement, |context, bytes| identity.sign(context, bytes)).map_err(|_| {
            ServiceError::Unsigned {
                what: "launch",
                len: plan.text().len(),
            }
        })?;
    let start = Checkpoint {
        round: Round(0),
        step: 0,
        model,
        moments: None,
    };
    let launch = Launch {
        run: run.clone(),
        plan: plan.text().to_vec(),
        signature: signed.to_bytes(),
        schema: initial.schema().to_safetensors_header(),
        at: now,
    };
    journal.launch(&launch, start)?;
    Ok(start)
}

fn copy_zeros(mut count: u64, out: &mut impl Write) -> std::io::Result<()> {
    let zeros = vec![0; COPY_BYTES as usize];
    while count > 0 {
        let length = count.min(COPY_BYTES);
        out.write_all(&zeros[..length as usize])?;
        count -= length;
    }
    Ok(())
}

const COPY_BYTES: u64 = 1 << 20;
