//! The architecture, from keys and shapes.

use core_model::state::StateDict;
use core_model::vit::{VitConfig, VitShape};

/// The shape of the transformer that these tensors make. Heads cannot be seen: without `heads`
/// there is one for each 64 channels.
///
/// # Errors
/// A message naming the key that is missing or has an impossible shape.
pub fn detect(tensors: &StateDict, heads: Option<usize>) -> Result<VitConfig, String> {
    const PATCH: &str = "patch_embedding.patch_embeddings.weight";
    const POSITION: &str = "patch_embedding.position_embeddings";
    const HIDDEN: &str = "blocks.0.mlp.linear1.weight";

    let shape = |key: &str| match tensors.get(key) {
        Some(tensor) => Ok(tensor.shape.as_slice()),
        None => Err(format!("missing key {key}, which tells the architecture")),
    };
    let unlike = |key: &str, expected: &str, found: &[usize]| {
        Err(format!(
            "key {key}: expected shape {expected}, found {found:?}"
        ))
    };
    let &[dim, channels, patch, p1, p2] = shape(PATCH)? else {
        return unlike(PATCH, "[dim, channels, patch, patch, patch]", shape(PATCH)?);
    };
    if [p1, p2] != [patch, patch] {
        return unlike(PATCH, "a cubic patch", shape(PATCH)?);
    }
    let &[1, patches, _] = shape(POSITION)? else {
        return unlike(POSITION, "[1, patches, dim]", shape(POSITION)?);
    };
    let grid = (patches as f64).cbrt().round() as usize;
    if grid.pow(3) != patches {
        return unlike(POSITION, "a cubic number of patches", shape(POSITION)?);
    }
    let &[mlp, _] = shape(HIDDEN)? else {
        return unlike(HIDDEN, "[hidden, dim]", shape(HIDDEN)?);
    };
    let depth = 1 + tensors
        .keys()
        .filter_map(|key| {
            key.strip_prefix("blocks.")?
                .split('.')
                .next()?
                .parse::<usize>()
                .ok()
        })
        .max()
        .unwrap_or(0);
    let heads = match heads {
        Some(heads) => heads,
        None if dim % 64 == 0 => dim / 64,
        None => {
            return Err(format!(
                "the number of heads of a width of {dim} must be given"
            ));
        }
    };
    VitConfig::new(VitShape {
        image: grid * patch,
        patch,
        channels,
        dim,
        depth,
        heads,
        mlp,
        qkv_bias: tensors.contains_key("blocks.0.attn.qkv.bias"),
        registers: tensors
            .get("register_tokens")
            .and_then(|tensor| tensor.shape.get(1).copied())
            .unwrap_or(0),
    })
    .map_err(|error| error.to_string())
}
