//! What holds for the model whatever its weights: sizes, masking, invariances, repeatability.

#![expect(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use core_model::adamw::{AdamW, AdamWConfig, DecayRule, Rate};
use core_model::baselines::resnet::{ResNet, ResNetConfig};
use core_model::gradients::{Clipping, Gradients};
use core_model::init::Init;
use core_model::layers::Product;
use core_model::ssl::dino::{Dino, DinoHeadConfig, DinoLossConfig, DinoNet, dino_loss};
use core_model::ssl::mae::{Mae, MaeConfig};
use core_model::ssl::mask::Mask;
use core_model::state::{StateDict, state_dict};
use core_model::vit::{Vit, VitConfig, VitShape};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[test]
fn published_models_have_the_published_number_of_parameters() {
    let device = Device::flex();
    let count = |config: &VitConfig| Vit::new(config, &mut Init::zeros(&device)).num_params();
    let base = VitConfig::vit_base();
    assert_eq!(count(&base), 89_404_416);
    assert_eq!(count(&base.clone().with_qkv_bias()), 89_432_064);
    assert_eq!(
        count(&base.clone().with_qkv_bias().with_registers(4)),
        89_435_136
    );
    let encoder = base.with_qkv_bias();
    let mae = Mae::new(&encoder, &MaeConfig::default(), &mut Init::zeros(&device)).unwrap();
    assert_eq!(mae.num_params(), 151_108_416);
}

#[test]
fn resnet_50_has_the_published_number_of_parameters() {
    let resnet = ResNet::new(&ResNetConfig::default(), &mut Init::zeros(&Device::flex()));
    // Running statistics of batch norm are state, not parameters.
    let parameters: usize = state_dict(&resnet)
        .iter()
        .filter(|(name, _)| !name.contains("running_"))
        .map(|(_, tensor)| tensor.values.len())
        .sum();
    assert_eq!(parameters, 46_203_074);
}

#[test]
fn impossible_shapes_are_refused_with_the_rule() {
    let shape = (*tiny(0)).clone();
    for (shape, message) in [
        (
            VitShape {
                patch: 5,
                ..shape.clone()
            },
            "patch: must divide image",
        ),
        (
            VitShape {
                heads: 5,
                ..shape.clone()
            },
            "heads: must divide dim",
        ),
        (
            VitShape {
                dim: 16,
                heads: 4,
                ..shape.clone()
            },
            "dim: must be a multiple of 6",
        ),
        (VitShape { depth: 0, ..shape }, "depth: must be positive"),
    ] {
        let error = VitConfig::new(shape).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
#[should_panic(expected = "is not a multiple of the patch")]
fn a_volume_that_patches_do_not_fill_panics_with_both_shapes() {
    let device = Device::flex();
    let vit = Vit::new(&tiny(0), &mut Init::zeros(&device));
    drop(vit.forward(Tensor::zeros([1, 3, 13, 13, 13], &device)));
}

#[test]
fn another_input_size_gives_its_own_number_of_tokens() {
    let device = Device::flex();
    let vit = Vit::new(&tiny(2), &mut Init::seeded(0, &device));
    assert_eq!(
        vit.forward(Tensor::zeros([2, 3, 18, 18, 18], &device))
            .dims(),
        [2, 1 + 2 + 27, 24]
    );
}

#[test]
fn the_teacher_starts_as_the_student_and_moves_by_the_momentum() {
    let device = Device::flex().autodiff();
    let mut dino = dino(&tiny(2), &device);
    assert_eq!(state_dict(&dino.student), state_dict(&dino.teacher));
    train(&mut dino, &device, 1);
    let before = state_dict(&dino.teacher);
    assert_ne!(before, state_dict(&dino.student));
    dino.update_teacher(0.75);
    let (student, teacher) = (state_dict(&dino.student), state_dict(&dino.teacher));
    for (name, old) in before {
        let moved = old
            .values
            .iter()
            .zip(&student[&name].values)
            .map(|(old, new)| old * 0.75 + new * 0.25);
        for (expected, actual) in moved.zip(&teacher[&name].values) {
            assert!(
                (expected - actual).abs() <= 1e-6 * expected.abs().max(1.0),
                "{name}"
            );
        }
    }
}

#[test]
fn twenty_steps_give_the_same_weights_on_one_and_two_threads() {
    let run = |threads: usize| -> StateDict {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let device = Device::flex().autodiff();
            let mut dino = dino(&wide(), &device);
            train(&mut dino, &device, 20);
            state_dict(&dino.student)
        })
    };
    let (one, two) = (run(1), run(2));
    assert!(
        one.values()
            .flat_map(|tensor| &tensor.values)
            .all(|value| value.is_finite())
    );
    assert_eq!(one, two);
}

#[test]
fn products_in_bfloat16_stay_near_float32_and_leave_parameters_and_gradients_in_it() {
    let device = Device::flex().autodiff();
    let pass = |product: Product| {
        let mut init = Init::seeded(3, &device).multiplying_in(product);
        let vit = Vit::new(&tiny(0), &mut init);
        let embedding = vit.embedding(volumes(5, &device));
        let values: Vec<f32> = embedding.clone().into_data().try_to_vec().unwrap();
        // One channel alone: a layer norm makes any sum over them a constant.
        let loss = embedding.narrow(1, 0, 1).mean();
        let gradients = Gradients::of(&vit, loss.backward());
        (values, gradients, state_dict(&vit))
    };
    let (exact, exact_gradients, parameters) = pass(Product::Float32);
    let (rounded, rounded_gradients, same) = pass(Product::Bfloat16);
    assert!(parameters == same, "parameters are not rounded");
    // bfloat16 has eight bits: one part in 256 per product, on values about 1.
    let apart = exact.iter().zip(&rounded).map(|(a, b)| (a - b).abs());
    let most = apart.fold(0.0, f32::max);
    assert!(most > 1e-5, "the products were rounded, {most}");
    assert!(most < 0.05, "{most}");
    let norm = exact_gradients.norm();
    assert!((rounded_gradients.norm() - norm).abs() < 0.05 * norm);
    assert!(exact_gradients.names().eq(rounded_gradients.names()));
}

#[test]
fn dropped_gradients_leave_a_parameter_as_it_was() {
    let device = Device::flex().autodiff();
    let vit = Vit::new(&tiny(0), &mut Init::seeded(3, &device));
    let before = state_dict(&vit);
    let loss = vit.forward(volumes(1, &device)).square().mean();
    let mut gradients = Gradients::of(&vit, loss.backward());
    gradients.drop_prefix("blocks.1.");
    let rate = Rate {
        learning_rate: 0.1,
        weight_decay: 0.1,
    };
    let after = state_dict(&AdamW::new(AdamWConfig::default()).step(vit, &gradients, |_| rate));
    for (name, tensor) in after {
        assert_eq!(
            before[&name] == tensor,
            name.starts_with("blocks.1."),
            "{name}"
        );
    }
}

#[test]
fn global_clipping_bounds_the_norm_and_keeps_the_direction() {
    let device = Device::flex().autodiff();
    let vit = Vit::new(&tiny(0), &mut Init::seeded(3, &device));
    let gradients = || {
        Gradients::of(
            &vit,
            (vit.forward(volumes(1, &device)).square().sum() * 9.0).backward(),
        )
    };
    let (free, mut bounded) = (gradients(), gradients());
    let norm = bounded.clip(Clipping::Global(1.0));
    assert!((norm - free.norm()).abs() < 1e-9 * norm && norm > 1.0);
    assert!((bounded.norm() - 1.0).abs() < 1e-4);
    let ratio = free.get("cls_token").unwrap()[0] / bounded.get("cls_token").unwrap()[0];
    assert!((f64::from(ratio) / norm - 1.0).abs() < 1e-4);
}

#[test]
fn weight_decay_can_spare_norms_biases_tokens_and_positions() {
    for (name, rank, decays) in [
        ("blocks.0.attn.qkv.weight", 2, true),
        ("blocks.0.attn.qkv.bias", 1, false),
        ("norm.weight", 1, false),
        ("cls_token", 3, false),
        ("backbone.register_tokens", 3, false),
        ("patch_embedding.position_embeddings", 3, false),
        ("patch_embedding.patch_embeddings.weight", 5, true),
    ] {
        assert_eq!(DecayRule::WeightsOnly.applies(name, rank), decays, "{name}");
        assert!(DecayRule::Everything.applies(name, rank));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        rng_seed: RngSeed::Fixed(2),
        ..ProptestConfig::default()
    })]

    #[test]
    fn masking_keeps_its_share_and_restore_undoes_the_shuffle(
        batch in 1usize..4,
        tokens in 1usize..70,
        ratio in 0.0f64..0.999,
        seed in any::<u64>(),
    ) {
        let mask = Mask::random(batch, tokens, ratio, &mut ChaCha8Rng::seed_from_u64(seed));
        prop_assert_eq!(mask.keep(), (tokens as f64 * (1.0 - ratio)).floor() as usize);
        for (restore, visible) in mask.restore().chunks(tokens).zip(mask.visible()) {
            let mut sorted = restore.to_vec();
            sorted.sort_unstable();
            prop_assert!(sorted.into_iter().eq(0..tokens));
            for (position, &patch) in visible.iter().enumerate() {
                prop_assert_eq!(restore[patch], position);
            }
        }
        let hidden = mask.hidden(&Device::flex()).into_data().try_to_vec::<f32>().unwrap();
        let shown = hidden.iter().filter(|hidden| **hidden == 0.0).count();
        prop_assert_eq!(shown, batch * mask.keep());
    }

    #[test]
    fn dino_loss_does_not_depend_on_the_order_of_the_batch(
        order in Just((0..5i64).collect::<Vec<_>>()).prop_shuffle(),
        seed in any::<u64>(),
    ) {
        let device = Device::flex();
        let draw = |views: usize, seed: u64| {
            let mut init = ChaCha8Rng::seed_from_u64(seed);
            let values: Vec<f32> =
                (0..views * 5 * 16).map(|_| init.random::<f32>()).collect();
            Tensor::<3>::from_data(TensorData::new(values, [views, 5, 16]), &device)
        };
        let (student, teacher) = (draw(4, seed), draw(2, seed.wrapping_add(1)));
        let center = Tensor::zeros([16], &device);
        let order = Tensor::<1, Int>::from_data(TensorData::new(order, [5]), &device);
        let loss = |student: Tensor<3>, teacher: Tensor<3>| {
            dino_loss(student, teacher, center.clone(), 0.1, 0.04).into_scalar::<f32>()
        };
        let permuted = loss(student.clone().select(1, order.clone()), teacher.clone().select(1, order));
        let plain = loss(student, teacher);
        prop_assert!((plain - permuted).abs() <= 1e-5 * plain.abs(), "{plain} {permuted}");
    }
}

fn tiny(registers: usize) -> VitConfig {
    VitConfig::new(VitShape {
        image: 12,
        patch: 6,
        channels: 3,
        dim: 24,
        depth: 2,
        heads: 2,
        mlp: 48,
        qkv_bias: true,
        registers,
    })
    .unwrap()
}

/// Large enough that activations and parameters are cut into several pieces.
fn wide() -> VitConfig {
    VitConfig::new(VitShape {
        image: 12,
        patch: 3,
        channels: 3,
        dim: 96,
        depth: 1,
        heads: 2,
        mlp: 768,
        qkv_bias: true,
        registers: 2,
    })
    .unwrap()
}

fn dino(vit: &VitConfig, device: &Device) -> Dino {
    let head = DinoHeadConfig {
        layers: 3,
        hidden: 32,
        bottleneck: 16,
        prototypes: 64,
        batch_norm: true,
    };
    let net = DinoNet::new(vit, &head, &mut Init::seeded(1, device)).unwrap();
    Dino::new(net, DinoLossConfig::default())
}

/// Trains for some steps on the same four views.
fn train(dino: &mut Dino, device: &Device, steps: usize) {
    let mut optimizer = AdamW::new(AdamWConfig::default());
    let rate = Rate {
        learning_rate: 1e-3,
        weight_decay: 0.04,
    };
    let views: Vec<Tensor<5>> = (0..4).map(|seed| volumes(seed, device)).collect();
    for _ in 0..steps {
        let loss = dino.forward(&views, 2, 0.04);
        let mut gradients = Gradients::of(&dino.student, loss.backward());
        gradients.clip(Clipping::PerParameter(3.0));
        dino.student = optimizer.step(dino.student.clone(), &gradients, |_| rate);
        dino.update_teacher(0.99);
    }
}

fn volumes(seed: u64, device: &Device) -> Tensor<5> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..3 * 3 * 12 * 12 * 12)
        .map(|_| rng.random::<f32>())
        .collect();
    Tensor::from_data(TensorData::new(values, [3, 3, 12, 12, 12]), device)
}

#[test]
fn class_attention_is_the_class_row_without_class_and_registers() {
    let device = Device::flex();
    // One scan, two heads, class token + one register + 1³ and 2³ patches; weight = 100·head + 10·row + column.
    for (tokens, patches) in [(3, 1), (10, 8)] {
        let value =
            |head: usize, row: usize, column: usize| (100 * head + 10 * row + column) as f32;
        let values: Vec<f32> = (0..2 * tokens * tokens)
            .map(|at| value(at / (tokens * tokens), at / tokens % tokens, at % tokens))
            .collect();
        let attention = Tensor::from_data(TensorData::new(values, [1, 2, tokens, tokens]), &device);
        let found = core_model::attention::cls_attention(attention, 2);
        assert_eq!(found.dims(), [1, 2, patches]);
        let expected: Vec<f32> = (0..2)
            .flat_map(|head| (2..tokens).map(move |column| value(head, 0, column)))
            .collect();
        assert_eq!(found.into_data().try_to_vec::<f32>().unwrap(), expected);
    }
}
