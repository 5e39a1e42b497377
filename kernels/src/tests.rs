use burn::backend::ops::FloatTensorOps;
use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

type Primitive = FloatTensor<Flex>;

fn draw(seed: u64, shape: &[usize], scale: f32) -> Primitive {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let len = shape.iter().product();
    let values: Vec<f32> = (0..len)
        .map(|_| (rng.random::<f32>() * 2.0 - 1.0) * scale)
        .collect();
    Flex::float_from_data(TensorData::new(values, shape.to_vec()), &Default::default())
}

fn same(left: Primitive, right: Primitive) {
    let (left, right) = (left.into_data(), right.into_data());
    assert_eq!(left.shape(), right.shape());
    let (left, right) = (floats(&left), floats(&right));
    let scale = right.iter().fold(0f32, |max, value| max.max(value.abs()));
    for (index, (left, right)) in left.iter().zip(right).enumerate() {
        assert!(
            (left - right).abs() <= 2e-6 * scale,
            "{index}: {left} {right} of {scale}"
        );
    }
}

#[test]
fn the_processors_loops_agree_with_tensor_operations() {
    // Rows that are no multiple of sixteen, and more of them than one piece holds.
    let shape = [2, 300, 77];
    let (x, grad) = (draw(1, &shape, 6.0), draw(2, &shape, 1.0));
    let gamma = draw(3, &[77], 1.0);
    same(
        Flex::gelu_forward(x.clone()),
        composed::gelu::<Flex>(x.clone()),
    );
    same(
        Flex::gelu_backward_exact(x.clone(), grad.clone()),
        composed::gelu_backward::<Flex>(x.clone(), grad.clone()),
    );
    let weights = Flex::scaled_softmax(x.clone(), 0.7);
    same(weights.clone(), composed::softmax::<Flex>(x.clone(), 0.7));
    same(
        Flex::softmax_backward(weights.clone(), grad.clone(), 0.7),
        composed::softmax_backward::<Flex>(weights, grad.clone(), 0.7),
    );
    let loops = Flex::layer_norm_backward(x.clone(), gamma.clone(), grad.clone(), 1e-5);
    let tensors = composed::layer_norm_backward::<Flex>(x, gamma, grad, 1e-5);
    for (loops, tensors) in loops.into_iter().zip(tensors) {
        same(loops, tensors);
    }
}

#[test]
fn gelu_and_softmax_hold_at_the_extremes() {
    let device = Device::flex();
    let x = Tensor::<1>::from_data([-1e30, -90.0, -5.0, -0.0, 0.0, 5.0, 90.0, 1e18f32], &device);
    let y = gelu(x).into_data().try_to_vec::<f32>().unwrap();
    let expected = [0.0, 0.0, -1.433e-6, 0.0, 0.0, 5.0, 90.0, 1e18];
    for (y, expected) in y.into_iter().zip(expected) {
        assert!(
            (y - expected).abs() <= 1e-6 * expected.abs().max(1.0),
            "{y} {expected}"
        );
    }
    let scores = TensorData::new(vec![-1e4f32, 0.0, 1e4, 1e4], [1, 4]);
    let weights = Flex::float_from_data(scores, &Default::default());
    let weights = Flex::scaled_softmax(weights, 1.0).into_data();
    let expected = [0.0, 0.0, 0.5, 0.5];
    for (weight, expected) in floats(&weights).iter().zip(expected) {
        assert!((weight - expected).abs() < 1e-6);
    }
}

#[test]
fn a_value_that_is_not_a_number_stays_visible() {
    let nan = |len: usize| {
        let mut values = vec![0.5f32; len];
        values[3] = f32::NAN;
        Flex::float_from_data(TensorData::new(values, [1, len]), &Default::default())
    };
    let weights = Flex::scaled_softmax(nan(20), 1.0).into_data();
    assert!(floats(&weights).iter().all(|weight| weight.is_nan()));
    assert!(floats(&Flex::gelu_forward(nan(4)).into_data())[3].is_nan());
}

#[test]
fn attention_equals_its_definition() {
    let device = Device::flex();
    let (batch, tokens, heads, head) = (2, 5, 3, 4);
    let data = draw(4, &[batch, tokens, 3 * heads * head], 1.0).into_data();
    let qkv = Tensor::<3>::from_data(data, &device);
    let parts = qkv.clone().reshape([batch, tokens, 3, heads, head]);
    let [query, key, value] = [0, 1, 2].map(|part| {
        parts
            .clone()
            .narrow(2, part, 1)
            .reshape([batch, tokens, heads, head])
            .swap_dims(1, 2)
    });
    let scores = query.matmul(key.swap_dims(2, 3)) / (head as f64).sqrt();
    let expected = burn::tensor::activation::softmax(scores, 3).matmul(value);
    let expected = expected
        .swap_dims(1, 2)
        .reshape([batch, tokens, heads * head]);
    let actual = attention(qkv, heads);
    let difference = (actual - expected).abs().max().into_scalar::<f32>();
    assert!(difference < 1e-6, "{difference}");
}
