//! Parameters: named float32 tensors in canonical order, and the schema they follow.
//!
//! Canonical order is by name, bytewise; it is also the order of a safetensors file of float32
//! tensors, so the same parameters always make the same file and so the same digest. The schema
//! digest tells two models apart by tensor names and shapes, without a look at a single value.

use std::fmt;
use std::ops::Range;

use crate::ids::Digest;

mod file;

pub use file::{FileError, Header, MAX_HEADER_LEN};

/// Longest tensor name, in bytes.
pub const MAX_TENSOR_NAME_LEN: usize = 255;
/// Most axes of a tensor.
pub const MAX_RANK: usize = 8;
/// Most tensors of a schema.
pub const MAX_TENSORS: usize = 16_384;
/// Most elements of a schema: 256 GiB of float32.
pub const MAX_ELEMENTS: u64 = 1 << 36;

/// Why tensors do not make a schema, or values do not fit one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SchemaError {
    /// No tensors, or more than [`MAX_TENSORS`].
    #[error("schema: {found} tensors, expected 1 to {MAX_TENSORS}")]
    Count {
        /// Tensors found.
        found: usize,
    },
    /// Empty, too long, or with characters other than visible ASCII.
    #[error("tensor {name:?}: a name is 1 to {MAX_TENSOR_NAME_LEN} visible ASCII characters")]
    Name {
        /// The name found.
        name: String,
    },
    /// Two tensors of one name.
    #[error("tensor {name:?}: named twice")]
    Duplicate {
        /// The name found twice.
        name: String,
    },
    /// Too many axes, an empty axis, or too many elements.
    #[error("tensor {name:?}: shape {shape:?}, expected at most {MAX_RANK} axes, none empty")]
    Shape {
        /// The tensor.
        name: String,
        /// The shape found.
        shape: Vec<u64>,
    },
    /// More than [`MAX_ELEMENTS`] in all.
    #[error("schema: more than {MAX_ELEMENTS} elements")]
    Elements,
    /// Values whose count is not that of the schema.
    #[error("parameters: {found} values, expected {expected}")]
    Values {
        /// Elements of the schema.
        expected: u64,
        /// Values found.
        found: u64,
    },
}

/// Name and shape of one tensor. Its values are float32.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct TensorSpec {
    name: String,
    shape: Vec<u64>,
    elements: u64,
}

impl TensorSpec {
    /// Checks name and shape. A shape without axes is a scalar.
    ///
    /// # Errors
    /// If the name or the shape is out of bounds.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<u64>>) -> Result<Self, SchemaError> {
        let (name, shape) = (name.into(), shape.into());
        let visible = name.bytes().all(|byte| byte.is_ascii_graphic());
        if name.is_empty() || name.len() > MAX_TENSOR_NAME_LEN || !visible {
            return Err(SchemaError::Name { name });
        }
        let elements = shape
            .iter()
            .try_fold(1_u64, |product, &axis| product.checked_mul(axis))
            .filter(|&elements| (1..=MAX_ELEMENTS).contains(&elements));
        match elements {
            Some(elements) if shape.len() <= MAX_RANK => Ok(Self {
                name,
                shape,
                elements,
            }),
            _ => Err(SchemaError::Shape { name, shape }),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length of each axis, slowest first.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Product of the shape.
    pub fn elements(&self) -> u64 {
        self.elements
    }
}

/// Names and shapes of a model's tensors, in canonical order.
#[derive(Clone, Eq, PartialEq)]
pub struct Schema {
    tensors: Vec<TensorSpec>,
    /// First element of each tensor, and the end of the last.
    starts: Vec<u64>,
}

impl Schema {
    /// Sorts tensors into canonical order.
    ///
    /// # Errors
    /// If there are none or too many, a name comes twice, or the sum of elements is out of bounds.
    pub fn new(tensors: impl IntoIterator<Item = TensorSpec>) -> Result<Self, SchemaError> {
        let mut tensors: Vec<_> = tensors.into_iter().collect();
        if tensors.is_empty() || tensors.len() > MAX_TENSORS {
            return Err(SchemaError::Count {
                found: tensors.len(),
            });
        }
        tensors.sort();
        if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(SchemaError::Duplicate {
                name: pair[0].name.clone(),
            });
        }
        let mut starts = vec![0];
        let mut end = 0_u64;
        for tensor in &tensors {
            end = end.saturating_add(tensor.elements);
            starts.push(end);
        }
        if end > MAX_ELEMENTS {
            return Err(SchemaError::Elements);
        }
        Ok(Self { tensors, starts })
    }

    /// The tensors, in canonical order.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Elements of all tensors.
    pub fn elements(&self) -> u64 {
        self.starts[self.tensors.len()]
    }

    /// Place of a tensor's elements among all, by its position in canonical order.
    ///
    /// # Panics
    /// If there is no such position.
    pub fn range(&self, position: usize) -> Range<u64> {
        self.starts[position]..self.starts[position + 1]
    }

    /// Position of a tensor in canonical order, by name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.tensors
            .binary_search_by(|tensor| tensor.name.as_str().cmp(name))
            .ok()
    }

    /// Digest of names, shapes and dtype: equal for exactly the models that can be averaged.
    pub fn digest(&self) -> Digest {
        Digest::derived(SCHEMA_CONTEXT, &self.canonical_bytes())
    }

    /// `count`, then for each tensor `name length, name, dtype, rank, shape`; integers as
    /// little-endian u64, dtype as the text `F32`.
    fn canonical_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let push = |value: u64, bytes: &mut Vec<u8>| bytes.extend(value.to_le_bytes());
        push(self.tensors.len() as u64, &mut bytes);
        for tensor in &self.tensors {
            push(tensor.name.len() as u64, &mut bytes);
            bytes.extend(tensor.name.as_bytes());
            bytes.extend(b"F32");
            push(tensor.shape.len() as u64, &mut bytes);
            for &axis in &tensor.shape {
                push(axis, &mut bytes);
            }
        }
        bytes
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("tensors", &self.tensors.len())
            .field("elements", &self.elements())
            .field("digest", &self.digest())
            .finish()
    }
}

/// Values of a model's tensors, one after the other in canonical order.
#[derive(Clone, PartialEq)]
pub struct Params {
    schema: Schema,
    values: Vec<f32>,
}

impl Params {
    /// Joins a schema and its values.
    ///
    /// # Errors
    /// If the number of values is not that of the schema's elements.
    pub fn new(schema: Schema, values: Vec<f32>) -> Result<Self, SchemaError> {
        let (expected, found) = (schema.elements(), values.len() as u64);
        if expected != found {
            return Err(SchemaError::Values { expected, found });
        }
        Ok(Self { schema, values })
    }

    /// Sorts named tensors, given as name, shape and row-major values, into canonical order.
    ///
    /// # Errors
    /// If they make no schema, or a tensor's values do not fill its shape.
    pub fn from_tensors(
        tensors: impl IntoIterator<Item = (String, Vec<u64>, Vec<f32>)>,
    ) -> Result<Self, SchemaError> {
        let mut parts = Vec::new();
        for (name, shape, values) in tensors {
            let spec = TensorSpec::new(name, shape)?;
            if spec.elements != values.len() as u64 {
                let (expected, found) = (spec.elements, values.len() as u64);
                return Err(SchemaError::Values { expected, found });
            }
            parts.push((spec, values));
        }
        parts.sort_by(|(left, _), (right, _)| left.cmp(right));
        let schema = Schema::new(parts.iter().map(|(spec, _)| spec.clone()))?;
        Self::new(
            schema,
            parts.into_iter().flat_map(|(_, values)| values).collect(),
        )
    }

    /// Zeros.
    ///
    /// # Errors
    /// If this machine cannot address as many values.
    pub fn zeros(schema: Schema) -> Result<Self, SchemaError> {
        let elements = usize::try_from(schema.elements()).map_err(|_| SchemaError::Elements)?;
        Ok(Self {
            schema,
            values: vec![0.0; elements],
        })
    }

    /// Names and shapes.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// All values, in canonical order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, in canonical order, to change in place.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// One tensor's values, row-major.
    pub fn tensor(&self, name: &str) -> Option<&[f32]> {
        self.schema
            .position(name)
            .map(|position| self.slice(position))
    }

    /// Each tensor with its values, in canonical order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&TensorSpec, &[f32])> {
        let with_values = |(position, spec)| (spec, self.slice(position));
        self.schema.tensors.iter().enumerate().map(with_values)
    }

    /// Schema and values, apart.
    pub fn into_parts(self) -> (Schema, Vec<f32>) {
        (self.schema, self.values)
    }

    fn slice(&self, position: usize) -> &[f32] {
        let range = self.schema.range(position);
        // Within `values`, whose length fits usize.
        &self.values[range.start as usize..range.end as usize]
    }
}

/// Shape only: parameters never reach a log.
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Params").field(&self.schema).finish()
    }
}

const SCHEMA_CONTEXT: &str = "fmct 2026-11 parameter schema v1";

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, shape: &[u64]) -> TensorSpec {
        TensorSpec::new(name, shape).unwrap()
    }

    #[test]
    fn schema_digest_ignores_the_order_given_and_nothing_else() {
        let (a, b) = (spec("a", &[2, 3]), spec("b", &[4]));
        let digest = Schema::new([a.clone(), b.clone()]).unwrap().digest();
        assert_eq!(
            Schema::new([b.clone(), a.clone()]).unwrap().digest(),
            digest
        );
        for other in [
            vec![a.clone()],
            vec![spec("a", &[3, 2]), b.clone()],
            vec![spec("a", &[6]), b.clone()],
            vec![spec("c", &[2, 3]), b],
            vec![a, spec("b", &[4, 1])],
        ] {
            assert_ne!(Schema::new(other).unwrap().digest(), digest);
        }
    }

    #[test]
    fn schema_digest_never_changes() {
        let schema = Schema::new([spec("head.weight", &[2, 3]), spec("scale", &[])]).unwrap();
        assert_eq!(schema.digest().to_string(), GOLDEN);
    }

    #[test]
    fn out_of_bounds_is_refused() {
        assert_eq!(Schema::new([]), Err(SchemaError::Count { found: 0 }));
        let twice = Schema::new([spec("a", &[1]), spec("a", &[2])]);
        assert_eq!(
            twice,
            Err(SchemaError::Duplicate {
                name: "a".to_owned()
            })
        );
        for name in ["", "a b", "ä", "line\n", &"x".repeat(256)] {
            assert!(matches!(
                TensorSpec::new(name, [1]),
                Err(SchemaError::Name { .. })
            ));
        }
        for shape in [
            vec![0],
            vec![1; 9],
            vec![u64::MAX, 2],
            vec![MAX_ELEMENTS + 1],
        ] {
            assert!(matches!(
                TensorSpec::new("a", shape),
                Err(SchemaError::Shape { .. })
            ));
        }
        let huge = Schema::new([spec("a", &[MAX_ELEMENTS]), spec("b", &[1])]);
        assert_eq!(huge, Err(SchemaError::Elements));
    }

    #[test]
    fn tensors_are_found_by_name_in_canonical_order() {
        let params = Params::from_tensors([
            ("z".to_owned(), vec![1], vec![9.0]),
            ("a.b".to_owned(), vec![1, 2], vec![1.0, 2.0]),
            ("a".to_owned(), vec![], vec![0.5]),
        ])
        .unwrap();
        assert_eq!(params.values(), [0.5, 1.0, 2.0, 9.0]);
        assert_eq!(params.tensor("a.b"), Some(&[1.0, 2.0][..]));
        assert_eq!(params.tensor("b"), None);
        let names: Vec<_> = params.iter().map(|(spec, _)| spec.name()).collect();
        assert_eq!(names, ["a", "a.b", "z"]);
    }

    #[test]
    fn debug_shows_no_values() {
        let params = Params::from_tensors([("a".to_owned(), vec![1], vec![1234.5])]).unwrap();
        assert!(!format!("{params:?}").contains("1234"));
    }

    const GOLDEN: &str = "1b9629d24108dee3e05ed7c5b9e01bd5813151eb5c03e8062b0139ff02c30359";
}
