//! A module's state as named tensors, in the layout of the published checkpoints.
//!
//! Names are the field path (`blocks.0.attn.qkv.weight`). A [`Linear`](crate::layers::Linear) weight
//! is turned to PyTorch's `[output, input]`; everything else is stored as it is.

use std::collections::BTreeMap;
use std::fmt;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use thiserror::Error;

/// Values of one tensor, row-major.
#[derive(Clone, PartialEq)]
pub struct NamedTensor {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The values, `shape.iter().product()` of them.
    pub values: Vec<f32>,
}

impl fmt::Debug for NamedTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedTensor")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// Tensors by name, in the order of their names.
pub type StateDict = BTreeMap<String, NamedTensor>;

/// Why a set of tensors does not fit a module. Every list is complete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Error)]
pub struct Mismatch {
    /// Names the module has and the tensors lack.
    pub missing: Vec<String>,
    /// Names the tensors have and the module lacks.
    pub unexpected: Vec<String>,
    /// Name, shape in the module, shape given.
    pub misshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Mismatch {
    /// Whether everything fitted.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshaped.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        lines.extend(
            self.missing
                .iter()
                .map(|name| format!("missing key {name}")),
        );
        lines.extend(
            self.unexpected
                .iter()
                .map(|name| format!("unexpected key {name}")),
        );
        lines.extend(self.misshaped.iter().map(|(name, expected, found)| {
            format!("key {name}: expected shape {expected:?}, found {found:?}")
        }));
        f.write_str(&lines.join("; "))
    }
}

/// Every tensor of `module`, trained or not.
pub fn state_dict<M: Module>(module: &M) -> StateDict {
    let mut reader = Reader {
        path: Path::default(),
        state: StateDict::new(),
    };
    module.visit(&mut reader);
    reader.state
}

/// Puts `state` into `module`; what does not fit stays as it was and is reported.
pub fn load_partial<M: Module>(module: M, state: &StateDict) -> (M, Mismatch) {
    let mut writer = Writer {
        path: Path::default(),
        state,
        used: Vec::new(),
        mismatch: Mismatch::default(),
    };
    let module = module.map(&mut writer);
    let Writer {
        mut used,
        mut mismatch,
        ..
    } = writer;
    used.sort_unstable();
    mismatch.unexpected = state
        .keys()
        .filter(|name| used.binary_search(name).is_err())
        .cloned()
        .collect();
    mismatch.missing.sort_unstable();
    (module, mismatch)
}

/// Puts `state` into `module`.
///
/// # Errors
/// When a name is missing, unexpected or has another shape; all of them are listed.
pub fn load<M: Module>(module: M, state: &StateDict) -> Result<M, Mismatch> {
    match load_partial(module, state) {
        (module, mismatch) if mismatch.is_empty() => Ok(module),
        (_, mismatch) => Err(mismatch),
    }
}

/// Where a traversal stands: the names that make up a key.
#[derive(Debug, Default)]
pub(crate) struct Path(Vec<Segment>);

#[derive(Debug)]
struct Segment {
    name: String,
    /// A variant of an enum is not part of the key.
    silent: bool,
    linear: bool,
}

impl Path {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        self.0.push(Segment {
            name: name.to_owned(),
            silent: container.starts_with("Enum:"),
            linear: container == "Struct:Linear",
        });
    }

    pub(crate) fn exit(&mut self) {
        self.0.pop();
    }

    /// The key of the current tensor.
    pub(crate) fn name(&self) -> String {
        let names: Vec<&str> = self
            .0
            .iter()
            .filter(|segment| !segment.silent)
            .map(|s| s.name.as_str())
            .collect();
        names.join(".")
    }

    /// Whether the current tensor is stored transposed.
    fn transposed(&self) -> bool {
        self.0
            .last()
            .is_some_and(|segment| segment.linear && segment.name == "weight")
    }
}

struct Reader {
    path: Path,
    state: StateDict,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let mut tensor = param.val().inner();
        if self.path.transposed() {
            tensor = tensor.transpose();
        }
        self.state.insert(self.path.name(), to_host(tensor));
    }
}

struct Writer<'a> {
    path: Path,
    state: &'a StateDict,
    used: Vec<String>,
    mismatch: Mismatch,
}

impl ModuleMapper for Writer<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let Some(given) = self.state.get(&name) else {
            self.mismatch.missing.push(name);
            return param;
        };
        self.used.push(name.clone());
        let transposed = self.path.transposed();
        let mut expected = param.shape().as_slice().to_vec();
        if transposed {
            expected.reverse();
        }
        if given.shape != expected {
            self.mismatch
                .misshaped
                .push((name, expected, given.shape.clone()));
            return param;
        }
        replace(param, |old| {
            let data = TensorData::new(given.values.clone(), given.shape.clone());
            let new = Tensor::from_data(data, &old.device());
            if transposed {
                contiguous(new.transpose())
            } else {
                new
            }
        })
    }
}

/// Replaces a parameter's values, keeping its autodiff association and gradient setting.
///
/// `new` gets the old values, the only copy of them, so that it can change them in place.
pub(crate) fn replace<const D: usize>(
    param: Param<Tensor<D>>,
    new: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Param<Tensor<D>> {
    param.map(|old| {
        let (autodiff, trained) = (old.is_autodiff(), old.is_require_grad());
        let new = new(old.inner());
        if autodiff {
            Tensor::from_inner(new).set_require_grad(trained)
        } else {
            new
        }
    })
}

/// Copies a transposed view into row-major order.
fn contiguous<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let device = tensor.device();
    Tensor::from_data(tensor.into_data(), &device)
}

pub(crate) fn to_host<const D: usize>(tensor: Tensor<D>) -> NamedTensor {
    let shape = tensor.dims().to_vec();
    let values = tensor
        .into_data()
        .try_to_vec()
        .expect("every parameter is a float32 tensor");
    NamedTensor { shape, values }
}
