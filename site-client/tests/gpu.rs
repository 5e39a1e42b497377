//! The GPU computes what the processor computes: run where there is one, with
//! `cargo test --release -p site-client --features cuda --test gpu`.

#![cfg(feature = "cuda")]

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use core_model::adamw::{AdamW, AdamWConfig, Rate};
use core_model::gradients::Gradients;
use core_model::init::Init;
use core_model::vit::{Vit, VitConfig};
use site_client::device::DeviceChoice;

/// Largest difference, as a share of the largest value: some ten roundings of float32 in sums of a
/// thousand terms, taken in another order.
const TOLERANCE: f32 = 1e-4;

#[test]
fn tokens_gradients_and_a_step_are_those_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    let cpu = run(&DeviceChoice::Cpu.open().expect("always there"));
    let gpu = run(&gpu);
    assert_eq!(cpu.len(), gpu.len());
    for (name, expected) in &cpu {
        let found = &gpu[name];
        let largest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let difference = expected
            .iter()
            .zip(found)
            .fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        println!("{name}: largest {largest:e}, difference {difference:e}");
        assert!(
            difference <= TOLERANCE * largest,
            "{name}: difference {difference:e} of values up to {largest:e}"
        );
    }
}

/// The first GPU; nothing, and a line that says so, where there is none.
fn gpu() -> Option<Device> {
    match DeviceChoice::Cuda(0).open() {
        Ok(device) => Some(device),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// Tokens, every gradient, and every parameter after a step, by name.
fn run(device: &Device) -> BTreeMap<String, Vec<f32>> {
    let config = VitConfig::vit_tiny().with_qkv_bias().with_registers(4);
    let vit = Vit::new(&config, &mut Init::seeded(7, &device.clone().autodiff()));
    let side = config.image;
    let values: Vec<f32> = (0..2 * 3 * side.pow(3))
        .map(|i| (i as f32 * 0.37).sin().abs())
        .collect();
    let volume = TensorData::new(values, [2, 3, side, side, side]);
    let volume = Tensor::<5>::from_data(volume, device).autodiff();

    let tokens = vit.forward(volume);
    let mut all = BTreeMap::new();
    all.insert("tokens".to_owned(), floats(tokens.clone().inner()));
    let gradients = Gradients::of(&vit, tokens.powi_scalar(3).mean().backward());
    for name in gradients.names() {
        let gradient = gradients.get(name).expect("it was just named");
        all.insert(format!("gradient of {name}"), gradient.to_vec());
    }
    let rate = Rate {
        learning_rate: 1e-3,
        weight_decay: 0.05,
    };
    let vit = AdamW::new(AdamWConfig {
        // The first step of AdamW divides each gradient by its size: without this, it would turn
        // the rounding of a gradient near 0 into a whole step.
        epsilon: 1e-3,
        ..AdamWConfig::default()
    })
    .step(vit, &gradients, |_| rate);
    let after = Gradients::parameters(&vit);
    for name in after.names() {
        let value = after.get(name).expect("it was just named");
        all.insert(format!("{name} after a step"), value.to_vec());
    }
    all
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("float32")
}
