//! The file form of parameters: safetensors, float32 only, tensors in canonical order.
//!
//! A [`Header`] is read from the first bytes of a file alone; it gives each tensor's place as a
//! range of bytes, so that a model larger than memory is read piece by piece. Files of other
//! writers are accepted in any tensor order, with any `__metadata__`.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::tensor::{Dtype, Metadata};

use super::{Params, Schema, SchemaError, TensorSpec};

/// Longest header accepted, in bytes. The format itself allows 100 MB.
pub const MAX_HEADER_LEN: u64 = 8 << 20;

/// Why bytes are not a file of float32 tensors.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Shorter than the header says, or than any header.
    #[error("safetensors: {found} bytes, expected at least {expected}")]
    Truncated {
        /// Bytes needed.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A header longer than [`MAX_HEADER_LEN`].
    #[error("safetensors: header of {found} bytes, expected at most {MAX_HEADER_LEN}")]
    HeaderLength {
        /// Length the file gives.
        found: u64,
    },
    /// The header is not the JSON of the format, or tensors overlap or leave gaps.
    #[error("safetensors: malformed header")]
    Header(#[source] serde_json::Error),
    /// A tensor of another dtype.
    #[error("tensor {name:?}: dtype {found}, expected F32")]
    Dtype {
        /// The tensor.
        name: String,
        /// Its dtype.
        found: String,
    },
    /// Names or shapes out of bounds.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Bytes after the last tensor.
    #[error("safetensors: {found} bytes, expected {expected}")]
    Length {
        /// Length by the header.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
}

/// What stands where in a safetensors file of float32 tensors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    schema: Schema,
    /// Byte range of each tensor in the file, in canonical order.
    ranges: Vec<Range<u64>>,
    file_len: u64,
}

impl Header {
    /// Bytes of header, its length field included, that a file starting with `prefix` has.
    ///
    /// # Errors
    /// If the header is longer than [`MAX_HEADER_LEN`].
    pub fn expected_len(prefix: [u8; 8]) -> Result<u64, FileError> {
        let found = u64::from_le_bytes(prefix);
        if found > MAX_HEADER_LEN {
            return Err(FileError::HeaderLength { found });
        }
        Ok(LENGTH_FIELD + found)
    }

    /// Reads the header at the start of `bytes`; more may follow it.
    ///
    /// # Errors
    /// If `bytes` end before the header does, it is malformed, a tensor is not float32, or names
    /// and shapes are out of bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, FileError> {
        let found = bytes.len() as u64;
        let Some(prefix) = bytes.first_chunk() else {
            return Err(FileError::Truncated {
                expected: LENGTH_FIELD,
                found,
            });
        };
        let data_start = Self::expected_len(*prefix)?;
        if found < data_start {
            return Err(FileError::Truncated {
                expected: data_start,
                found,
            });
        }
        let header = &bytes[LENGTH_FIELD as usize..data_start as usize];
        // `Metadata` refuses overlaps, gaps, and shapes that do not fill their range.
        let metadata: Metadata = serde_json::from_slice(header).map_err(FileError::Header)?;
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            if info.dtype != Dtype::F32 {
                return Err(FileError::Dtype {
                    name,
                    found: format!("{:?}", info.dtype),
                });
            }
            let shape: Vec<_> = info.shape.iter().map(|&axis| axis as u64).collect();
            let (start, end) = info.data_offsets;
            let range = data_start + start as u64..data_start + end as u64;
            tensors.insert(TensorSpec::new(name, shape)?, range);
        }
        let file_len = data_start + metadata.data_len() as u64;
        let schema = Schema::new(tensors.keys().cloned())?;
        Ok(Self {
            schema,
            ranges: tensors.into_values().collect(),
            file_len,
        })
    }

    /// Names and shapes.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Bytes of the whole file.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Byte range, in the file, of the tensor at `position` of canonical order.
    ///
    /// # Panics
    /// If there is no such position.
    pub fn byte_range(&self, position: usize) -> Range<u64> {
        self.ranges[position].clone()
    }
}

impl Schema {
    /// The canonical header of a file with this schema; the values follow as little-endian
    /// float32, tensor after tensor in canonical order.
    pub fn to_safetensors_header(&self) -> Vec<u8> {
        let tensors = self.tensors.iter().enumerate().map(|(position, spec)| {
            let range = self.range(position);
            let info = safetensors::tensor::TensorInfo {
                dtype: Dtype::F32,
                shape: spec.shape.iter().map(|&axis| axis as usize).collect(),
                data_offsets: (range.start as usize * 4, range.end as usize * 4),
            };
            (spec.name.clone(), info)
        });
        let metadata = Metadata::new(None, tensors.collect())
            .expect("a schema's tensors follow each other without gaps");
        let mut json = serde_json::to_vec(&metadata).expect("metadata has only text keys");
        json.resize(json.len().next_multiple_of(LENGTH_FIELD as usize), b' ');
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.append(&mut json);
        header
    }
}

impl Params {
    /// The file form: the same parameters always give the same bytes.
    pub fn to_safetensors(&self) -> Vec<u8> {
        let mut bytes = self.schema.to_safetensors_header();
        bytes.reserve_exact(self.values.len() * 4);
        bytes.extend(self.values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// If the header is refused (see [`Header::parse`]) or the length is not what it says.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, FileError> {
        let header = Header::parse(bytes)?;
        let found = bytes.len() as u64;
        if found != header.file_len {
            return Err(FileError::Length {
                expected: header.file_len,
                found,
            });
        }
        let mut values = Vec::with_capacity(header.schema.elements() as usize);
        for range in &header.ranges {
            let (words, _) = bytes[range.start as usize..range.end as usize].as_chunks();
            values.extend(words.iter().map(|&word| f32::from_le_bytes(word)));
        }
        Ok(Self {
            schema: header.schema,
            values,
        })
    }
}

/// Bytes of the length that stands before the header.
const LENGTH_FIELD: u64 = 8;

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use safetensors::tensor::View;

    use super::*;

    struct Tensor(Dtype, Vec<usize>, Vec<u8>);

    impl View for Tensor {
        fn dtype(&self) -> Dtype {
            self.0
        }

        fn shape(&self) -> &[usize] {
            &self.1
        }

        fn data(&self) -> Cow<'_, [u8]> {
            Cow::Borrowed(&self.2)
        }

        fn data_len(&self) -> usize {
            self.2.len()
        }
    }

    fn params() -> Params {
        Params::from_tensors([
            (
                "b.weight".to_owned(),
                vec![2, 2],
                vec![1.0, -2.0, 0.5, 1e-20],
            ),
            ("a".to_owned(), vec![3], vec![4.0, 5.0, 6.0]),
        ])
        .unwrap()
    }

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    #[test]
    fn file_is_what_the_safetensors_crate_writes() {
        let params = params();
        let tensors = params.iter().map(|(spec, values)| {
            let shape = spec.shape().iter().map(|&axis| axis as usize).collect();
            let data = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            (spec.name(), Tensor(Dtype::F32, shape, data))
        });
        assert_eq!(
            params.to_safetensors(),
            safetensors::serialize(tensors, None).unwrap()
        );
    }

    #[test]
    fn header_alone_tells_where_a_tensor_lies() {
        let bytes = params().to_safetensors();
        let len = Header::expected_len(*bytes.first_chunk().unwrap()).unwrap();
        let header = Header::parse(&bytes[..len as usize]).unwrap();
        assert_eq!(header.file_len(), bytes.len() as u64);
        let range = header.byte_range(header.schema().position("b.weight").unwrap());
        assert_eq!(bytes[range.start as usize..][..4], 1.0_f32.to_le_bytes());
        assert_eq!(range.end, bytes.len() as u64);
    }

    #[test]
    fn tensors_of_a_foreign_order_are_sorted() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "z":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
            "a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        let mut bytes = file(header, 8);
        let z = bytes.len() - 8;
        bytes[z..z + 4].copy_from_slice(&7.0_f32.to_le_bytes());
        let params = Params::from_safetensors(&bytes).unwrap();
        assert_eq!(params.values(), [0.0, 7.0]);
        assert_eq!(params.tensor("z"), Some(&[7.0][..]));
    }

    #[test]
    fn malformed_files_are_refused_with_the_rule_broken() {
        let one = |dtype, shape, end| {
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
        };
        let cases = [
            (vec![1, 2], "safetensors: 2 bytes, expected at least 8"),
            (vec![255; 8], "header of 18446744073709551615 bytes"),
            (file("{", 0), "malformed header"),
            (file(&one("F16", "[2]", 4), 4), "dtype F16, expected F32"),
            (file(&one("F32", "[2]", 4), 4), "malformed header"),
            (file(&one("F32", "[0]", 0), 0), "shape [0]"),
            (file(&one("F32", "[1]", 4), 5), "67 bytes, expected 66"),
            (file("{}", 0), "0 tensors"),
        ];
        for (bytes, message) in cases {
            let error = Params::from_safetensors(&bytes).unwrap_err().to_string();
            assert!(
                error.contains(message),
                "{error:?} does not say {message:?}"
            );
        }
        let whole = params().to_safetensors();
        for len in 0..whole.len() {
            assert!(Params::from_safetensors(&whole[..len]).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

        #[test]
        fn reading_undoes_writing(shapes in prop::collection::btree_map("[a-z.]{1,12}", prop::collection::vec(1_u64..4, 0..4), 1..6)) {
            let schema = Schema::new(
                shapes.into_iter().map(|(name, shape)| TensorSpec::new(name, shape).unwrap()),
            )
            .unwrap();
            let values = (0..schema.elements()).map(|value| value as f32 / 3.0).collect();
            let params = Params::new(schema, values).unwrap();
            prop_assert_eq!(Params::from_safetensors(&params.to_safetensors()).unwrap(), params);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(noise in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..90) {
            let mut bytes = params().to_safetensors();
            let end = (at + noise.len()).min(bytes.len());
            if at < end {
                bytes[at..end].copy_from_slice(&noise[..end - at]);
            }
            let _ = Params::from_safetensors(&bytes);
            let _ = Params::from_safetensors(&noise);
        }
    }
}
