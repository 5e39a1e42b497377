//! Folding one round: long work, done beside the state machine.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use protocol::layout::Layout;
use protocol::plan::Config;
use protocol::{Digest, Round, RunId, SiteId};

use super::error::ServiceError;
use super::witness::Witness;
use crate::aggregate::{Contribution, Inputs, aggregate, moments_bytes};
use crate::blobs::Blobs;
use crate::run::{Checkpoint, Update};

/// One round to be folded.
#[derive(Clone)]
pub struct FoldJob {
    pub(super) run: RunId,
    pub(super) config: Arc<Config>,
    pub(super) layout: Arc<Layout>,
    pub(super) blobs: Blobs,
    pub(super) round: Round,
    pub(super) base: Checkpoint,
    pub(super) updates: BTreeMap<SiteId, Update>,
}

/// What folding gave.
#[derive(Clone, Debug)]
pub struct Folded {
    /// The run it belongs to.
    pub run: RunId,
    /// The new model, durable.
    pub checkpoint: Checkpoint,
    /// Norm of the folded change.
    pub delta_norm: f64,
}

impl FoldJob {
    /// Folds, and stores the result durably. Doing it twice is doing it once.
    ///
    /// # Errors
    /// If a blob cannot be read or written or is not what its name says, or there are too few updates for the strategy.
    pub fn run(&self) -> Result<Folded, ServiceError> {
        let scratch = self.scratch("fold")?;
        let store = |name: &str| self.scratch(name);
        let (model_file, model_path) = scratch;
        let (moments_file, moments_path) = store("moments")?;
        let delta_norm = self.fold(&model_file, &moments_file)?;
        let commit = |file, path: &Path| {
            self.blobs
                .commit(file, path)
                .map_err(ServiceError::io(path))
        };
        let moments = self
            .has_moments()
            .then(|| commit(&moments_file, &moments_path))
            .transpose()?;
        let model = commit(&model_file, &model_path)?;
        let checkpoint = Checkpoint {
            round: self.round,
            step: self.base.step + self.config.steps_per_round(),
            model: model.digest,
            moments: moments.map(|moments| moments.digest),
        };
        Ok(Folded {
            run: self.run.clone(),
            checkpoint,
            delta_norm,
        })
    }

    /// Folds once more, and keeps nothing: digests of the model, and of the server's moments where
    /// the strategy has any.
    ///
    /// # Errors
    /// If a blob cannot be read or is not what its name says, or there are too few updates.
    pub fn rederive(&self) -> Result<(Digest, Option<Digest>), ServiceError> {
        let (model, path) = self.scratch("replay")?;
        let (moments, moments_path) = self.scratch("replay-moments")?;
        self.fold(&model, &moments)?;
        let digests = (
            digest(&path)?,
            self.has_moments()
                .then(|| digest(&moments_path))
                .transpose()?,
        );
        for path in [path, moments_path] {
            std::fs::remove_file(&path).map_err(ServiceError::io(&path))?;
        }
        Ok(digests)
    }

    /// Whether everything that is folded is here.
    pub(super) fn has_inputs(&self) -> bool {
        let updates = self.updates.values().map(|update| update.blob);
        let mut blobs = updates.chain([self.base.model]).chain(self.base.moments);
        blobs.all(|digest| self.blobs.contains(digest))
    }

    fn has_moments(&self) -> bool {
        moments_bytes(&self.config, &self.layout) > 0
    }

    /// Folds bytes that are what their names say, and no others.
    fn fold(
        &self,
        mut model: &std::fs::File,
        mut moments: &std::fs::File,
    ) -> Result<f64, ServiceError> {
        let open = |digest| {
            self.blobs
                .read(digest)
                .map_err(ServiceError::io(self.blobs.path(digest)))
        };
        // Their sections are read in turns, so they are hashed before.
        for digest in [Some(self.base.model), self.base.moments]
            .into_iter()
            .flatten()
        {
            let verified = self.blobs.verify(digest);
            self.require(digest, verified)?;
        }
        let base = open(self.base.model)?;
        let before = self.base.moments.map(open).transpose()?;
        let files: Vec<Witness<'_>> = self
            .updates
            .values()
            .map(|update| {
                Witness::open(&self.blobs, update.blob)
                    .map_err(ServiceError::io(self.blobs.path(update.blob)))
            })
            .collect::<Result<_, _>>()?;
        let contributions: Vec<Contribution<'_>> = files
            .iter()
            .zip(self.updates.values())
            .map(|(file, update)| Contribution {
                update: file,
                examples: update.examples,
                steps: update.steps,
                norm: update.norm.into(),
            })
            .collect();
        let inputs = Inputs {
            config: &self.config,
            layout: &self.layout,
            first_step: self.base.step,
            model: &base,
            moments: before.as_ref().map(|file| file as _),
            contributions: &contributions,
        };
        let folded = aggregate(&inputs, &mut model, &mut moments);
        // Damage may be why it failed: then the blob is named.
        for file in &files {
            self.require(file.digest(), file.is_whole())?;
        }
        Ok(folded?.delta_norm)
    }

    fn require(&self, digest: Digest, whole: std::io::Result<bool>) -> Result<(), ServiceError> {
        let whole = whole.map_err(ServiceError::io(self.blobs.path(digest)))?;
        whole.then_some(()).ok_or(ServiceError::Blob { digest })
    }

    fn scratch(&self, name: &str) -> Result<(std::fs::File, std::path::PathBuf), ServiceError> {
        self.blobs
            .create(name)
            .map_err(ServiceError::io(self.blobs.path(self.base.model)))
    }
}

/// BLAKE3 of what a file holds.
fn digest(path: &Path) -> Result<Digest, ServiceError> {
    let mut file = std::fs::File::open(path).map_err(ServiceError::io(path))?;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut bytes).map_err(ServiceError::io(path))?;
        if read == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&bytes[..read]);
    }
}
