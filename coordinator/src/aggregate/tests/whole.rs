//! What holds of any strategy: every part of the model, every encoding, the same bytes again, refusal.

use super::*;

#[test]
fn statistics_are_averaged_and_local_tensors_untouched() {
    let config = strategy(
        "name = \"fedadam\", server_learning_rate = 0.5, beta1 = 0.9, beta2 = 0.99, tau = 0.25",
    );
    let layout = Layout::new(TENSORS, &config);
    let (base, sites) = (model(&layout), sites(&layout, 3));
    let outcome = run(&config, &layout, &base, None, &sites).unwrap();
    let section = layout.model_section(Part::Statistics).unwrap();
    let delta = mean(&sites, by_examples(&sites), |site| &site.statistics);
    assert_close(
        &numbers(&outcome.model, section),
        &added(&numbers(&base, section), &delta),
    );
    let section = layout.model_section(Part::Local).unwrap();
    assert_eq!(numbers(&outcome.model, section), numbers(&base, section));
}

#[test]
fn the_teacher_follows_with_the_momentum_of_the_whole_round() {
    let config = config("dino = { teacher_momentum = { start = 0.99, end = 0.99 } }");
    let layout = Layout::new(TENSORS, &config);
    let (base, sites) = (model(&layout), sites(&layout, 3));
    let outcome = run(&config, &layout, &base, None, &sites).unwrap();
    let (weights, teacher) = (
        layout.model_section(Part::Weights).unwrap(),
        layout.model_section(Part::Teacher).unwrap(),
    );
    let momentum = 0.99_f64.powi(10);
    let expected: Vec<f64> = numbers(&base, teacher)
        .iter()
        .zip(numbers(&outcome.model, weights))
        .map(|(old, new)| momentum * old + (1.0 - momentum) * new)
        .collect();
    assert_close(&numbers(&outcome.model, teacher), &expected);
}

#[test]
fn lossy_encodings_fold_what_they_decode_to() {
    for encoding in ["bf16", "int8"] {
        let config = config(&format!(
            "dino = {{ teacher = \"local\" }}\nencoding = {{ update = \"{encoding}\" }}"
        ));
        let (sites, base, new) = weights(&config, |layout| {
            let mut sites = sites(layout, 3);
            for site in &mut sites {
                let kind = if encoding == "bf16" {
                    Encoding::Bf16
                } else {
                    Encoding::Int8
                };
                let values: Vec<f32> = site.weights.iter().map(|&value| value as f32).collect();
                let (mut bytes, mut decoded) = (Vec::new(), vec![0.0; values.len()]);
                kind.encode(&values, 0, 7, &mut bytes);
                kind.decode(&bytes, &mut decoded).unwrap();
                site.weights = decoded.iter().map(|&value| value.into()).collect();
            }
            sites
        });
        let delta = mean(&sites, by_examples(&sites), |site| &site.weights);
        for (found, expected) in new.iter().zip(added(&base, &delta)) {
            // Encoding a decoded value again may move it by one level of its block.
            assert!((found - expected).abs() < 0.1 / 127.0);
        }
    }
}

#[test]
fn aggregating_again_gives_the_same_bytes() {
    for text in [
        "name = \"fedavg\"",
        "name = \"median\"",
        "name = \"l-dawa\"",
        "name = \"krum\", malicious = 1",
    ] {
        let config = strategy(text);
        let layout = Layout::new(TENSORS, &config);
        let (base, sites) = (model(&layout), sites(&layout, 6));
        let first = run(&config, &layout, &base, None, &sites).unwrap();
        let single = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        let second = single
            .install(|| run(&config, &layout, &base, None, &sites))
            .unwrap();
        assert_eq!(first.model, second.model, "{text}");
    }
}

#[test]
fn shares_in_the_summary_add_up_to_one() {
    let config = strategy("name = \"fedavg\"");
    let layout = Layout::new(TENSORS, &config);
    let outcome = run(&config, &layout, &model(&layout), None, &sites(&layout, 5)).unwrap();
    assert!((outcome.summary.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    assert!(outcome.summary.delta_norm > 0.0);
}

#[test]
fn an_empty_aggregate_and_too_few_updates_are_refused() {
    let config = strategy("name = \"krum\", malicious = 2");
    let layout = Layout::new(TENSORS, &config);
    let error = run(&config, &layout, &model(&layout), None, &[])
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "aggregate: expected at least one update, found none"
    );
    let error = run(&config, &layout, &model(&layout), None, &sites(&layout, 6))
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "aggregate: krum needs at least 7 updates, found 6"
    );
}

#[test]
fn poisoned_bytes_are_found_before_anything_is_folded() {
    let config = config("dino = { teacher = \"local\" }\nlimits = { max_update_norm = 10.0 }");
    let layout = Layout::new(TENSORS, &config);
    let good = sites(&layout, 1).remove(0);
    let look = |bytes: &Vec<u8>| inspect(&config, &layout, bytes).unwrap();
    let norm_found = look(&update(&layout, &good)).unwrap();
    assert!((norm_found - norm(&good.weights)).abs() < 1e-9);
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bytes = update(&layout, &good);
        bytes[4 * 9_000..4 * 9_001].copy_from_slice(&poison.to_le_bytes());
        assert_eq!(
            look(&bytes),
            Err(Defect::NotFinite {
                part: Part::Weights,
                element: 9_000
            })
        );
        let at = layout.update_section(Part::Statistics).unwrap().offset as usize;
        let mut bytes = update(&layout, &good);
        bytes[at..at + 4].copy_from_slice(&poison.to_le_bytes());
        assert_eq!(
            look(&bytes),
            Err(Defect::NotFinite {
                part: Part::Statistics,
                element: 0
            })
        );
    }
    let mut long = good.clone();
    long.weights[0] = 11.0;
    assert!(matches!(
        look(&update(&layout, &long)),
        Err(Defect::Norm { limit: 10.0, .. })
    ));
    let mut short = update(&layout, &good);
    short.pop();
    assert!(matches!(look(&short), Err(Defect::Size { .. })));
}

#[test]
fn a_control_that_the_plans_limit_and_schedule_do_not_allow_is_refused() {
    // Twice 10 over a rate of 0.1.
    let config = config(
        "dino = { teacher = \"local\" }\nlimits = { max_update_norm = 10.0 }\n\
         strategy = { name = \"scaffold\", server_learning_rate = 1.0 }",
    );
    let config = Config {
        schedule: config.schedule.clone().map(|mut schedule| {
            schedule.learning_rate.end = schedule.learning_rate.peak;
            schedule
        }),
        ..config
    };
    let layout = Layout::new(TENSORS, &config);
    let mut site = sites(&layout, 1).remove(0);
    let mut look = |first: f64| {
        site.control.fill(0.0);
        site.control[8_000] = first;
        inspect(&config, &layout, &update(&layout, &site)).unwrap()
    };
    assert!(look(199.0).is_ok());
    let Err(Defect::Control { found, limit }) = look(f64::from(1e30_f32)) else {
        panic!("it would poison every later gradient");
    };
    assert_eq!(found, f64::from(1e30_f32));
    assert!((limit - 200.0).abs() < 1e-9, "{limit}");
}

#[test]
fn a_fold_that_is_not_finite_is_refused_by_the_place_in_its_tensor() {
    const HUGE: f64 = 3e38;
    let added = "dino = { teacher = \"local\" }";
    let scaffold = "name = \"scaffold\", server_learning_rate = 1.0";
    let momentum = "name = \"fedavgm\", server_learning_rate = 1e-30, momentum = 0.9";
    // Element 1 of the second tensor of the weights, and of the only one of the statistics.
    for (config, part, what, tensor) in [
        (config(added), Part::Weights, "weights", "block.weight"),
        (config(added), Part::Statistics, "statistics", "head.center"),
        (strategy(scaffold), Part::Control, "control", "block.weight"),
        (
            strategy(momentum),
            Part::Weights,
            "first moment",
            "block.weight",
        ),
    ] {
        let layout = Layout::new(TENSORS, &config);
        let mut sites = sites(&layout, 9);
        let mut base = model(&layout);
        let place = if part == Part::Statistics { 1 } else { 701 };
        for site in &mut sites {
            let values = match part {
                Part::Weights => &mut site.weights,
                Part::Statistics => &mut site.statistics,
                _ => &mut site.control,
            };
            values[place] = HUGE;
        }
        let huge = (HUGE as f32).to_le_bytes();
        let mut moments = vec![0; moments_bytes(&config, &layout) as usize];
        if moments.is_empty() {
            let at = layout.model_section(part).unwrap().offset as usize + 4 * place;
            base[at..at + 4].copy_from_slice(&huge);
        } else {
            moments[4 * place..4 * place + 4].copy_from_slice(&huge);
        }
        let error = run(&config, &layout, &base, Some(&moments), &sites)
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            format!(
                "aggregate: values must be finite, element 1 of tensor {tensor} ({what}) is not"
            )
        );
    }
}
