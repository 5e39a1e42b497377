//! Blobs in an object store: the copy that outlives the machine.
//!
//! ```text
//! PREFIX/ab/abcd…     the bytes of a blob, under the name of their digest
//! ```
//!
//! An object store shows an object only when all of it is there, so there is nothing to rename and
//! nothing half-written to be found. Bytes are verified against the outline as they leave the local
//! store, and against the digest as they come back: a bucket that errs makes errors, never models.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, parse_url_opts};
use protocol::Digest;
use protocol::transfer::{BlobRef, CHUNK_LEN};
use tokio::task::spawn_blocking;
use url::Url;

use crate::store::{Blob, BlobStore, Collected, StoreError};

/// A place in an object store. Clones are the same place.
#[derive(Clone, Debug)]
pub struct Bucket {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
}

/// Why a bucket does not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// Not an address of a bucket, or of a kind that this program was built without.
    #[error("bucket: address must name a place that is known here, found {found:?}")]
    Address {
        /// The address, without what may be secret in it.
        found: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object store failed.
    #[error("bucket: {what}")]
    Remote {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: object_store::Error,
    },
    /// The local store failed, or holds or got damaged bytes.
    #[error(transparent)]
    Local(#[from] StoreError),
}

impl BucketError {
    fn remote(what: &'static str) -> impl FnOnce(object_store::Error) -> Self {
        move |source| Self::Remote { what, source }
    }
}

impl Bucket {
    /// The place at an address: `s3://bucket/prefix` where the program was built with the feature
    /// `s3`. Keys and region come from `settings`, as a rule the environment's `AWS_…`; what is not
    /// known there is passed over.
    ///
    /// # Errors
    /// If the address is none, or settings are missing.
    pub fn open(
        address: &str,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, BucketError> {
        let failed = |source| {
            // User and password may stand before an `@`.
            let found = address.rsplit('@').next().unwrap_or_default().to_owned();
            BucketError::Address { found, source }
        };
        let url = Url::parse(address).map_err(|error| failed(error.into()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(failed("keys belong into the environment".into()));
        }
        let settings = settings
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value));
        let (objects, prefix) =
            parse_url_opts(&url, settings).map_err(|error| failed(error.into()))?;
        Ok(Self::new(objects.into(), prefix))
    }

    /// The place under `prefix` of an object store.
    pub fn new(objects: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { objects, prefix }
    }

    /// Copies a blob there, unless it is there.
    ///
    /// # Errors
    /// If it is damaged here, or the object store fails.
    pub async fn put(&self, blob: &Blob) -> Result<(), BucketError> {
        let BlobRef { digest, len } = blob.blob();
        if self.contains(digest).await? {
            return Ok(());
        }
        let path = self.path(digest);
        if len <= PART_LEN {
            let bytes = read(blob, 0..len).await?;
            let put = self.objects.put(&path, bytes.into()).await;
            return put.map(drop).map_err(BucketError::remote("put blob"));
        }
        let upload = self.objects.put_multipart(&path).await;
        let mut upload = upload.map_err(BucketError::remote("begin upload"))?;
        let parts = async {
            let part_len = part_len(len);
            for part in 0..len.div_ceil(part_len) {
                let start = part * part_len;
                let bytes = read(blob, start..len.min(start + part_len)).await?;
                let put = upload.put_part(bytes.into()).await;
                put.map_err(BucketError::remote("put part of blob"))?;
            }
            let done = upload.complete().await;
            done.map(drop).map_err(BucketError::remote("end upload"))
        };
        let result = parts.await;
        if result.is_err() {
            // Parts without an end cost money; if they cannot be removed, the first error counts.
            let _ = upload.abort().await;
        }
        result
    }

    /// Copies a blob from there into `store`, unless it is there, and opens it.
    ///
    /// # Errors
    /// If there is no such blob, its bytes are not what its name says, or either end fails.
    pub async fn fetch(&self, digest: Digest, store: &BlobStore) -> Result<Blob, BucketError> {
        if !store.contains(digest) {
            let get = self.objects.get(&self.path(digest)).await;
            let found = match get {
                Err(object_store::Error::NotFound { .. }) => {
                    return Err(StoreError::Missing(digest).into());
                }
                get => get.map_err(BucketError::remote("get blob"))?,
            };
            let len = found.meta.size;
            let mut bytes = found.into_stream();
            let mut writer = store.writer()?;
            while let Some(part) = bytes
                .try_next()
                .await
                .map_err(BucketError::remote("get blob"))?
            {
                writer = blocking(move || {
                    writer
                        .write_all(&part)
                        .map_err(StoreError::io("write blob"))?;
                    Ok(writer)
                })
                .await?;
            }
            blocking(move || writer.finish_as(BlobRef { digest, len })).await?;
        }
        let store = store.clone();
        Ok(blocking(move || store.blob(digest)).await?)
    }

    /// Whether there is a blob of that name.
    ///
    /// # Errors
    /// If the object store fails.
    pub async fn contains(&self, digest: Digest) -> Result<bool, BucketError> {
        match self.objects.head(&self.path(digest)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(BucketError::remote("look for blob")(source)),
        }
    }

    /// Every blob there.
    ///
    /// # Errors
    /// If the object store fails.
    pub async fn digests(&self) -> Result<BTreeSet<Digest>, BucketError> {
        let objects = self.objects().await?;
        Ok(objects.iter().filter_map(name).collect())
    }

    /// Removes every blob that nobody refers to. Objects that are not blobs stay.
    ///
    /// # Errors
    /// If the object store fails.
    pub async fn collect(&self, keep: &BTreeSet<Digest>) -> Result<Collected, BucketError> {
        let mut collected = Collected::default();
        for object in self.objects().await? {
            let Some(digest) = name(&object) else {
                continue;
            };
            if !keep.contains(&digest) {
                let deleted = self.objects.delete(&object.location).await;
                deleted.map_err(BucketError::remote("remove blob"))?;
                collected.blobs += 1;
                collected.bytes += object.size;
            }
        }
        Ok(collected)
    }

    async fn objects(&self) -> Result<Vec<ObjectMeta>, BucketError> {
        let objects = self.objects.list(Some(&self.prefix)).try_collect().await;
        objects.map_err(BucketError::remote("list blobs"))
    }

    fn path(&self, digest: Digest) -> Path {
        let name = digest.to_string();
        self.prefix.clone().join(&name[..2]).join(name)
    }
}

fn name(object: &ObjectMeta) -> Option<Digest> {
    object.location.filename()?.parse().ok()
}

async fn read(blob: &Blob, range: std::ops::Range<u64>) -> Result<Bytes, StoreError> {
    let blob = blob.clone();
    blocking(move || blob.read(range)).await.map(Bytes::from)
}

/// Runs what waits for the disk; its panic goes on here.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Bytes of a part: S3 allows 10,000 parts of 5 MiB to 5 GiB.
fn part_len(len: u64) -> u64 {
    let least = len.div_ceil(MAX_PARTS).next_multiple_of(CHUNK_LEN);
    least.max(PART_LEN)
}

const PART_LEN: u64 = 8 << 20;
const MAX_PARTS: u64 = 10_000;

#[cfg(test)]
mod tests;
