//! Preprocessed scans on disk: model input for evaluation, 1 mm head crops for training by views.
//!
//! An entry is one safetensors file. Its metadata hold a key (digest of the scan's content, the
//! preset and [`VERSION`]) and a digest of its payload; it is written beside its place and renamed,
//! so a killed run or a full disk leaves no half-written entry.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use core_model::ct::{Affine, HeadCrop, ModelInput, Preprocessing, Region};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use half::f16;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::IngestError;

/// Changes whenever the chain or the layout of an entry does.
pub const VERSION: u32 = 1;

/// Where a cohort's preprocessed scans lie.
#[derive(Debug, Clone)]
pub struct Cache {
    inputs: PathBuf,
    heads: PathBuf,
    chain: Preprocessing,
}

impl Cache {
    /// The cache of a cohort's folder for one preset, order and size.
    #[must_use]
    pub fn new(cohort: &Path, chain: Preprocessing) -> Self {
        let folder = cohort.join("cache");
        let Preprocessing {
            preset,
            order,
            size,
            ..
        } = chain;
        let inputs = folder.join(format!("input-{preset}-{order}-{size}-v{VERSION}"));
        Self {
            inputs,
            heads: folder.join(format!("head-v{VERSION}")),
            chain,
        }
    }

    /// How its inputs are made.
    #[must_use]
    pub const fn chain(&self) -> &Preprocessing {
        &self.chain
    }

    /// Makes the folders.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn create(&self) -> Result<(), IngestError> {
        for folder in [&self.inputs, &self.heads] {
            fs::create_dir_all(folder).map_err(IngestError::io("create", folder))?;
        }
        Ok(())
    }

    /// The model input of a scan, as float32 of the stored float16.
    ///
    /// # Errors
    /// An entry that is missing or corrupt.
    pub fn input(&self, scan: &str) -> Result<ModelInput, IngestError> {
        let values = self.input_f16(scan)?.into_iter().map(f16::to_f32);
        Ok(ModelInput {
            size: self.chain.size,
            values: values.collect(),
        })
    }

    /// The model input of a scan as it is stored, [3, S, S, S] row-major.
    ///
    /// # Errors
    /// An entry that is missing or corrupt.
    pub fn input_f16(&self, scan: &str) -> Result<Vec<f16>, IngestError> {
        let entry = Entry::read(&self.input_path(scan))?;
        let shape = [3, self.chain.size, self.chain.size, self.chain.size];
        let bytes = entry.tensor(INPUT, Dtype::F16, &shape)?;
        let values = bytes
            .chunks_exact(2)
            .map(|b| f16::from_le_bytes([b[0], b[1]]));
        Ok(values.collect())
    }

    /// Whether both entries of a scan exist; reading them says whether they are whole.
    #[must_use]
    pub fn has(&self, scan: &str) -> bool {
        self.input_path(scan).is_file() && self.head_path(scan).is_file()
    }

    /// The 1 mm head crop of a scan.
    ///
    /// # Errors
    /// An entry that is missing or corrupt.
    pub fn head(&self, scan: &str) -> Result<HeadCrop, IngestError> {
        let entry = Entry::read(&self.head_path(scan))?;
        let place: Place = serde_json::from_str(entry.metadata("place")?)
            .map_err(|_| entry.corrupt("its place is not readable"))?;
        let voxels = place
            .shape
            .iter()
            .try_fold(1_usize, |n, &len| n.checked_mul(len));
        let voxels = voxels
            .filter(|&n| n <= self.chain.max_voxels)
            .ok_or_else(|| entry.corrupt("it promises too many voxels"))?;
        let packed = entry.tensor(HEAD, Dtype::U8, &[entry.len(HEAD)?])?;
        let voxels = unpack(packed, voxels).ok_or_else(|| entry.corrupt("it does not inflate"))?;
        let region = Region {
            start: place.start,
            shape: place.shape,
        };
        Affine::new(place.affine)
            .and_then(|affine| HeadCrop::from_parts(region, place.full_shape, affine, voxels))
            .map_err(|source| IngestError::volume(&entry.path, source))
    }

    /// Whether both entries of a scan stand and were made from this content.
    pub(super) fn holds(&self, scan: &str, content: &blake3::Hash) -> bool {
        let current = |path: PathBuf, key: String| {
            Entry::read(&path).is_ok_and(|entry| entry.metadata("key").is_ok_and(|k| *k == *key))
        };
        current(self.input_path(scan), self.input_key(content))
            && current(self.head_path(scan), head_key(content))
    }

    /// Writes both entries of a scan.
    pub(super) fn store(
        &self,
        scan: &str,
        content: &blake3::Hash,
        input: &ModelInput,
        head: &HeadCrop,
    ) -> Result<(), IngestError> {
        let values: Vec<u8> = input
            .values
            .iter()
            .flat_map(|&x| f16::from_f32(x).to_le_bytes())
            .collect();
        let shape = [3, input.size, input.size, input.size];
        let tensor = (INPUT, Dtype::F16, &shape[..], &values[..]);
        write_entry(
            &self.input_path(scan),
            tensor,
            self.input_key(content),
            None,
        )?;

        let packed = pack(head.voxels_hu(), head.region().shape);
        let place = Place {
            start: head.region().start,
            shape: head.region().shape,
            full_shape: head.full_shape(),
            affine: head.full_affine().rows(),
        };
        let place = serde_json::to_string(&place).expect("numbers and arrays make JSON");
        let tensor = (HEAD, Dtype::U8, &[packed.len()][..], &packed[..]);
        write_entry(
            &self.head_path(scan),
            tensor,
            head_key(content),
            Some(place),
        )
    }

    fn input_key(&self, content: &blake3::Hash) -> String {
        let Preprocessing {
            preset,
            order,
            size,
            ..
        } = self.chain;
        format!("{content}-{preset}-{order}-{size}-v{VERSION}")
    }

    fn input_path(&self, scan: &str) -> PathBuf {
        self.inputs.join(format!("{scan}.safetensors"))
    }

    fn head_path(&self, scan: &str) -> PathBuf {
        self.heads.join(format!("{scan}.safetensors"))
    }
}

fn head_key(content: &blake3::Hash) -> String {
    format!("{content}-head-v{VERSION}")
}

/// Where a head crop lies in its 1 mm volume.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    start: [usize; 3],
    shape: [usize; 3],
    full_shape: [usize; 3],
    affine: [[f64; 4]; 3],
}

/// A file whose payload agrees with its digest.
struct Entry {
    path: PathBuf,
    bytes: Vec<u8>,
    metadata: HashMap<String, String>,
}

impl Entry {
    fn read(path: &Path) -> Result<Self, IngestError> {
        let bytes = fs::read(path).map_err(IngestError::io("read", path))?;
        let corrupt = |rule| IngestError::Corrupt {
            path: path.to_owned(),
            rule,
        };
        let (header_len, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|_| corrupt("it is not a safetensors file"))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let payload = &bytes[header_len + size_of::<u64>()..];
        if metadata.get("digest") != Some(&blake3::hash(payload).to_hex().to_string()) {
            return Err(corrupt("its digest does not match"));
        }
        Ok(Self {
            path: path.to_owned(),
            bytes,
            metadata,
        })
    }

    fn metadata(&self, name: &'static str) -> Result<&str, IngestError> {
        let missing = || self.corrupt("its metadata are incomplete");
        self.metadata
            .get(name)
            .map(String::as_str)
            .ok_or_else(missing)
    }

    fn len(&self, name: &str) -> Result<usize, IngestError> {
        Ok(self.view(name)?.data().len())
    }

    fn tensor(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&[u8], IngestError> {
        let view = self.view(name)?;
        if view.dtype() == dtype && view.shape() == shape {
            Ok(view.data())
        } else {
            Err(self.corrupt("its tensor has another type or shape"))
        }
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>, IngestError> {
        SafeTensors::deserialize(&self.bytes)
            .and_then(|tensors| tensors.tensor(name))
            .map_err(|_| self.corrupt("its tensor is missing"))
    }

    fn corrupt(&self, rule: &'static str) -> IngestError {
        IngestError::Corrupt {
            path: self.path.clone(),
            rule,
        }
    }
}

fn write_entry(
    path: &Path,
    (name, dtype, shape, data): (&str, Dtype, &[usize], &[u8]),
    key: String,
    place: Option<String>,
) -> Result<(), IngestError> {
    let mut metadata = HashMap::from([
        ("key".to_owned(), key),
        ("digest".to_owned(), blake3::hash(data).to_hex().to_string()),
    ]);
    metadata.extend(place.map(|place| ("place".to_owned(), place)));
    let view = TensorView::new(dtype, shape.to_vec(), data).expect("the data fill the shape");
    let bytes =
        safetensors::serialize([(name, view)], Some(metadata)).expect("one tensor serializes");
    write_whole(path, &bytes)
}

/// Writes a file so that it appears complete or not at all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), IngestError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let written = File::create(&partial)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|error| {
        // The error that matters is the first one; the remains may not even exist.
        drop(fs::remove_file(&partial));
        IngestError::io("write", path)(error)
    })
}

/// Differences along rows, high bytes apart from low ones, deflated: about half of plain deflate.
fn pack(voxels: &[i16], shape: [usize; 3]) -> Vec<u8> {
    let mut planes = vec![0; 2 * voxels.len()];
    let (low, high) = planes.split_at_mut(voxels.len());
    for (i, line) in voxels.chunks_exact(shape[2]).enumerate() {
        let mut before = 0_i16;
        for (k, &hu) in line.iter().enumerate() {
            let [l, h] = hu.wrapping_sub(before).to_le_bytes();
            (low[i * shape[2] + k], high[i * shape[2] + k]) = (l, h);
            before = hu;
        }
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder
        .write_all(&planes)
        .expect("writing to memory does not fail");
    let mut packed = encoder.finish().expect("writing to memory does not fail");
    packed.extend_from_slice(&(shape[2] as u64).to_le_bytes());
    packed
}

fn unpack(packed: &[u8], voxels: usize) -> Option<Vec<i16>> {
    let (packed, row) = packed.split_last_chunk::<8>()?;
    let row = usize::try_from(u64::from_le_bytes(*row))
        .ok()
        .filter(|&row| row > 0)?;
    let mut planes = Vec::with_capacity(2 * voxels);
    ZlibDecoder::new(packed)
        .take(2 * voxels as u64 + 1)
        .read_to_end(&mut planes)
        .ok()?;
    if planes.len() != 2 * voxels {
        return None;
    }
    let (low, high) = planes.split_at(voxels);
    let mut out = Vec::with_capacity(voxels);
    for (low, high) in low.chunks(row).zip(high.chunks(row)) {
        let mut hu = 0_i16;
        for (&l, &h) in low.iter().zip(high) {
            hu = hu.wrapping_add(i16::from_le_bytes([l, h]));
            out.push(hu);
        }
    }
    Some(out)
}

const INPUT: &str = "volume";
const HEAD: &str = "head_deflated";

#[cfg(test)]
mod tests {
    use core_model::ct::{Preset, Volume};

    use super::*;

    fn entry() -> (tempfile::TempDir, Cache, ModelInput, HeadCrop) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(
            folder.path(),
            Preprocessing {
                size: 4,
                ..Preprocessing::new(Preset::Repo)
            },
        );
        cache.create().unwrap();
        let voxels = (0..12 * 11 * 10)
            .map(|i| ((i * 37) % 3000) as f32 - 1000.0)
            .collect();
        let volume = Volume::new(
            [12, 11, 10],
            Affine::scaled([1.0; 3], [0.0; 3]).unwrap(),
            voxels,
        )
        .unwrap();
        let input = cache.chain().model_input(&volume);
        let head = HeadCrop::new(&volume).unwrap();
        cache
            .store("s1", &blake3::hash(b"scan"), &input, &head)
            .unwrap();
        (folder, cache, input, head)
    }

    #[test]
    fn an_entry_reads_back_head_exact_and_input_within_half_precision() {
        let (_folder, cache, input, head) = entry();
        assert_eq!(cache.head("s1").unwrap(), head);
        for (a, b) in cache.input("s1").unwrap().values.iter().zip(&input.values) {
            assert!((a - b).abs() <= 5e-4, "{a} is not {b}");
        }
        assert!(cache.holds("s1", &blake3::hash(b"scan")));
        assert!(!cache.holds("s1", &blake3::hash(b"another scan")));
    }

    #[test]
    fn a_changed_byte_is_found_and_named() {
        let (_folder, cache, ..) = entry();
        let path = cache.head_path("s1");
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 20;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = cache.head("s1").unwrap_err();
        assert!(matches!(
            error,
            IngestError::Corrupt {
                rule: "its digest does not match",
                ..
            }
        ));
        assert!(!cache.holds("s1", &blake3::hash(b"scan")));
        fs::write(&path, b"short").unwrap();
        assert!(matches!(cache.head("s1"), Err(IngestError::Corrupt { .. })));
    }
}
