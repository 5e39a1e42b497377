use std::sync::Arc;

use burn::tensor::Device;
use core_model::heads::ProbeKind;
use core_model::init::Init;
use core_model::state::{StateDict, state_dict};
use core_model::vit::Vit;
use half::f16;

use super::*;
use crate::evaluate::Part;
use crate::train::data::{Labelled, LabelledScan, Reading, Source, Windowed, stream};
use crate::train::{Config, Plan, Preset, TrainError};

mod trials;
mod unreadable;

/// Noise, with a bright corner in the scans that are positive.
#[derive(Debug)]
struct Corner(usize);

fn positive(scan: usize) -> bool {
    stream(5, "positive", &[scan as u64]).is_multiple_of(3)
}

impl Source for Corner {
    fn len(&self) -> usize {
        self.0
    }

    fn id(&self, scan: usize) -> String {
        format!("scan-{scan}")
    }

    fn load(&self, scan: usize, _: Reading) -> Result<Arc<Windowed>, String> {
        let voxel = |place: usize| {
            let noise = stream(6, "voxel", &[scan as u64, place as u64]) as f32 / u64::MAX as f32;
            let [i, j, k] = [place / 64 % 8, place / 8 % 8, place % 8];
            let lesion = positive(scan) && i < 4 && j < 4 && k < 4;
            f16::from_f32(0.5 * noise + if lesion { 0.4 } else { 0.0 })
        };
        Ok(Arc::new(Windowed {
            channels: 3,
            size: 8,
            values: (0..3 * 512).map(voxel).collect(),
        }))
    }
}

fn labelled(scans: usize) -> Labelled {
    let row = |scan: usize| LabelledScan {
        patient: format!("p{scan}").into(),
        scan: format!("scan-{scan}").into(),
        site: None,
        manufacturer: None,
        thickness: None,
        sex: None,
        age: None,
        part: [Part::Train, Part::Train, Part::Validation, Part::Test][scan % 4],
        labels: vec![(!scan.is_multiple_of(7)).then_some(positive(scan))],
    };
    let rows = (0..scans).map(row).collect();
    Labelled::new(Arc::new(Corner(scans)), vec!["SDH".into()], rows).unwrap()
}

fn plan(settings: &[&str]) -> Plan {
    let shape = [
        "model.input=8",
        "model.patch=4",
        "model.dim=24",
        "model.depth=1",
        "model.heads=2",
        "model.mlp=24",
        "finetune.draws=48",
        "finetune.batch=8",
        "finetune.epochs=4",
        "finetune.backbone_lr=3e-3",
        "finetune.head_lr=3e-2",
        "finetune.flip=[0.0, 0.0, 0.0]",
    ];
    let settings: Vec<String> = shape
        .iter()
        .chain(settings)
        .map(|s| (*s).to_owned())
        .collect();
    Plan::new(Config::resolve(Preset::Tiny, None, &settings).unwrap()).unwrap()
}

fn backbone(plan: &Plan, seed: u64) -> StateDict {
    state_dict(&Vit::new(
        plan.vit(),
        &mut Init::seeded(seed, &Device::flex()),
    ))
}

fn finetuning(plan: &Plan, start: Start<'_>, draw: &Draw) -> Finetuning {
    let config = &plan.config().finetune;
    let total = draw.steps(config.epochs, config.batch);
    Finetuning::new(
        plan,
        ProbeKind::Linear,
        1,
        start,
        (1, total),
        &Device::flex(),
    )
    .unwrap()
}

fn fitted(learner: &mut dyn Learner, set: &Labelled, draw: &Draw, plan: &Plan) -> (Fit, f64) {
    let epochs = plan.config().finetune.epochs;
    let fit = fit(learner, set, draw, epochs, 1, &mut |_, _, _| {}).unwrap();
    let test = set.part(Part::Test);
    let auc = macro_auc(set, &test, &learner.scores(set, &test).unwrap());
    (fit, auc)
}

#[test]
fn fine_tuning_learns_moves_the_backbone_and_is_the_same_each_time() {
    let (plan, set) = (plan(&[]), labelled(160));
    let draw = Draw::balanced(&set, plan.config().finetune.draws).unwrap();
    let weights = backbone(&plan, 3);
    let run = || {
        let mut learner = finetuning(&plan, Start::Backbone(&weights), &draw);
        let (fit, auc) = fitted(&mut learner, &set, &draw, &plan);
        assert_eq!(fit.curve.len(), 4);
        assert_eq!(fit.validation_auc, fit.curve[fit.best_epoch - 1]);
        assert_eq!(learner.steps_done(), 24);
        (auc, learner.parameters())
    };
    let (auc, parameters) = run();
    assert!(auc > 0.85, "AUC {auc}");
    // A backbone that records no gradient would quietly make this a probe.
    for (name, tensor) in &weights {
        assert_ne!(
            &parameters[&format!("backbone.{name}")],
            tensor,
            "{name} has not moved"
        );
    }
    assert!(run() == (auc, parameters));
}

#[test]
fn both_probes_learn_on_features_that_never_move() {
    let (plan, set) = (plan(&["finetune.epochs=12"]), labelled(160));
    let draw = Draw::balanced(&set, plan.config().finetune.draws).unwrap();
    let scans: Vec<usize> = (0..160).collect();
    let weights = backbone(&plan, 3);
    for kind in [ProbeKind::Linear, ProbeKind::Attentive] {
        let device = Device::flex();
        let features =
            FeatureTable::compute(&plan, Some(&weights), kind, &set, &scans, &device).unwrap();
        let config = &plan.config().finetune;
        let steps = draw.steps(config.epochs, config.batch);
        let mut learner = Probing::new(&plan, kind, 1, Arc::new(features), (1, steps), &device);
        let (_, auc) = fitted(&mut learner, &set, &draw, &plan);
        assert!(auc > 0.7, "{kind:?}: AUC {auc}");
        assert!(
            learner
                .parameters()
                .keys()
                .all(|name| name.starts_with("heads."))
        );
    }
}

#[test]
fn a_score_does_not_depend_on_the_other_scans_of_its_batch() {
    let (plan, set) = (plan(&[]), labelled(40));
    let draw = Draw::balanced(&set, 16).unwrap();
    let mut learner = finetuning(&plan, Start::Scratch, &draw);
    learner.train(&set, &[1, 2, 4, 5, 8, 9], 1).unwrap();
    let together = learner.scores(&set, &[3, 10, 11]).unwrap();
    let alone: Vec<f64> = [3, 10, 11]
        .iter()
        .flat_map(|scan| learner.scores(&set, &[*scan]).unwrap())
        .collect();
    for (a, b) in together.iter().zip(alone) {
        assert!((a - b).abs() < 1e-6, "{a} and {b}");
    }
}

#[test]
fn parameters_moments_and_step_carry_fine_tuning_over() {
    let (plan, set) = (plan(&[]), labelled(40));
    let draw = Draw::balanced(&set, 16).unwrap();
    let scans = [1, 2, 4, 5, 8, 9, 12, 13];
    let mut whole = finetuning(&plan, Start::Scratch, &draw);
    whole.train(&set, &scans, 1).unwrap();
    let mut other = finetuning(&plan, Start::Backbone(&backbone(&plan, 9)), &draw);
    other.load(&whole.parameters()).unwrap();
    other.set_moments(&whole.moments()).unwrap();
    other.set_steps_done(whole.steps_done());
    whole.train(&set, &scans, 2).unwrap();
    other.train(&set, &scans, 2).unwrap();
    assert!(whole.parameters() == other.parameters());
}

#[test]
fn every_optimizer_of_the_sweep_learns() {
    let set = labelled(160);
    for optimizer in ["adam", "adamw", "sgd"] {
        let setting = format!("finetune.optimizer={optimizer}");
        let plan = plan(&[&setting, "finetune.epochs=6"]);
        let draw = Draw::balanced(&set, plan.config().finetune.draws).unwrap();
        let mut learner = finetuning(&plan, Start::Scratch, &draw);
        let (fit, _) = fitted(&mut learner, &set, &draw, &plan);
        assert!(
            fit.validation_auc > 0.7,
            "{optimizer}: {}",
            fit.validation_auc
        );
    }
}

#[test]
fn the_baseline_network_takes_a_step_and_no_backbone() {
    let set = labelled(40);
    let plan = plan(&["model.architecture=resnet50-3d", "finetune.warmup=0.0"]);
    let draw = Draw::balanced(&set, 16).unwrap();
    let weights = backbone(&plan, 3);
    let start = Start::Backbone(&weights);
    let error = Finetuning::new(&plan, ProbeKind::Linear, 1, start, (1, 8), &Device::flex());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("trains from scratch only"), "{error}");

    let mut learner = finetuning(&plan, Start::Scratch, &draw);
    let before = learner.parameters();
    let loss = learner.train(&set, &[1, 2, 4, 5], 1).unwrap();
    let after = learner.parameters();
    assert!(loss > 0.0 && loss.is_finite(), "{loss}");
    for name in ["conv1.weight", "layer4.2.conv3.weight", "fc.weight"] {
        assert!(before[name] != after[name], "{name} has not moved");
    }
    let scores = learner.scores(&set, &[1, 2]).unwrap();
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
}

#[test]
fn a_gradient_that_is_no_number_stops_fine_tuning_with_its_scans() {
    let (plan, set) = (plan(&[]), labelled(40));
    let draw = Draw::balanced(&set, 16).unwrap();
    let mut weights = backbone(&plan, 3);
    // Outputs stay what they were: one layer's weights shrink as the next one's grow.
    const FACTOR: f32 = 1e30;
    for (name, factor) in [
        ("blocks.0.att_norm.weight", 1.0 / FACTOR),
        ("blocks.0.attn.qkv.weight", FACTOR),
    ] {
        let tensor = weights.get_mut(name).unwrap();
        tensor.values.iter_mut().for_each(|value| *value *= factor);
    }
    let mut learner = finetuning(&plan, Start::Backbone(&weights), &draw);
    let before = learner.parameters();
    let error = learner.train(&set, &[1, 2, 4, 5], 1).unwrap_err();
    let TrainError::Diverged {
        step,
        figure,
        scans,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*step, *figure), (1, "gradient norm"), "{error}");
    assert_eq!(*scans, ["scan-1", "scan-2", "scan-4", "scan-5"]);
    let moved = learner.parameters();
    let trained = |(name, _): &(&String, &_)| !name.contains("running_");
    assert!(
        before
            .iter()
            .filter(trained)
            .eq(moved.iter().filter(trained))
    );
}

#[test]
fn weights_of_another_architecture_are_refused_with_every_difference() {
    let plan = plan(&[]);
    let mut weights = backbone(&plan, 3);
    let tensor = weights.remove("norm.weight").unwrap();
    weights.insert("norm.gain".into(), tensor);
    let start = Start::Backbone(&weights);
    let error = Finetuning::new(&plan, ProbeKind::Linear, 1, start, (1, 8), &Device::flex());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("missing key norm.weight"), "{error}");
    assert!(error.contains("unexpected key norm.gain"), "{error}");
}

#[test]
fn a_part_without_positives_and_a_leak_are_refused() {
    let plan = plan(&[]);
    let set = labelled(40);
    let none = set.clone().with_parts(|scan, row| {
        if positive(scan) && row.part == Part::Validation {
            Part::Train
        } else {
            row.part
        }
    });
    let draw = Draw::balanced(&none, 16).unwrap();
    let mut learner = finetuning(&plan, Start::Scratch, &draw);
    let error = fit(&mut learner, &none, &draw, 1, 1, &mut |_, _, _| {})
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("SDH") && error.contains("validation part has 0 positive"),
        "{error}"
    );

    let leak = set.rows().iter().map(|row| LabelledScan {
        patient: "p1".into(),
        ..row.clone()
    });
    let error =
        Labelled::new(Arc::new(Corner(40)), vec!["SDH".into()], leak.collect()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("patient p1: in the train part and in the"),
        "{error}"
    );
}

#[test]
fn a_label_with_a_side_is_known_by_its_name() {
    assert!(sided("BleedLocation-Left") && sided("bleed_right"));
    assert!(!sided("SDH") && !sided("MidlineShift"));
}

#[test]
fn scans_of_a_label_with_a_side_are_never_mirrored() {
    let plan = plan(&["finetune.flip=[1.0, 0.0, 0.0]", "finetune.shift=0.0"]);
    let scan = Corner(1).load(0, Reading::Training).unwrap();
    let augmented = |task: &str| {
        let set = labelled(40);
        let rows = set.rows().to_vec();
        let set = Labelled::new(Arc::new(Corner(40)), vec![task.into()], rows).unwrap();
        let draw = Draw::balanced(&set, 16).unwrap();
        let learner = finetuning(&plan, Start::Scratch, &draw);
        let mut values = Vec::new();
        scan.augmented(&learner.augmentation(&set), 1, &mut values);
        values
    };
    let whole = scan.to_f32();
    let mirrored = (0..whole.len()).map(|place| {
        let (channel, voxel) = (place / 512, place % 512);
        whole[channel * 512 + (7 - voxel / 64) * 64 + voxel % 64]
    });
    assert_eq!(augmented("SDH"), mirrored.collect::<Vec<_>>());
    assert_eq!(augmented("BleedLocation-Left"), whole);
}
