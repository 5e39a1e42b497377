//! ResNet-50 in three dimensions (Hara et al. 2018), the paper's from-scratch convolutional baseline.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{adaptive_avg_pool3d, conv3d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use serde::{Deserialize, Serialize};

use crate::heads::BatchNorm;
use crate::init::Init;
use crate::layers::Linear;

/// Shape of a [`ResNet`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Bottlenecks in each of the four stages.
    pub layers: [usize; 4],
    /// Width of the bottlenecks of each stage; a stage gives four times as many channels.
    pub planes: [usize; 4],
    /// Input channels: one per HU window.
    pub channels: usize,
    /// Logits.
    pub classes: usize,
}

impl Default for ResNetConfig {
    /// ResNet-50 with three channels and two logits: 46,203,074 parameters.
    fn default() -> Self {
        Self {
            layers: [3, 4, 6, 3],
            planes: [64, 128, 256, 512],
            channels: 3,
            classes: 2,
        }
    }
}

/// 3-D residual network with bottleneck blocks and projection shortcuts.
///
/// The first convolution and the first axis are as published: 7×7×7 with stride (1, 2, 2).
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv,
    bn1: BatchNorm,
    layer1: Vec<Bottleneck>,
    layer2: Vec<Bottleneck>,
    layer3: Vec<Bottleneck>,
    layer4: Vec<Bottleneck>,
    fc: Linear,
}

impl ResNet {
    /// A new network: Kaiming-normal convolutions, batch norms at identity.
    pub fn new(config: &ResNetConfig, init: &mut Init) -> Self {
        let [p1, p2, p3, p4] = config.planes;
        let [l1, l2, l3, l4] = config.layers;
        let stage = |input, planes, blocks, stride, init: &mut Init| {
            (0..blocks)
                .map(|index| {
                    let (input, stride) = if index == 0 {
                        (input, stride)
                    } else {
                        (planes * EXPANSION, 1)
                    };
                    Bottleneck::new(input, planes, stride, init)
                })
                .collect::<Vec<_>>()
        };
        Self {
            conv1: Conv::new(config.channels, p1, [7; 3], [1, 2, 2], init),
            bn1: BatchNorm::affine(p1, 1e-5, init),
            layer1: stage(p1, p1, l1, 1, init),
            layer2: stage(p1 * EXPANSION, p2, l2, 2, init),
            layer3: stage(p2 * EXPANSION, p3, l3, 2, init),
            layer4: stage(p3 * EXPANSION, p4, l4, 2, init),
            fc: Linear::new(p4 * EXPANSION, config.classes, true, init),
        }
    }

    /// Logits `[B, classes]` of volumes `[B, C, D, H, W]`, with running statistics.
    pub fn forward(&self, volume: Tensor<5>) -> Tensor<2> {
        let x = max_pool(relu(self.bn1.forward(self.conv1.forward(volume))));
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        let x = stages
            .into_iter()
            .flatten()
            .fold(x, |x, block| block.forward(x));
        self.classify(x)
    }

    /// Logits `[B, classes]` with the statistics of this batch.
    pub fn forward_train(&mut self, volume: Tensor<5>) -> Tensor<2> {
        let x = max_pool(relu(self.bn1.forward_train(self.conv1.forward(volume))));
        let stages = [
            &mut self.layer1,
            &mut self.layer2,
            &mut self.layer3,
            &mut self.layer4,
        ];
        let x = stages
            .into_iter()
            .flatten()
            .fold(x, |x, block| block.forward_train(x));
        self.classify(x)
    }

    fn classify(&self, x: Tensor<5>) -> Tensor<2> {
        let [batch, channels, ..] = x.dims();
        self.fc
            .forward(adaptive_avg_pool3d(x, [1; 3]).reshape([batch, channels]))
    }
}

/// 1×1×1, 3×3×3, 1×1×1 convolutions around a shortcut.
#[derive(Module, Debug)]
struct Bottleneck {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    conv3: Conv,
    bn3: BatchNorm,
    downsample: Option<(Conv, BatchNorm)>,
}

impl Bottleneck {
    fn new(input: usize, planes: usize, stride: usize, init: &mut Init) -> Self {
        let output = planes * EXPANSION;
        let batch_norm = |channels, init: &mut Init| BatchNorm::affine(channels, 1e-5, init);
        Self {
            conv1: Conv::new(input, planes, [1; 3], [1; 3], init),
            bn1: batch_norm(planes, init),
            conv2: Conv::new(planes, planes, [3; 3], [stride; 3], init),
            bn2: batch_norm(planes, init),
            conv3: Conv::new(planes, output, [1; 3], [1; 3], init),
            bn3: batch_norm(output, init),
            downsample: (stride > 1 || input != output).then(|| {
                (
                    Conv::new(input, output, [1; 3], [stride; 3], init),
                    batch_norm(output, init),
                )
            }),
        }
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let y = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        let y = relu(self.bn2.forward(self.conv2.forward(y)));
        let y = self.bn3.forward(self.conv3.forward(y));
        let shortcut = match &self.downsample {
            Some((conv, norm)) => norm.forward(conv.forward(x)),
            None => x,
        };
        relu(y + shortcut)
    }

    fn forward_train(&mut self, x: Tensor<5>) -> Tensor<5> {
        let y = relu(self.bn1.forward_train(self.conv1.forward(x.clone())));
        let y = relu(self.bn2.forward_train(self.conv2.forward(y)));
        let y = self.bn3.forward_train(self.conv3.forward(y));
        let shortcut = match &mut self.downsample {
            Some((conv, norm)) => norm.forward_train(conv.forward(x)),
            None => x,
        };
        relu(y + shortcut)
    }
}

/// Convolution without bias that keeps the size at stride 1.
#[derive(Module, Debug)]
struct Conv {
    weight: Param<Tensor<5>>,
    stride: [usize; 3],
}

impl Conv {
    fn new(
        input: usize,
        output: usize,
        kernel: [usize; 3],
        stride: [usize; 3],
        init: &mut Init,
    ) -> Self {
        let [d, h, w] = kernel;
        let fan_out = output * d * h * w;
        let deviation = (2.0 / fan_out as f32).sqrt();
        Self {
            weight: init.normal([output, input, d, h, w], deviation),
            stride,
        }
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let weight = self.weight.val();
        let [_, _, d, h, w] = weight.dims();
        let padding = [d / 2, h / 2, w / 2];
        conv3d(
            x,
            weight,
            None,
            ConvOptions::new(self.stride, padding, [1; 3], 1),
        )
    }
}

/// Channels a bottleneck gives for each of its width.
const EXPANSION: usize = 4;

/// 3×3×3 maximum with stride 2 and padding 1: first over the last two axes, then over the first.
fn max_pool(x: Tensor<5>) -> Tensor<5> {
    let [batch, channels, depth, height, width] = x.dims();
    let plane = MaxPoolOptions::new([3, 3])
        .with_stride([2, 2])
        .with_padding([1, 1]);
    let x = max_pool2d(x.reshape([batch * channels, depth, height, width]), plane);
    let [rows, depth, height, width] = x.dims();
    let line = MaxPoolOptions::new([3, 1])
        .with_stride([2, 1])
        .with_padding([1, 0]);
    let x = max_pool2d(x.reshape([rows, 1, depth, height * width]), line);
    let depth = x.dims()[2];
    x.reshape([batch, channels, depth, height, width])
}
