//! Single steps, without a run around them.

use super::*;
use crate::train::record::Verdict;

/// One step on the passes of a global batch, in passes of `pass` scans.
fn one_step(objective: Objective, pass: usize, settings: &[&str]) -> Pretraining {
    let sizes = [
        format!("dino.device_batch={pass}"),
        format!("mae.device_batch={pass}"),
    ];
    let settings: Vec<&str> = settings
        .iter()
        .copied()
        .chain(sizes.iter().map(|s| &**s))
        .collect();
    let plan = plan(&settings);
    let feed = Feed::new(&plan, objective, scans(20));
    let mut training = Pretraining::new(&plan, objective, 20, &device()).unwrap();
    let passes = (0..training.passes()).map(|pass| Ok(feed.prepare(pass)));
    training.step(passes).unwrap();
    training
}

/// The gradients of the first step times 1 − β₁: Adam's first moment.
fn gradients(training: &Pretraining) -> StateDict {
    let moments = training.moments().into_iter();
    moments
        .filter(|(name, _)| name.starts_with("exp_avg."))
        .collect()
}

#[test]
fn a_gradient_accumulated_over_passes_is_that_of_the_large_batch_and_so_is_the_step() {
    // Every parameter moves at once, by about the learning rate of 0.012, and no gradient is
    // bounded. Without batch norm a scan's loss does not depend on its neighbors.
    let settings = [
        "dino.head_batch_norm=false",
        "dino.warmup={ steps = 0 }",
        "mae.warmup={ steps = 0 }",
        "dino.base_lr=0.5",
        "mae.base_lr=0.5",
        "dino.clip=0.0",
        "mae.clip=0.0",
        "dino.freeze_last_layer={ steps = 0 }",
    ];
    for objective in OBJECTIVES {
        let start = Pretraining::new(&plan(&settings), objective, 20, &device()).unwrap();
        let (whole, parts) = (
            one_step(objective, 6, &settings),
            one_step(objective, 2, &settings),
        );
        let (whole_gradients, part_gradients) = (gradients(&whole), gradients(&parts));
        assert_eq!(whole_gradients.len(), part_gradients.len());
        let largest = whole_gradients.values().flat_map(|tensor| &tensor.values);
        let largest = largest.fold(0.0f32, |most, value| most.max(value.abs()));
        let (start, [whole_after, parts_after]) = (
            start.parameters(),
            [&whole, &parts].map(Pretraining::parameters),
        );
        let (mut moved, mut compared) = (0.0f32, 0);
        for (name, gradient) in &whole_gradients {
            let key = name.strip_prefix("exp_avg.").unwrap();
            for (place, a) in gradient.values.iter().enumerate() {
                let b = part_gradients[name].values[place];
                let off = (a - b).abs() / largest;
                assert!(off < 1e-5, "{objective:?} {name}: {a} and {b}");
                // Adam divides by the gradient: where that is zero but for rounding, the step is
                // rounding too.
                if a.abs() > 1e-4 * largest {
                    let [from, one, other] =
                        [&start, &whole_after, &parts_after].map(|state| state[key].values[place]);
                    moved = moved.max((one - from).abs());
                    assert!(
                        (one - other).abs() < 1e-5,
                        "{objective:?} {key}: {one} and {other}"
                    );
                    compared += 1;
                }
            }
        }
        assert!(
            moved > 1e-3 && compared > 20,
            "{objective:?}: {moved}, {compared}"
        );
        let centers = whole
            .center()
            .into_iter()
            .flatten()
            .zip(parts.center().into_iter().flatten());
        for (a, b) in centers {
            assert!((a - b).abs() < 1e-6, "center: {a} and {b}");
        }
    }
}

#[test]
fn a_step_spread_over_devices_is_the_step_of_one_bit_for_bit() {
    for objective in OBJECTIVES {
        let plan = plan(&["dino.device_batch=2", "mae.device_batch=2"]);
        let feed = Feed::new(&plan, objective, scans(20));
        let stepped = |peers: usize| {
            let mut training = Pretraining::new(&plan, objective, 20, &device()).unwrap();
            let peers: Vec<Device> = (0..peers).map(|_| device()).collect();
            training.spread_over(&peers).unwrap();
            for step in 0..2 {
                let passes = (0..3).map(|pass| Ok(feed.prepare(3 * step + pass)));
                training.step(passes).unwrap();
            }
            training
        };
        let (one, three) = (stepped(0), stepped(2));
        let without_statistics = |training: &Pretraining| -> StateDict {
            let parameters = training.parameters().into_iter();
            parameters
                .filter(|(name, _)| !name.contains("running_"))
                .collect()
        };
        assert!(
            without_statistics(&one) == without_statistics(&three),
            "{objective:?}: parameters"
        );
        assert!(one.moments() == three.moments(), "{objective:?}: moments");
        assert!(one.center() == three.center(), "{objective:?}: center");

        let mut uneven = Pretraining::new(&plan, objective, 20, &device()).unwrap();
        let error = uneven.spread_over(&[device()]).unwrap_err().to_string();
        assert!(error.contains("2 devices for 3 passes"), "{error}");
    }
}

#[test]
fn a_step_asks_for_a_pass_when_a_device_is_free_for_it() {
    for objective in OBJECTIVES {
        let plan = plan(&[
            "dino.device_batch=2",
            "mae.device_batch=2",
            "dino.head_batch_norm=false",
        ]);
        let feed = Feed::new(&plan, objective, scans(20));
        let mut training = Pretraining::new(&plan, objective, 20, &device()).unwrap();
        let before = training.parameters();
        let error = training.step((0..2).map(|pass| Ok(feed.prepare(pass))));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("expected 6 scans, found 4"), "{error}");

        // The first pass is trained on before the second is asked for: it diverges, and nobody
        // asks again.
        let mut asked = 0;
        let poisoned = (0..3).map(|pass| {
            asked += 1;
            let mut batch = feed.prepare(pass);
            batch.views[0].values.fill(f32::NAN);
            Ok(batch)
        });
        let error = training.step(poisoned).unwrap_err().to_string();
        assert!(error.contains("loss is NaN"), "{error}");
        assert_eq!(asked, 1, "{objective:?}");
        assert!(training.parameters() == before, "{objective:?}: untouched");
        assert_eq!(training.steps_done(), 0);
    }
}

#[test]
fn frozen_prototypes_move_only_after_their_time() {
    let plan = plan(&[]);
    let feed = Feed::new(&plan, Objective::Dino, scans(20));
    let mut training = Pretraining::new(&plan, Objective::Dino, 20, &device()).unwrap();
    let prototypes =
        |training: &Pretraining| training.parameters()["head.last_layer.weight_v"].clone();
    let start = prototypes(&training);
    for step in 0..4 {
        training.step([Ok(feed.prepare(step))]).unwrap();
        assert_eq!(prototypes(&training) == start, step < 2, "step {step}");
    }
}

#[test]
fn the_watch_sees_several_scans_however_few_fit_a_pass() {
    let seen = |settings: &[&str]| {
        let plan = plan(settings);
        let feed = Feed::new(&plan, Objective::Dino, scans(20));
        let mut training = Pretraining::new(&plan, Objective::Dino, 20, &device()).unwrap();
        let passes = training.passes();
        let step = (0..passes).map(|pass| Ok(feed.prepare(pass)));
        training.step(step).unwrap();
        Watch::default().look(&training, &feed).unwrap()
    };
    let plain = "dino.head_batch_norm=false";
    let (whole, parts) = (seen(&[plain]), seen(&["dino.device_batch=1", plain]));
    assert_eq!((whole.scans, parts.scans), (6, 6));
    assert!((whole.mean_entropy - parts.mean_entropy).abs() < 1e-4);
    assert!((whole.feature_std - parts.feature_std).abs() < 1e-4);
    let one = seen(&["dino.global_batch=1", "dino.device_batch=1", plain]);
    assert_eq!(one.verdict(24), Verdict::Undecided);
}

#[test]
fn a_model_of_one_channel_takes_steps_of_both_objectives() {
    for objective in OBJECTIVES {
        let plan = plan(&["model.channels=1"]);
        let source = Synthetic {
            scans: 20,
            channels: 1,
            ..Synthetic::default()
        };
        let feed = Arc::new(Feed::new(&plan, objective, Arc::new(source)));
        let mut training = Pretraining::new(&plan, objective, 20, &device()).unwrap();
        let patches = "patch_embedding.patch_embeddings.weight";
        let before = training.backbone()[patches].clone();
        assert_eq!(before.shape, [12, 1, 4, 4, 4]);
        let go_on = &mut |_: &Pretraining, _: &StepReport, _: &Skipped| ControlFlow::Continue(());
        let stretch = training
            .train(&feed, 3, &mut Skipped::default(), go_on)
            .unwrap();
        assert!(stretch.loss.is_finite(), "{objective:?}");
        assert!(training.backbone()[patches] != before, "{objective:?}");
    }
}
