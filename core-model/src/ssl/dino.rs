//! DINO (Caron et al. 2021): a student matches, on every view of a scan, what its own moving
//! average sees on another view.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::activation::{gelu, log_softmax, softmax};
use burn::tensor::container::TensorContainer;
use burn::tensor::{Tensor, assert_shape};
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;
use crate::heads::BatchNorm;
use crate::init::Init;
use crate::layers::Linear;
use crate::state::replace;
use crate::vit::{Vit, VitConfig};

/// Shape of the projection head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DinoHeadConfig {
    /// Linear layers before the prototypes.
    #[serde(default = "published_layers")]
    pub layers: usize,
    /// Width of the hidden layers.
    pub hidden: usize,
    /// Width of the normalized bottleneck.
    pub bottleneck: usize,
    /// Number of prototypes.
    pub prototypes: usize,
    /// Whether the hidden layers are batch-normalized. A small head on a small model collapses
    /// without it.
    #[serde(default)]
    pub batch_norm: bool,
}

impl Default for DinoHeadConfig {
    /// The published head: 2048, 2048, 256, and 65,536 prototypes.
    fn default() -> Self {
        Self {
            layers: published_layers(),
            hidden: 2048,
            bottleneck: 256,
            prototypes: 65_536,
            batch_norm: false,
        }
    }
}

impl DinoHeadConfig {
    /// # Errors
    /// When a size is zero.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (object, size) in [
            ("layers", self.layers),
            ("hidden", self.hidden),
            ("bottleneck", self.bottleneck),
            ("prototypes", self.prototypes),
        ] {
            ConfigError::unless(size > 0, object, "must be positive", size)?;
        }
        Ok(())
    }
}

/// Linear layers of the published head.
fn published_layers() -> usize {
    3
}

/// Temperatures and momentum of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DinoLossConfig {
    /// Student temperature.
    pub student_temp: f64,
    /// How much of the old center stays at each step.
    pub center_momentum: f64,
}

impl Default for DinoLossConfig {
    fn default() -> Self {
        Self {
            student_temp: 0.1,
            center_momentum: 0.9,
        }
    }
}

/// Student, teacher and center: all that DINO must remember besides the optimizer.
#[derive(Debug, Clone)]
pub struct Dino {
    /// The network that is trained.
    pub student: DinoNet,
    /// Moving average of the student; no gradient is ever recorded for it.
    pub teacher: DinoNet,
    /// Running mean of the teacher's logits, `[K]`, subtracted before its softmax.
    pub center: Tensor<1>,
    loss: DinoLossConfig,
}

impl Dino {
    /// Starts with the teacher as a copy of the student and a zero center.
    pub fn new(student: DinoNet, loss: DinoLossConfig) -> Self {
        let teacher = student.valid();
        let prototypes = student.head.prototypes();
        let device = teacher.devices().remove(0);
        Self {
            teacher,
            center: Tensor::zeros([prototypes], &device),
            student,
            loss,
        }
    }

    /// Loss of one batch, and the center as it will be after it.
    ///
    /// The first `global` views are seen by the teacher; the student sees all of them.
    ///
    /// # Shapes
    /// each view `[B, C, R, R, R]`, loss `[1]`
    pub fn forward(&mut self, views: &[Tensor<5>], global: usize, teacher_temp: f64) -> Tensor<1> {
        let student = self.student.forward_train(views);
        let teacher = self.teacher.forward_train(&views[..global]);
        let teacher = teacher.inner();
        let (student_temp, keep) = (self.loss.student_temp, self.loss.center_momentum);
        let loss = dino_loss(
            student,
            teacher.clone(),
            self.center.clone(),
            student_temp,
            teacher_temp,
        );
        self.center = moved_center(self.center.clone(), teacher, keep);
        loss
    }

    /// Moves the teacher: θ_t ← m θ_t + (1 − m) θ_s, by the global step's momentum.
    pub fn update_teacher(&mut self, momentum: f64) {
        let teacher = self.teacher.clone();
        self.teacher = moving_average(teacher, &self.student, momentum);
    }
}

/// A backbone and the projection head that DINO trains it through.
#[derive(Module, Debug)]
pub struct DinoNet {
    /// The network whose class token is the embedding.
    pub backbone: Vit,
    /// The projection, thrown away after pre-training.
    pub head: DinoHead,
}

impl DinoNet {
    /// A new network.
    ///
    /// # Errors
    /// When `head` is invalid.
    pub fn new(
        vit: &VitConfig,
        head: &DinoHeadConfig,
        init: &mut Init,
    ) -> Result<Self, ConfigError> {
        let backbone = Vit::new(vit, init);
        Ok(Self {
            backbone,
            head: DinoHead::new(vit.dim, head, init)?,
        })
    }

    /// Prototype logits of each view `[V, B, K]`; views of one size go through in one batch.
    pub fn forward_train(&mut self, views: &[Tensor<5>]) -> Tensor<3> {
        let batch = views[0].dims()[0];
        let mut by_size = BTreeMap::<usize, Vec<usize>>::new();
        for (index, view) in views.iter().enumerate() {
            by_size.entry(view.dims()[2]).or_default().push(index);
        }
        let mut embeddings = vec![None; views.len()];
        for same in by_size.values() {
            let together = same.iter().map(|&index| views[index].clone()).collect();
            let embedding = self.backbone.embedding(Tensor::cat(together, 0));
            for (position, &index) in same.iter().enumerate() {
                embeddings[index] = Some(embedding.clone().narrow(0, position * batch, batch));
            }
        }
        let embeddings: Vec<Tensor<2>> = embeddings.into_iter().flatten().collect();
        let logits = self.head.forward_train(Tensor::cat(embeddings, 0));
        let prototypes = logits.dims()[1];
        logits.reshape([views.len(), batch, prototypes])
    }
}

/// A few linear layers, an L2-normalized bottleneck, and prototypes of unit length.
///
/// Source: DINO §3.1 and the released layout (`last_layer` gain frozen at 1).
#[derive(Module, Debug)]
pub struct DinoHead {
    mlp: Vec<HeadLayer>,
    last_layer: Prototypes,
}

/// One layer of the head; its index in the checkpoint counts activations too.
#[derive(Module, Debug)]
enum HeadLayer {
    Linear(Linear),
    Norm(BatchNorm),
    Gelu(Gelu),
}

/// GELU, as a module without parameters.
#[derive(Module, Debug)]
struct Gelu;

/// Weight-normalized last layer.
#[derive(Module, Debug)]
struct Prototypes {
    weight_g: Param<Tensor<2>>,
    weight_v: Param<Tensor<2>>,
}

impl DinoHead {
    /// A head on embeddings of width `dim`.
    ///
    /// # Errors
    /// When `config` is invalid.
    pub fn new(dim: usize, config: &DinoHeadConfig, init: &mut Init) -> Result<Self, ConfigError> {
        config.check()?;
        let DinoHeadConfig {
            layers,
            hidden,
            bottleneck,
            prototypes,
            batch_norm,
        } = *config;
        let mut mlp = Vec::new();
        let mut input = dim;
        for _ in 1..layers {
            mlp.push(HeadLayer::Linear(Linear::normal(input, hidden, init)));
            input = hidden;
            if batch_norm {
                mlp.push(HeadLayer::Norm(BatchNorm::affine(hidden, 1e-5, init)));
            }
            mlp.push(HeadLayer::Gelu(Gelu));
        }
        mlp.push(HeadLayer::Linear(Linear::normal(input, bottleneck, init)));
        let bound = 1.0 / (bottleneck as f32).sqrt();
        Ok(Self {
            mlp,
            last_layer: Prototypes {
                weight_g: init.buffer([prototypes, 1], vec![1.0; prototypes]),
                weight_v: init.uniform([prototypes, bottleneck], bound),
            },
        })
    }

    /// Number of prototypes.
    pub fn prototypes(&self) -> usize {
        self.last_layer.weight_v.shape().dims::<2>()[0]
    }

    /// Prototype logits with the running statistics of batch norm, if there is one.
    ///
    /// # Shapes
    /// `[B, E]` → `[B, K]`
    pub fn forward(&self, embedding: Tensor<2>) -> Tensor<2> {
        let bottleneck = self.mlp.iter().fold(embedding, |x, layer| match layer {
            HeadLayer::Linear(linear) => linear.forward(x),
            HeadLayer::Norm(norm) => norm.forward(x),
            HeadLayer::Gelu(_) => gelu(x),
        });
        self.last_layer.forward(unit(bottleneck))
    }

    /// Prototype logits with the statistics of this batch.
    ///
    /// # Shapes
    /// `[B, E]` → `[B, K]`
    pub fn forward_train(&mut self, embedding: Tensor<2>) -> Tensor<2> {
        let bottleneck = self.mlp.iter_mut().fold(embedding, |x, layer| match layer {
            HeadLayer::Linear(linear) => linear.forward(x),
            HeadLayer::Norm(norm) => norm.forward_train(x),
            HeadLayer::Gelu(_) => gelu(x),
        });
        self.last_layer.forward(unit(bottleneck))
    }
}

impl Prototypes {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let direction = self.weight_v.val();
        let length = direction.clone().square().sum_dim(1).sqrt();
        let weight = direction * (self.weight_g.val() / length);
        x.matmul(weight.transpose())
    }
}

/// Rows scaled to length 1.
fn unit(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    x / length
}

/// Cross-entropy between the teacher's and the student's prototypes over all pairs of different
/// views, averaged over the batch and the pairs.
///
/// The teacher's views are the first of the student's.
///
/// # Shapes
/// student `[V, B, K]`, teacher `[G, B, K]`, center `[K]`, loss `[1]`
pub fn dino_loss(
    student: Tensor<3>,
    teacher: Tensor<3>,
    center: Tensor<1>,
    student_temp: f64,
    teacher_temp: f64,
) -> Tensor<1> {
    let [views, batch, prototypes] = student.dims();
    let [global, _, _] = teacher.dims();
    assert_shape!(teacher, [global, batch, prototypes]);
    let centered = teacher - center.reshape([1, 1, prototypes]);
    let target = softmax(centered / teacher_temp, 2);
    // Every student view is paired with all teacher views but itself.
    let all = target.clone().sum_dim(0);
    let others = Tensor::cat(
        vec![all.clone().expand([global, batch, prototypes]) - target]
            .into_iter()
            .chain((views > global).then(|| all.expand([views - global, batch, prototypes])))
            .collect(),
        0,
    );
    let pairs = global * (views - 1);
    (others * log_softmax(student / student_temp, 2)).sum() / -((pairs * batch) as f64)
}

/// The center after a batch: a moving average of the teacher's mean logits over views and samples.
///
/// # Shapes
/// center `[K]`, teacher `[G, B, K]`
pub fn moved_center(center: Tensor<1>, teacher: Tensor<3>, momentum: f64) -> Tensor<1> {
    let [global, batch, prototypes] = teacher.dims();
    let mean = teacher
        .reshape([global * batch, prototypes])
        .mean_dim(0)
        .reshape([prototypes]);
    center * momentum + mean * (1.0 - momentum)
}

/// `momentum · old + (1 − momentum) · new`, tensor by tensor; both have the same structure.
///
/// Running statistics of batch norm are averaged like weights.
///
/// # Panics
/// When the modules do not share their parameter ids, as a teacher made by `student.valid()` does.
pub fn moving_average<M: Module>(old: M, new: &M, momentum: f64) -> M {
    let mut values = Values(TensorContainer::new());
    new.visit(&mut values);
    old.map(&mut Average {
        values: values.0,
        momentum,
    })
}

struct Values(TensorContainer<ParamId>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register(param.id, param.val().inner());
    }
}

struct Average {
    values: TensorContainer<ParamId>,
    momentum: f64,
}

impl ModuleMapper for Average {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let new: Tensor<D> = self
            .values
            .remove(&param.id)
            .expect("modules of the same structure");
        replace(param, |old| {
            old * self.momentum + new * (1.0 - self.momentum)
        })
    }
}
