//! DINO's head and loss, and MAE.

use burn::tensor::{Device, Tensor};
use core_model::gradients::Gradients;
use core_model::init::Init;
use core_model::ssl::dino::{DinoHead, DinoHeadConfig, dino_loss, moved_center};
use core_model::ssl::mae::{Mae, MaeConfig};
use core_model::ssl::mask::Mask;
use core_model::state::load;
use core_model::vit::{VitConfig, VitShape};

use crate::vectors::{Vectors, gradients_as_state};

#[test]
fn dino_head_matches_pytorch() {
    for vectors in Vectors::all("dino_head") {
        let device = Device::flex();
        let config = DinoHeadConfig {
            layers: 3,
            hidden: vectors.setting("hidden"),
            bottleneck: vectors.setting("bottleneck"),
            prototypes: vectors.setting("prototypes"),
            batch_norm: false,
        };
        let dim = vectors.shape("input")[1];
        let head = DinoHead::new(dim, &config, &mut Init::zeros(&device)).unwrap();
        let mut head = load(head, &vectors.part("weight.")).unwrap();
        let input = vectors.tensor("input", &device);
        vectors.check("output", head.forward(input.clone()));
        vectors.check("output", head.forward_train(input));
    }
}

#[test]
fn dino_loss_its_gradient_and_the_center_match_pytorch() {
    for vectors in Vectors::all("dino_loss") {
        let device = Device::flex();
        let student: Tensor<3> = vectors
            .tensor("student", &device.clone().autodiff())
            .require_grad();
        let teacher: Tensor<3> = vectors.tensor("teacher", &device);
        let prototypes = teacher.dims()[2];
        let center = vectors.tensor::<2>("center", &device).reshape([prototypes]);
        let (student_temp, teacher_temp) = (
            vectors.number("student_temp"),
            vectors.number("teacher_temp"),
        );
        let loss = dino_loss(
            student.clone(),
            teacher.clone(),
            center.clone(),
            student_temp,
            teacher_temp,
        );
        vectors.check("loss", loss.clone());
        vectors.check("grad.student", student.grad(&loss.backward()).unwrap());
        let center = moved_center(center, teacher, vectors.number("center_momentum"));
        vectors.check("center_after", center.reshape([1, prototypes]));
    }
}

#[test]
fn mae_masking_prediction_losses_and_gradients_match_pytorch() {
    for vectors in Vectors::all("mae") {
        let device = Device::flex().autodiff();
        let image = vectors.shape("input")[2];
        let tokens = vectors.shape("noise")[1];
        let dim = vectors.shape("weight.cls_token")[2];
        let encoder = VitConfig::new(VitShape {
            image,
            patch: image / (tokens as f64).cbrt().round() as usize,
            channels: 3,
            dim,
            depth: vectors.setting("encoder_depth"),
            heads: vectors.setting("heads"),
            mlp: vectors.setting("mlp"),
            qkv_bias: true,
            registers: 0,
        })
        .unwrap();
        let mask_ratio = vectors.number("mask_ratio");
        let mask = Mask::from_noise(vectors.values("noise"), tokens, mask_ratio);
        let restore: Vec<f32> = mask.restore().iter().map(|&at| at as f32).collect();
        assert_eq!(restore, vectors.values("ids_restore"));
        vectors.check("mask", mask.hidden(&device));
        for norm_pix_loss in [true, false] {
            let config = MaeConfig {
                decoder_dim: dim,
                decoder_depth: vectors.setting("decoder_depth"),
                decoder_heads: vectors.setting("decoder_heads"),
                decoder_mlp: vectors.setting("mlp"),
                mask_ratio,
                norm_pix_loss,
            };
            let mae = Mae::new(&encoder, &config, &mut Init::zeros(&device)).unwrap();
            let mae = load(mae, &vectors.part("weight.")).unwrap();
            let output = mae.forward(vectors.tensor("input", &device), &mask);
            vectors.check("prediction", output.prediction);
            if norm_pix_loss {
                vectors.check("loss_norm_pix", output.loss);
                continue;
            }
            vectors.check("loss", output.loss.clone());
            let gradients = Gradients::of(&mae, output.loss.backward());
            let state = gradients_as_state(&mae, &gradients);
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
