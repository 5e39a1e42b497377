//! Strategies that are means, or take a mean for a gradient.

use super::*;

#[test]
fn fedavg_fedprox_and_fedema_are_the_mean_by_examples() {
    for text in [
        "name = \"fedavg\"",
        "name = \"fedprox\", mu = 0.1",
        "name = \"fedema\", tau = 0.7",
    ] {
        let (sites, base, new) = weights(&strategy(text), |layout| sites(layout, 5));
        let delta = mean(&sites, by_examples(&sites), |site| &site.weights);
        assert_close(&new, &added(&base, &delta));
    }
}

#[test]
fn uniform_weighting_counts_every_site_the_same() {
    let config =
        config("dino = { teacher = \"local\" }\naggregation = { weighting = \"uniform\" }");
    let (sites, base, new) = weights(&config, |layout| sites(layout, 4));
    assert_close(
        &new,
        &added(&base, &mean(&sites, |_| 0.25, |site| &site.weights)),
    );
}

#[test]
fn fednova_normalizes_by_local_steps() {
    let config = config("dino = { teacher = \"local\" }\naggregation = { normalize_steps = true }");
    let (sites, base, new) = weights(&config, |layout| sites(layout, 4));
    let share = by_examples(&sites);
    let effective: f64 = sites
        .iter()
        .map(|site| share(site) * site.steps as f64)
        .sum();
    let delta = mean(
        &sites,
        |site| share(site) * effective / site.steps as f64,
        |site| &site.weights,
    );
    assert_close(&new, &added(&base, &delta));
}

#[test]
fn clipping_scales_long_updates_down_to_the_norm() {
    let config = config("dino = { teacher = \"local\" }\naggregation = { clip_norm = 2.0 }");
    let (sites, base, new) = weights(&config, |layout| {
        let mut sites = sites(layout, 3);
        for value in &mut sites[1].weights {
            *value *= 1024.0;
        }
        sites
    });
    let share = by_examples(&sites);
    let delta = mean(
        &sites,
        |site| share(site) * (2.0 / norm(&site.weights)).min(1.0),
        |site| &site.weights,
    );
    assert_close(&new, &added(&base, &delta));
}

#[test]
fn adaptive_strategies_follow_their_recurrences_over_three_rounds() {
    type SecondMoment = fn(f64, f64) -> f64;
    let rules: [(&str, SecondMoment); 3] = [
        (
            "name = \"fedadam\", server_learning_rate = 0.5, beta1 = 0.9, beta2 = 0.99, tau = 0.25",
            |v, s| 0.99 * v + 0.01 * s,
        ),
        (
            "name = \"fedyogi\", server_learning_rate = 0.5, beta1 = 0.9, beta2 = 0.99, tau = 0.25",
            |v, s| {
                v - 0.01
                    * s
                    * if v > s {
                        1.0
                    } else if v < s {
                        -1.0
                    } else {
                        0.0
                    }
            },
        ),
        (
            "name = \"fedadagrad\", server_learning_rate = 0.5, beta1 = 0.9, tau = 0.25",
            |v, s| v + s,
        ),
    ];
    for (text, second) in rules {
        let config = strategy(text);
        let layout = Layout::new(TENSORS, &config);
        let section = layout.model_section(Part::Weights).unwrap();
        let sites = sites(&layout, 3);
        let delta = mean(&sites, by_examples(&sites), |site| &site.weights);
        let (mut base, mut moments) = (model(&layout), None);
        let mut x = numbers(&base, section);
        let (mut m, mut v) = (vec![0.0; x.len()], vec![0.25 * 0.25; x.len()]);
        for _ in 0..3 {
            let outcome = run(&config, &layout, &base, moments.as_ref(), &sites).unwrap();
            for i in 0..x.len() {
                m[i] = 0.9 * m[i] + 0.1 * delta[i];
                v[i] = second(v[i], delta[i] * delta[i]);
                x[i] += 0.5 * m[i] / (v[i].sqrt() + 0.25);
            }
            base = outcome.model;
            moments = Some(outcome.moments);
            let found = numbers(&base, section);
            for (found, expected) in found.iter().zip(&x) {
                // Moments are kept in float32, so three rounds may differ by a few roundings.
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{text}: {found} against {expected}"
                );
            }
        }
    }
}

#[test]
fn fedavgm_carries_its_velocity() {
    let config = strategy("name = \"fedavgm\", server_learning_rate = 0.5, momentum = 0.9");
    let layout = Layout::new(TENSORS, &config);
    let section = layout.model_section(Part::Weights).unwrap();
    let sites = sites(&layout, 3);
    let delta = mean(&sites, by_examples(&sites), |site| &site.weights);
    let base = model(&layout);
    let first = run(&config, &layout, &base, None, &sites).unwrap();
    let second = run(&config, &layout, &first.model, Some(&first.moments), &sites).unwrap();
    let moved: Vec<f64> = delta
        .iter()
        .map(|delta| 0.5 * (1.0 + 1.9) * delta)
        .collect();
    let expected = added(&numbers(&base, section), &moved);
    for (found, expected) in numbers(&second.model, section).iter().zip(&expected) {
        assert!((found - expected).abs() < 2e-7);
    }
}

#[test]
fn scaffold_moves_the_control_by_the_plans_number_of_sites() {
    let config = strategy("name = \"scaffold\", server_learning_rate = 0.5");
    let layout = Layout::new(TENSORS, &config);
    let (base, sites) = (model(&layout), sites(&layout, 4));
    let outcome = run(&config, &layout, &base, None, &sites).unwrap();
    let control = layout.model_section(Part::Control).unwrap();
    let delta = mean(&sites, |_| 1.0 / 9.0, |site| &site.control);
    assert_close(
        &numbers(&outcome.model, control),
        &added(&numbers(&base, control), &delta),
    );
    let weights = layout.model_section(Part::Weights).unwrap();
    let share = by_examples(&sites);
    let delta = mean(&sites, |site| 0.5 * share(site), |site| &site.weights);
    assert_close(
        &numbers(&outcome.model, weights),
        &added(&numbers(&base, weights), &delta),
    );
}

#[test]
fn l_dawa_weights_each_tensor_by_its_cosine() {
    let (sites, base, new) = weights(&strategy("name = \"l-dawa\""), |layout| {
        let mut sites = sites(layout, 3);
        // One site turns the second tensor around: its cosine is negative there and only there.
        let tensor = 700..9_700;
        let opposite: Vec<f64> =
            numbers(&model(layout), layout.model_section(Part::Weights).unwrap())[tensor.clone()]
                .iter()
                .map(|value| f64::from((-2.0 * value) as f32))
                .collect();
        sites[2].weights[tensor].copy_from_slice(&opposite);
        sites
    });
    let share = by_examples(&sites);
    let mut expected = base.clone();
    for tensor in [0..700, 700..9_700, 9_700..9_741] {
        let global = &base[tensor.clone()];
        let cosines: Vec<f64> = sites
            .iter()
            .map(|site| {
                let local = added(global, &site.weights[tensor.clone()]);
                let dot: f64 = local.iter().zip(global).map(|(a, b)| a * b).sum();
                (dot / norm(&local) / norm(global)).max(0.0)
            })
            .collect();
        let total: f64 = sites
            .iter()
            .zip(&cosines)
            .map(|(site, cosine)| share(site) * cosine)
            .sum();
        for i in tensor {
            for (site, cosine) in sites.iter().zip(&cosines) {
                expected[i] += share(site) * cosine / total * site.weights[i];
            }
        }
    }
    assert_close(&new, &expected);
}
