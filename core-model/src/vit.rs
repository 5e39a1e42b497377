//! The 3-D vision transformer (paper, "Model architecture"): patches of a cubic volume as tokens,
//! pre-norm blocks, the class token as the embedding of the scan.

use std::ops::Deref;

use burn::module::{Module, Param};
use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, assert_shape};
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;
use crate::init::Init;
use crate::layers::{LayerNorm, Linear, Product};
use crate::pos_embed;
use kernels::{attention, gelu};

/// Shape of a [`Vit`], not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitShape {
    /// Side of the cubic input, voxels.
    pub image: usize,
    /// Side of a cubic patch, voxels.
    pub patch: usize,
    /// Input channels: one per HU window.
    pub channels: usize,
    /// Width of a token.
    pub dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the hidden layer of a block's MLP.
    pub mlp: usize,
    /// Whether the query, key and value projection has a bias.
    #[serde(default)]
    pub qkv_bias: bool,
    /// Register tokens between the class token and the patches.
    #[serde(default)]
    pub registers: usize,
}

/// Shape of a [`Vit`] that can be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "VitShape", into = "VitShape")]
pub struct VitConfig(VitShape);

impl VitConfig {
    /// Checks a shape.
    ///
    /// # Errors
    /// When a size is zero, `patch` does not divide `image`, `heads` does not divide `dim`, or `dim`
    /// is not a multiple of 6 (two functions for each of three axes).
    pub fn new(shape: VitShape) -> Result<Self, ConfigError> {
        let VitShape {
            image,
            patch,
            channels,
            dim,
            depth,
            heads,
            mlp,
            ..
        } = shape;
        for (object, size) in [
            ("image", image),
            ("patch", patch),
            ("channels", channels),
            ("dim", dim),
            ("depth", depth),
            ("heads", heads),
            ("mlp", mlp),
        ] {
            ConfigError::unless(size > 0, object, "must be positive", size)?;
        }
        let sizes = format!("image {image}, patch {patch}");
        ConfigError::unless(
            image.is_multiple_of(patch),
            "patch",
            "must divide image",
            sizes,
        )?;
        let sizes = format!("dim {dim}, heads {heads}");
        ConfigError::unless(dim.is_multiple_of(heads), "heads", "must divide dim", sizes)?;
        ConfigError::unless(dim.is_multiple_of(6), "dim", "must be a multiple of 6", dim)?;
        Ok(Self(shape))
    }

    /// The published model: 96³ voxels, patch 12, 768 wide, 12 blocks; 89,404,416 parameters.
    pub fn vit_base() -> Self {
        Self::named(96, 12, 768, 12, 12)
    }

    /// Half the width: 96³ voxels, patch 12, 384 wide, 12 blocks.
    pub fn vit_small() -> Self {
        Self::named(96, 12, 384, 12, 6)
    }

    /// For a laptop: 96³ voxels, patch 12, 192 wide, 12 blocks.
    pub fn vit_tiny() -> Self {
        Self::named(96, 12, 192, 12, 3)
    }

    /// The same shape with query, key and value biases.
    #[must_use]
    pub fn with_qkv_bias(self) -> Self {
        Self(VitShape {
            qkv_bias: true,
            ..self.0
        })
    }

    /// The same shape with `registers` register tokens.
    #[must_use]
    pub fn with_registers(self, registers: usize) -> Self {
        Self(VitShape {
            registers,
            ..self.0
        })
    }

    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.image / self.patch
    }

    /// Patches in a volume of the configured size.
    pub fn patches(&self) -> usize {
        self.grid().pow(3)
    }

    /// Tokens before the first patch: the class token and the registers.
    pub fn prefix(&self) -> usize {
        1 + self.registers
    }

    fn named(image: usize, patch: usize, dim: usize, depth: usize, heads: usize) -> Self {
        Self(VitShape {
            image,
            patch,
            channels: 3,
            dim,
            depth,
            heads,
            mlp: 4 * dim,
            qkv_bias: false,
            registers: 0,
        })
    }
}

impl Deref for VitConfig {
    type Target = VitShape;

    fn deref(&self) -> &VitShape {
        &self.0
    }
}

impl TryFrom<VitShape> for VitConfig {
    type Error = ConfigError;

    fn try_from(shape: VitShape) -> Result<Self, ConfigError> {
        Self::new(shape)
    }
}

impl From<VitConfig> for VitShape {
    fn from(config: VitConfig) -> Self {
        config.0
    }
}

/// 3-D vision transformer.
///
/// Source: paper, "Model architecture", and the released layout. Deviation from the paper's text,
/// as released: the position table is a trained parameter that starts as sine–cosine.
#[derive(Module, Debug)]
pub struct Vit {
    pub(crate) patch_embedding: PatchEmbedding,
    pub(crate) cls_token: Param<Tensor<3>>,
    pub(crate) register_tokens: Option<Param<Tensor<3>>>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: LayerNorm,
}

/// Everything a forward pass computed.
#[derive(Debug)]
pub struct Trace {
    /// Normalized output `[B, 1 + registers + N, E]`.
    pub tokens: Tensor<3>,
    /// Output of each block before the final norm, same shape as `tokens`.
    pub hidden: Vec<Tensor<3>>,
    /// Attention weights of each block `[B, heads, T, T]`; rows sum to 1.
    pub attention: Vec<Tensor<4>>,
}

impl Vit {
    /// A new model with PyTorch's default initialization, class and register tokens zero.
    pub fn new(config: &VitConfig, init: &mut Init) -> Self {
        let VitShape {
            dim,
            depth,
            heads,
            mlp,
            qkv_bias,
            registers,
            ..
        } = **config;
        Self {
            patch_embedding: PatchEmbedding::new(config, init),
            cls_token: init.constant([1, 1, dim], 0.0),
            register_tokens: (registers > 0).then(|| init.constant([1, registers, dim], 0.0)),
            blocks: (0..depth)
                .map(|_| Block::new(dim, heads, mlp, qkv_bias, Linear::new, init))
                .collect(),
            norm: LayerNorm::new(dim, 1e-6, init),
        }
    }

    /// Tokens of a batch of volumes; the class token is the first.
    ///
    /// # Shapes
    /// `[B, C, R, R, R]` → `[B, 1 + registers + N, E]`; another cubic size than the configured one
    /// resamples the position table.
    ///
    /// # Panics
    /// When the volume is not cubic, or its side is not a multiple of the patch.
    pub fn forward(&self, volume: Tensor<5>) -> Tensor<3> {
        let tokens = self.embed(volume);
        self.norm
            .forward(self.blocks.iter().fold(tokens, |x, block| block.forward(x)))
    }

    /// Embedding of each volume: the class token after the final norm, `[B, E]`.
    pub fn embedding(&self, volume: Tensor<5>) -> Tensor<2> {
        let tokens = self.forward(volume);
        let [batch, _, dim] = tokens.dims();
        tokens.narrow(1, 0, 1).reshape([batch, dim])
    }

    /// Like [`forward`](Self::forward), keeping hidden states and attention weights.
    pub fn trace(&self, volume: Tensor<5>) -> Trace {
        let mut x = self.embed(volume);
        let mut hidden = Vec::with_capacity(self.blocks.len());
        let mut attention = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, weights) = block.trace(x);
            hidden.push(y.clone());
            attention.push(weights);
            x = y;
        }
        Trace {
            tokens: self.norm.forward(x),
            hidden,
            attention,
        }
    }

    fn embed(&self, volume: Tensor<5>) -> Tensor<3> {
        let patches = self.patch_embedding.forward(volume);
        let [batch, _, dim] = patches.dims();
        let mut tokens = vec![self.cls_token.val().expand([batch, 1, dim])];
        if let Some(registers) = &self.register_tokens {
            let registers = registers.val();
            let count = registers.dims()[1];
            tokens.push(registers.expand([batch, count, dim]));
        }
        tokens.push(patches);
        Tensor::cat(tokens, 1)
    }
}

/// Linear projection of non-overlapping patches, plus their positions.
#[derive(Module, Debug)]
pub(crate) struct PatchEmbedding {
    patch_embeddings: PatchProjection,
    position_embeddings: Param<Tensor<3>>,
}

impl PatchEmbedding {
    pub(crate) fn new(config: &VitConfig, init: &mut Init) -> Self {
        let table = pos_embed::sincos(config.dim, config.grid());
        Self {
            patch_embeddings: PatchProjection::new(config, init),
            position_embeddings: init.param([1, config.patches(), config.dim], table),
        }
    }

    /// # Shapes
    /// `[B, C, R, R, R]` → `[B, N, E]`
    pub(crate) fn forward(&self, volume: Tensor<5>) -> Tensor<3> {
        let tokens = self.patch_embeddings.forward(volume);
        let table = self.position_embeddings.val();
        let side = |patches: usize| (patches as f64).cbrt().round() as usize;
        let (from, to) = (side(table.dims()[1]), side(tokens.dims()[1]));
        tokens + pos_embed::resample(table, from, to)
    }
}

/// A 3-D convolution whose stride is its kernel, written as one matrix product.
#[derive(Module, Debug)]
struct PatchProjection {
    weight: Param<Tensor<5>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    product: Product,
}

impl PatchProjection {
    fn new(config: &VitConfig, init: &mut Init) -> Self {
        let VitShape {
            channels,
            patch,
            dim,
            ..
        } = **config;
        let bound = 1.0 / ((channels * patch.pow(3)) as f32).sqrt();
        Self {
            weight: init.uniform([dim, channels, patch, patch, patch], bound),
            bias: init.uniform([dim], bound),
            product: init.product(),
        }
    }

    fn forward(&self, volume: Tensor<5>) -> Tensor<3> {
        let weight = self.weight.val();
        let [dim, channels, patch, _, _] = weight.dims();
        let [batch, _, side, _, _] = volume.dims();
        assert_shape!(volume, [batch, channels, side, side, side]);
        assert!(
            side.is_multiple_of(patch),
            "volume [{batch}, {channels}, {side}, {side}, {side}] is not a multiple of the patch \
             [{patch}, {patch}, {patch}]"
        );
        let grid = side / patch;
        let values = channels * patch.pow(3);
        let patches = volume
            .reshape([batch, channels, grid, patch, grid, patch, grid, patch])
            .permute([0, 2, 4, 6, 1, 3, 5, 7])
            .reshape([batch * grid.pow(3), values]);
        let weight = weight.reshape([dim, values]).transpose();
        self.product
            .affine(patches, weight, Some(self.bias.val()))
            .reshape([batch, grid.pow(3), dim])
    }
}

/// One pre-norm transformer block.
#[derive(Module, Debug)]
pub(crate) struct Block {
    mlp: Mlp,
    att_norm: LayerNorm,
    ffn_norm: LayerNorm,
    attn: Attention,
}

/// How a block's linear layers start.
pub(crate) type LinearInit = fn(usize, usize, bool, &mut Init) -> Linear;

impl Block {
    pub(crate) fn new(
        dim: usize,
        heads: usize,
        mlp: usize,
        qkv_bias: bool,
        linear: LinearInit,
        init: &mut Init,
    ) -> Self {
        Self {
            mlp: Mlp {
                linear1: linear(dim, mlp, true, init),
                linear2: linear(mlp, dim, true, init),
            },
            att_norm: LayerNorm::new(dim, 1e-5, init),
            ffn_norm: LayerNorm::new(dim, 1e-5, init),
            attn: Attention {
                qkv: linear(dim, 3 * dim, qkv_bias, init),
                proj: linear(dim, dim, true, init),
                heads,
            },
        }
    }

    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(self.att_norm.forward(x));
        x.clone() + self.mlp.forward(self.ffn_norm.forward(x))
    }

    fn trace(&self, x: Tensor<3>) -> (Tensor<3>, Tensor<4>) {
        let (y, attention) = self.attn.trace(self.att_norm.forward(x.clone()));
        let x = x + y;
        (
            x.clone() + self.mlp.forward(self.ffn_norm.forward(x)),
            attention,
        )
    }
}

/// Multi-head self-attention.
#[derive(Module, Debug)]
struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
}

impl Attention {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.proj
            .forward(attention(self.qkv.forward(x), self.heads))
    }

    /// The same, step by step, to keep the weights.
    ///
    /// # Shapes
    /// `[B, T, E]` → `[B, T, E]` and the weights `[B, heads, T, T]`
    fn trace(&self, x: Tensor<3>) -> (Tensor<3>, Tensor<4>) {
        let [batch, tokens, dim] = x.dims();
        let head = dim / self.heads;
        let qkv = self
            .qkv
            .forward(x)
            .reshape([batch, tokens, 3, self.heads, head]);
        let [query, key, value] = [0, 1, 2].map(|index| {
            qkv.clone()
                .narrow(2, index, 1)
                .reshape([batch, tokens, self.heads, head])
                .swap_dims(1, 2)
        });
        let scale = 1.0 / (head as f64).sqrt();
        let weights = softmax((query * scale).matmul(key.swap_dims(2, 3)), 3);
        let y = weights
            .clone()
            .matmul(value)
            .swap_dims(1, 2)
            .reshape([batch, tokens, dim]);
        (self.proj.forward(y), weights)
    }
}

/// Two linear layers around the exact (erf) GELU.
#[derive(Module, Debug)]
struct Mlp {
    linear1: Linear,
    linear2: Linear,
}

impl Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.linear2.forward(gelu(self.linear1.forward(x)))
    }
}
