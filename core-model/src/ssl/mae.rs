//! Masked autoencoder (He et al. 2022, MAE) on head CT: hide most patches, reconstruct them.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::mask::Mask;
use crate::error::ConfigError;
use crate::init::Init;
use crate::layers::{LayerNorm, Linear};
use crate::pos_embed;
use crate::vit::{Block, PatchEmbedding, VitConfig};

/// Shape of the decoder and form of the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaeConfig {
    /// Width of a decoder token.
    pub decoder_dim: usize,
    /// Decoder blocks.
    pub decoder_depth: usize,
    /// Decoder attention heads.
    pub decoder_heads: usize,
    /// Width of the hidden layer of a decoder block's MLP.
    pub decoder_mlp: usize,
    /// Share of patches that are hidden.
    pub mask_ratio: f64,
    /// Whether each target patch is normalized by its own mean and deviation.
    pub norm_pix_loss: bool,
}

impl Default for MaeConfig {
    /// The published decoder: 768 wide, 8 blocks, 16 heads; three quarters hidden.
    fn default() -> Self {
        Self {
            decoder_dim: 768,
            decoder_depth: 8,
            decoder_heads: 16,
            decoder_mlp: 3072,
            mask_ratio: 0.75,
            norm_pix_loss: false,
        }
    }
}

impl MaeConfig {
    /// # Errors
    /// When a size is zero, `decoder_heads` does not divide `decoder_dim`, `decoder_dim` is not a
    /// multiple of 6, or `mask_ratio` is not in (0, 1).
    pub fn check(&self) -> Result<(), ConfigError> {
        for (object, size) in [
            ("decoder_dim", self.decoder_dim),
            ("decoder_depth", self.decoder_depth),
            ("decoder_heads", self.decoder_heads),
            ("decoder_mlp", self.decoder_mlp),
        ] {
            ConfigError::unless(size > 0, object, "must be positive", size)?;
        }
        let (dim, heads) = (self.decoder_dim, self.decoder_heads);
        let sizes = format!("decoder_dim {dim}, decoder_heads {heads}");
        let divides = dim.is_multiple_of(heads);
        ConfigError::unless(divides, "decoder_heads", "must divide decoder_dim", sizes)?;
        let six = dim.is_multiple_of(6);
        ConfigError::unless(six, "decoder_dim", "must be a multiple of 6", dim)?;
        let inside = self.mask_ratio > 0.0 && self.mask_ratio < 1.0;
        ConfigError::unless(
            inside,
            "mask_ratio",
            "must be between 0 and 1",
            self.mask_ratio,
        )
    }
}

/// Masked autoencoder: an encoder like [`Vit`](crate::vit::Vit) on visible patches, a small decoder
/// on all of them.
///
/// Deviations from MAE, as released by FM-CT: the encoder's position table is trained, the class
/// token has no position, and every layer norm has epsilon 1e-5.
#[derive(Module, Debug)]
pub struct Mae {
    patch_embedding: PatchEmbedding,
    cls_token: Param<Tensor<3>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    decoder_embed: Linear,
    mask_token: Param<Tensor<3>>,
    decoder_cls_token: Param<Tensor<3>>,
    /// Fixed sine–cosine table.
    decoder_pos_embed: Param<Tensor<3>>,
    decoder_blocks: Vec<Block>,
    decoder_norm: LayerNorm,
    decoder_pred: Linear,
    patch: usize,
    norm_pix_loss: bool,
}

/// What a forward pass of [`Mae`] gives.
#[derive(Debug)]
pub struct Reconstruction {
    /// Mean squared error over the hidden patches, `[1]`.
    pub loss: Tensor<1>,
    /// Predicted voxels of every patch `[B, N, P³·C]`, channels last.
    pub prediction: Tensor<3>,
}

impl Mae {
    /// A new autoencoder: Xavier linear layers, normal tokens. The encoder has qkv biases as
    /// `encoder` says and no registers.
    ///
    /// # Errors
    /// When `config` is invalid, or `encoder` has registers.
    pub fn new(
        encoder: &VitConfig,
        config: &MaeConfig,
        init: &mut Init,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let registers = encoder.registers;
        ConfigError::unless(registers == 0, "registers", "must be 0 for MAE", registers)?;
        let (dim, wide) = (encoder.dim, config.decoder_dim);
        let xavier = Linear::xavier;
        let table = pos_embed::sincos(wide, encoder.grid());
        let values = encoder.patch.pow(3) * encoder.channels;
        Ok(Self {
            patch_embedding: PatchEmbedding::new(encoder, init),
            cls_token: init.normal([1, 1, dim], 0.02),
            blocks: (0..encoder.depth)
                .map(|_| {
                    Block::new(
                        dim,
                        encoder.heads,
                        encoder.mlp,
                        encoder.qkv_bias,
                        xavier,
                        init,
                    )
                })
                .collect(),
            norm: LayerNorm::new(dim, 1e-5, init),
            decoder_embed: xavier(dim, wide, true, init),
            mask_token: init.normal([1, 1, wide], 0.02),
            decoder_cls_token: init.normal([1, 1, wide], 0.02),
            decoder_pos_embed: init.buffer([1, encoder.patches(), wide], table),
            decoder_blocks: (0..config.decoder_depth)
                .map(|_| {
                    let (heads, mlp) = (config.decoder_heads, config.decoder_mlp);
                    Block::new(wide, heads, mlp, encoder.qkv_bias, xavier, init)
                })
                .collect(),
            decoder_norm: LayerNorm::new(wide, 1e-5, init),
            decoder_pred: xavier(wide, values, true, init),
            patch: encoder.patch,
            norm_pix_loss: config.norm_pix_loss,
        })
    }

    /// Hides patches as `mask` says, reconstructs them, and measures the error on the hidden ones.
    ///
    /// # Shapes
    /// volume `[B, C, R, R, R]`
    pub fn forward(&self, volume: Tensor<5>, mask: &Mask) -> Reconstruction {
        let target = self.target(volume.clone());
        let prediction = self.decode(self.encode(volume, mask), mask);
        let hidden = mask.hidden(&prediction.device());
        let [batch, tokens, _] = prediction.dims();
        let error = (prediction.clone() - target)
            .square()
            .mean_dim(2)
            .reshape([batch, tokens]);
        let count = (batch * (tokens - mask.keep())) as f64;
        Reconstruction {
            loss: (error * hidden).sum() / count,
            prediction,
        }
    }

    /// Class token and visible patches after the encoder, `[B, 1 + keep, E]`.
    fn encode(&self, volume: Tensor<5>, mask: &Mask) -> Tensor<3> {
        let visible = mask.select(self.patch_embedding.forward(volume));
        let [batch, _, dim] = visible.dims();
        let tokens = Tensor::cat(
            vec![self.cls_token.val().expand([batch, 1, dim]), visible],
            1,
        );
        self.norm
            .forward(self.blocks.iter().fold(tokens, |x, block| block.forward(x)))
    }

    /// Predicted voxels of every patch, `[B, N, P³·C]`.
    fn decode(&self, encoded: Tensor<3>, mask: &Mask) -> Tensor<3> {
        let tokens = self.decoder_embed.forward(encoded);
        let [batch, seen, dim] = tokens.dims();
        let visible = tokens.narrow(1, 1, seen - 1);
        let hidden = mask.tokens() - mask.keep();
        let filler = self.mask_token.val().expand([batch, hidden, dim]);
        let patches = mask.unshuffle(Tensor::cat(vec![visible, filler], 1));
        let patches = patches + self.decoder_pos_embed.val();
        let cls = self.decoder_cls_token.val().expand([batch, 1, dim]);
        let tokens = Tensor::cat(vec![cls, patches], 1);
        let tokens = self
            .decoder_blocks
            .iter()
            .fold(tokens, |x, block| block.forward(x));
        let prediction = self.decoder_pred.forward(self.decoder_norm.forward(tokens));
        prediction.narrow(1, 1, mask.tokens())
    }

    /// True voxels of every patch `[B, N, P³·C]`: patch axes first, channels last.
    fn target(&self, volume: Tensor<5>) -> Tensor<3> {
        let [batch, channels, side, _, _] = volume.dims();
        let (grid, patch) = (side / self.patch, self.patch);
        let values = patch.pow(3) * channels;
        let target = volume
            .reshape([batch, channels, grid, patch, grid, patch, grid, patch])
            .permute([0, 2, 4, 6, 3, 5, 7, 1])
            .reshape([batch, grid.pow(3), values]);
        if !self.norm_pix_loss {
            return target;
        }
        let centered = target.clone() - target.mean_dim(2);
        let variance = centered.clone().square().sum_dim(2) / (values - 1) as f64;
        centered / (variance + 1e-6).sqrt()
    }
}
