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
