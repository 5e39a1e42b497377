//! Models and transcripts as files for others.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use protocol::layout::Part;
use protocol::params::Header;
use protocol::{Round, RunId};

use super::coordinator::blobs_path;
use super::error::ServiceError;
use super::verify::load;
use crate::aggregate::ReadAt;
use crate::blobs::Blobs;
use crate::journal::Journal;
use crate::run::Checkpoint;

/// Which network of a run that keeps two.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Network {
    /// The one that is used afterwards: DINO's teacher where the coordinator keeps one, in the
    /// student's place and under its names.
    #[default]
    Evaluated,
    /// The one that was trained, from which training can go on.
    Student,
}

/// Writes a round's model, or the run's result, as a canonical safetensors file. Tensors have the
/// names of the published checkpoints.
///
/// # Errors
/// If there is no such run or round, its model is damaged, or the file cannot be written.
pub fn export_model(
    directory: &Path,
    run: &RunId,
    round: Option<Round>,
    network: Network,
    out: &Path,
) -> Result<Checkpoint, ServiceError> {
    let journal = Journal::open_existing(directory)?;
    let active = load(&journal, run)?;
    let run_state = active.driver.run();
    let checkpoint = match round {
        None => run_state.result(),
        Some(round) => run_state
            .history()
            .iter()
            .flat_map(|record| [record.base, record.checkpoint])
            .find(|checkpoint| checkpoint.round == round)
            .ok_or_else(|| ServiceError::NoRun { run: run.clone() })?,
    };
    let path = blobs_path(directory);
    let blobs = Blobs::open_shared(path.clone()).map_err(ServiceError::io(path))?;
    let digest = checkpoint.model;
    let io = || ServiceError::io(blobs.path(digest));
    if !blobs.verify(digest).map_err(io())? {
        return Err(ServiceError::Blob { digest });
    }
    let model = blobs.read(digest).map_err(io())?;
    let header = Header::parse(&active.launch.schema)?;
    let write = || -> io::Result<()> {
        let temporary = out.with_extension("tmp");
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
        file.write_all(&header.schema().to_safetensors_header())?;
        for slot in active.layout.slots() {
            let part = match (slot.part, network) {
                (Part::Weights, Network::Evaluated) if active.config.publishes_teacher() => {
                    Part::Teacher
                }
                (part, _) => part,
            };
            let section = active
                .layout
                .model_section(part)
                .ok_or(io::ErrorKind::InvalidData)?;
            let (mut at, end) = (
                section.offset + slot.elements.start * 4,
                section.offset + slot.elements.end * 4,
            );
            let mut bytes = vec![0; 1 << 20];
            while at < end {
                let length = (end - at).min(bytes.len() as u64) as usize;
                ReadAt::read_exact_at(&model, &mut bytes[..length], at)?;
                file.write_all(&bytes[..length])?;
                at += length as u64;
            }
        }
        file.into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()?;
        fs::rename(&temporary, out)
    };
    write().map_err(ServiceError::io(out))?;
    Ok(checkpoint)
}

/// Writes what `verify` needs, and nothing secret: the journal, the root certificate and the
/// consortium file.
///
/// # Errors
/// If a file cannot be written.
pub fn export_transcript(directory: &Path, out: &Path) -> Result<(), ServiceError> {
    let journal = Journal::open_existing(directory)?;
    fs::create_dir_all(out).map_err(ServiceError::io(out))?;
    journal.backup(&out.join("journal.sqlite"))?;
    for name in ["root.pem", "consortium.fmct"] {
        fs::copy(directory.join(name), out.join(name))
            .map_err(ServiceError::io(directory.join(name)))?;
    }
    Ok(())
}
