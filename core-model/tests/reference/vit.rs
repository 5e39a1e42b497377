//! The transformer: outputs, hidden states, attention, attention distance, gradients.

use burn::tensor::{Device, Tensor};
use core_model::attention::{attention_distance, attention_distance_per_head};
use core_model::gradients::Gradients;
use core_model::init::Init;
use core_model::pos_embed::sincos;
use core_model::state::load;
use core_model::vit::{Vit, VitConfig, VitShape};

use crate::vectors::{Vectors, gradients_as_state};

#[test]
fn vit_outputs_hidden_states_and_attention_match_pytorch() {
    for name in ["vit_plain", "vit_registers"] {
        for vectors in Vectors::all(name) {
            let device = Device::flex();
            let (config, vit) = model(&vectors, &device);
            let input: Tensor<5> = vectors.tensor("input", &device);
            let trace = vit.trace(input.clone());
            vectors.check("output", trace.tokens);
            for (layer, hidden) in trace.hidden.into_iter().enumerate() {
                vectors.check(&format!("hidden.{layer}"), hidden);
            }
            for (layer, attention) in trace.attention.iter().enumerate() {
                vectors.check(&format!("attention.{layer}"), attention.clone());
            }
            let prefix = config.prefix();
            vectors.check(
                "attention_distance",
                attention_distance(&trace.attention, prefix),
            );
            let per_head: Vec<Tensor<3>> = trace
                .attention
                .into_iter()
                .map(|attention| attention_distance_per_head(attention, prefix))
                .collect();
            let per_head: Tensor<4> = Tensor::stack(per_head, 1);
            vectors.check("attention_distance_per_layer_head", per_head);
            vectors.check("output", vit.forward(input));
        }
    }
}

#[test]
fn vit_gradients_of_every_parameter_match_pytorch() {
    for name in ["vit_plain", "vit_registers"] {
        for vectors in Vectors::all(name) {
            let device = Device::flex().autodiff();
            let (config, vit) = model(&vectors, &device);
            let tokens = vit.forward(vectors.tensor("input", &device));
            let [batch, count, dim] = tokens.dims();
            let probe = vectors.tensor::<1>("probe", &device).reshape([1, 1, dim]);
            let cls = tokens.clone().narrow(1, 0, 1).reshape([batch, 1, dim]);
            let patches = tokens.narrow(1, config.prefix(), count - config.prefix());
            let loss = (cls * probe).sum() + patches.square().mean();
            vectors.check("loss", loss.clone());
            let gradients = Gradients::of(&vit, loss.backward());
            let state = gradients_as_state(&vit, &gradients);
            let expected = vectors.part("grad.");
            assert_eq!(
                state.keys().collect::<Vec<_>>(),
                expected.keys().collect::<Vec<_>>()
            );
            for (key, gradient) in state {
                vectors.check_values(&format!("grad.{key}"), &gradient.values);
            }
        }
    }
}

#[test]
fn sincos_table_matches_in_channel_order() {
    for vectors in Vectors::all("sincos") {
        vectors.check_values("dim48_grid4", &sincos(48, 4));
        let table = sincos(768, 8);
        let rows: Vec<f32> = [0, 1, 8, 64, 511]
            .iter()
            .flat_map(|row| &table[row * 768..][..768])
            .copied()
            .collect();
        vectors.check_values("dim768_grid8_rows_0_1_8_64_511", &rows);
    }
}

fn model(vectors: &Vectors, device: &Device) -> (VitConfig, Vit) {
    let config = VitConfig::new(VitShape {
        image: vectors.setting("roi"),
        patch: vectors.setting("patch"),
        channels: 3,
        dim: vectors.setting("dim"),
        depth: vectors.setting("depth"),
        heads: vectors.setting("heads"),
        mlp: vectors.setting("mlp"),
        qkv_bias: vectors.settings["qkv_bias"].as_bool().unwrap(),
        registers: vectors.setting("register_tokens"),
    })
    .unwrap();
    let vit = load(
        Vit::new(&config, &mut Init::zeros(device)),
        &vectors.part("weight."),
    )
    .unwrap();
    (config, vit)
}
