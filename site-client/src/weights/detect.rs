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
    const REGISTERS: &str = "register_tokens";

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
    // A size is believed only where the tensor's other sides are those of the model: then the file
    // holds as many values, and no file of a few bytes makes a model that fills the memory.
    let patches = match *shape(POSITION)? {
        [1, patches, width] if width == dim => patches,
        ref found => return unlike(POSITION, "[1, patches, dim]", found),
    };
    let grid = (patches as f64).cbrt().round() as usize;
    if grid.pow(3) != patches {
        return unlike(POSITION, "a cubic number of patches", shape(POSITION)?);
    }
    let mlp = match *shape(HIDDEN)? {
        [mlp, width] if width == dim => mlp,
        ref found => return unlike(HIDDEN, "[hidden, dim]", found),
    };
    let registers = match tensors.get(REGISTERS).map(|tensor| &tensor.shape[..]) {
        None => 0,
        Some(&[1, registers, width]) if width == dim => registers,
        Some(found) => return unlike(REGISTERS, "[1, registers, dim]", found),
    };
    let block = |key: &str| -> Option<usize> {
        let number = key.strip_prefix("blocks.")?.split('.').next()?;
        number.parse().ok()
    };
    let depth = match tensors.keys().filter_map(|key| block(key)).max() {
        Some(last) if last < tensors.len() => last + 1,
        Some(last) => {
            return Err(format!(
                "key blocks.{last}: expected a block of which all before have tensors, found {} \
                 tensors in all",
                tensors.len()
            ));
        }
        None => 1,
    };
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
        registers,
    })
    .map_err(|error| error.to_string())
}
