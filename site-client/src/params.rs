//! Where a model meets the wire: a module's tensors as [`Params`], and back.

use burn::module::Module;
use core_model::state::{self, Mismatch, NamedTensor, StateDict};
use protocol::params::{Params, SchemaError};

/// All tensors of a module, in the layout of the published checkpoints.
///
/// # Errors
/// When a name or a shape cannot go on the wire; no module of this project has such a one.
pub fn from_module<M: Module>(module: &M) -> Result<Params, SchemaError> {
    from_state(state::state_dict(module))
}

/// Puts parameters into a module of the same architecture.
///
/// # Errors
/// When a name is missing, unexpected or has another shape; all of them are listed.
pub fn into_module<M: Module>(params: &Params, module: M) -> Result<M, Mismatch> {
    state::load(module, &to_state(params))
}

/// Named tensors as parameters.
///
/// # Errors
/// When a name or a shape cannot go on the wire.
pub fn from_state(state: StateDict) -> Result<Params, SchemaError> {
    Params::from_tensors(state.into_iter().map(|(name, tensor)| {
        let shape = tensor.shape.iter().map(|&axis| axis as u64).collect();
        (name, shape, tensor.values)
    }))
}

/// Parameters as named tensors.
pub fn to_state(params: &Params) -> StateDict {
    let tensor = |(spec, values): (&protocol::params::TensorSpec, &[f32])| {
        let shape = spec.shape().iter().map(|&axis| axis as usize).collect();
        (
            spec.name().to_owned(),
            NamedTensor {
                shape,
                values: values.to_vec(),
            },
        )
    };
    params.iter().map(tensor).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use core_model::init::Init;
    use core_model::state::state_dict;
    use core_model::vit::{Vit, VitConfig, VitShape};

    use super::*;

    #[test]
    fn parameters_make_the_same_module_again() {
        let shape = VitShape {
            image: 8,
            patch: 4,
            channels: 1,
            dim: 12,
            depth: 1,
            heads: 2,
            mlp: 20,
            qkv_bias: true,
            registers: 1,
        };
        let (config, device) = (VitConfig::new(shape).unwrap(), Device::flex());
        let vit = Vit::new(&config, &mut Init::seeded(1, &device));
        let params = from_module(&vit).unwrap();
        let other = into_module(&params, Vit::new(&config, &mut Init::zeros(&device))).unwrap();
        assert_eq!(state_dict(&vit), state_dict(&other));
        let deeper = VitConfig::new(VitShape {
            depth: 2,
            ..(*config).clone()
        })
        .unwrap();
        let mismatch = into_module(&params, Vit::new(&deeper, &mut Init::zeros(&device)));
        assert!(
            mismatch
                .unwrap_err()
                .missing
                .iter()
                .all(|name| name.starts_with("blocks.1."))
        );
    }
}
