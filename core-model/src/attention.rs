//! What the model looks at: attention distance (paper, equation 1) and class-token attention.

use burn::tensor::{Device, Tensor, TensorData};

/// Mean attention distance of every patch, `[B, N]`, in patches.
///
/// Source: paper, equation 1: `D_i = Σ_j A_ij d(i, j)`, averaged over layers and heads; `d` is the
/// Euclidean distance between patch centers. The paper leaves open what happens to the class and
/// register tokens (`prefix` of them): they are dropped and each row is renormalized over patches.
///
/// # Shapes
/// each `[B, heads, T, T]` with `T = prefix + grid³`
///
/// # Panics
/// When there is no layer, or the patches do not form a cube.
pub fn attention_distance(attention: &[Tensor<4>], prefix: usize) -> Tensor<2> {
    let layers = attention.len();
    assert!(layers > 0, "attention distance of no layer");
    let [batch, _, tokens, _] = attention[0].dims();
    let distances = patch_distances(tokens - prefix, &attention[0].device());
    attention
        .iter()
        .map(|weights| {
            distances_of(weights.clone(), prefix, distances.clone())
                .mean_dim(1)
                .reshape([batch, tokens - prefix])
        })
        .reduce(|sum, layer| sum + layer)
        .expect("there is a layer")
        / layers as f64
}

/// Attention distance of every head and patch of one layer, `[B, heads, N]`, in patches.
///
/// # Panics
/// When the patches do not form a cube.
pub fn attention_distance_per_head(attention: Tensor<4>, prefix: usize) -> Tensor<3> {
    let patches = attention.dims()[2] - prefix;
    let distances = patch_distances(patches, &attention.device());
    distances_of(attention, prefix, distances)
}

/// Attention from the class token to every patch, `[B, heads, N]`; what goes to the class and
/// register tokens themselves is left out, so rows sum to less than 1.
pub fn cls_attention(attention: Tensor<4>, prefix: usize) -> Tensor<3> {
    let [batch, heads, tokens, _] = attention.dims();
    attention
        .narrow(2, 0, 1)
        .narrow(3, prefix, tokens - prefix)
        .reshape([batch, heads, tokens - prefix])
}

fn distances_of(attention: Tensor<4>, prefix: usize, distances: Tensor<4>) -> Tensor<3> {
    let [batch, heads, tokens, _] = attention.dims();
    let patches = tokens - prefix;
    let weights = attention
        .narrow(2, prefix, patches)
        .narrow(3, prefix, patches);
    let total = weights.clone().sum_dim(3);
    ((weights * distances).sum_dim(3) / total).reshape([batch, heads, patches])
}

/// Distances between the patches of a cubic grid, `[1, 1, N, N]`.
fn patch_distances(patches: usize, device: &Device) -> Tensor<4> {
    let grid = (patches as f64).cbrt().round() as usize;
    assert_eq!(grid.pow(3), patches, "{patches} patches do not form a cube");
    let position = |patch: usize| [patch / (grid * grid), patch / grid % grid, patch % grid];
    let mut distances = Vec::with_capacity(patches * patches);
    for i in 0..patches {
        for j in 0..patches {
            let squares = position(i)
                .into_iter()
                .zip(position(j))
                .map(|(a, b)| a.abs_diff(b).pow(2));
            distances.push((squares.sum::<usize>() as f32).sqrt());
        }
    }
    Tensor::from_data(TensorData::new(distances, [1, 1, patches, patches]), device)
}
