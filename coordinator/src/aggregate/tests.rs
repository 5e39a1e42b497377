//! Every strategy against a plain float64 reference on a small model of three weight tensors, one
//! statistic and one local tensor; robust ones against poisoned sites; order, determinism, refusal.

use protocol::encoding::Encoding;
use protocol::layout::{Layout, Section};
use protocol::plan::{Config, Plan};

use super::*;

const TENSORS: [(&str, u64); 5] = [
    ("embed", 700),
    ("head.center", 33),
    ("block.weight", 9_000),
    ("block.norm", 5),
    ("head", 41),
];

/// One site's update in plain numbers.
#[derive(Clone)]
struct Site {
    weights: Vec<f64>,
    statistics: Vec<f64>,
    control: Vec<f64>,
    examples: u64,
    steps: u64,
}

fn config(tail: &str) -> Config {
    let sites: Vec<String> = (0..9).map(|i| format!("\"site-{i}\"")).collect();
    let text = format!(
        r#"
        name = "test"
        objective = "dino"
        model = "vit"
        preset = "tiny"
        initial = "{}"
        rounds = 4
        statistics = ["*center"]
        local_parameters = ["*.norm"]
        cohort = {{ rule = "full", sites = [{}] }}
        local = {{ steps = 10, batch_size = 1 }}
        schedule = {{ learning_rate = {{ peak = 0.1 }} }}
        {tail}
        "#,
        "0".repeat(64),
        sites.join(",")
    );
    Plan::parse(text.as_bytes()).unwrap().config().clone()
}

fn strategy(text: &str) -> Config {
    config(&format!(
        "dino = {{ teacher = \"local\" }}\nstrategy = {{ {text} }}"
    ))
}

/// Numbers that look random and need no generator: the fractional parts of a quadratic sequence.
fn noise(seed: u64, index: usize) -> f64 {
    let x = (seed as f64 + 1.0) * 0.754_877_666 + index as f64 * 0.569_840_291;
    ((x * (x + 0.3)).fract() - 0.5) * 2.0
}

fn vector(seed: u64, length: u64, scale: f64) -> Vec<f64> {
    (0..length as usize)
        .map(|i| f64::from((noise(seed, i) * scale) as f32))
        .collect()
}

fn sites(layout: &Layout, count: u64) -> Vec<Site> {
    (0..count)
        .map(|site| Site {
            weights: vector(10 + site, layout.elements(Part::Weights), 0.1),
            statistics: vector(50 + site, layout.elements(Part::Statistics), 0.1),
            control: vector(90 + site, layout.elements(Part::Control), 0.1),
            examples: 10 + 7 * site,
            steps: 5 + site,
        })
        .collect()
}

fn numbers(blob: &[u8], section: Section) -> Vec<f64> {
    let bytes = &blob[section.offset as usize..section.end() as usize];
    bytes
        .chunks(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()).into())
        .collect()
}

/// A model with distinct numbers everywhere.
fn model(layout: &Layout) -> Vec<u8> {
    (0..layout.model_bytes() / 4)
        .flat_map(|i| (noise(3, i as usize) as f32).to_le_bytes())
        .collect()
}

fn update(layout: &Layout, site: &Site) -> Vec<u8> {
    let mut bytes = Vec::new();
    for section in layout.update() {
        let values = match section.part {
            Part::Weights => &site.weights,
            Part::Statistics => &site.statistics,
            _ => &site.control,
        };
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        section.encoding.encode(&values, 0, 7, &mut bytes);
    }
    bytes
}

struct Outcome {
    model: Vec<u8>,
    moments: Vec<u8>,
    summary: Summary,
}

fn run(
    config: &Config,
    layout: &Layout,
    base: &Vec<u8>,
    moments: Option<&Vec<u8>>,
    sites: &[Site],
) -> Result<Outcome, AggregateError> {
    let updates: Vec<Vec<u8>> = sites.iter().map(|site| update(layout, site)).collect();
    let contributions: Vec<Contribution<'_>> = updates
        .iter()
        .zip(sites)
        .map(|(bytes, site)| Contribution {
            update: bytes,
            examples: site.examples,
            steps: site.steps,
            norm: inspect(config, layout, bytes).unwrap().unwrap(),
        })
        .collect();
    let inputs = Inputs {
        config,
        layout,
        first_step: 10,
        model: base,
        moments: moments.map(|moments| moments as &dyn ReadAt),
        contributions: &contributions,
    };
    let mut outcome = Outcome {
        model: Vec::new(),
        moments: Vec::new(),
        summary: Summary {
            weights: vec![],
            delta_norm: 0.0,
        },
    };
    outcome.summary = aggregate(&inputs, &mut outcome.model, &mut outcome.moments)?;
    assert_eq!(outcome.model.len() as u64, layout.model_bytes());
    assert_eq!(outcome.moments.len() as u64, moments_bytes(config, layout));
    Ok(outcome)
}

fn mean(sites: &[Site], share: impl Fn(&Site) -> f64, of: impl Fn(&Site) -> &[f64]) -> Vec<f64> {
    (0..of(&sites[0]).len())
        .map(|i| sites.iter().map(|site| share(site) * of(site)[i]).sum())
        .collect()
}

fn by_examples(sites: &[Site]) -> impl Fn(&Site) -> f64 + use<> {
    let total: u64 = sites.iter().map(|site| site.examples).sum();
    move |site| site.examples as f64 / total as f64
}

/// Within one float32 rounding of the reference.
fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= expected.abs() * 1.2e-7 + 1e-9,
            "{i}: {found} against {expected}"
        );
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Runs one round and hands back old and new weights.
fn weights(
    config: &Config,
    sites_of: impl Fn(&Layout) -> Vec<Site>,
) -> (Vec<Site>, Vec<f64>, Vec<f64>) {
    let layout = Layout::new(TENSORS, config);
    let (base, sites) = (model(&layout), sites_of(&layout));
    let outcome = run(config, &layout, &base, None, &sites).unwrap();
    let section = layout.model_section(Part::Weights).unwrap();
    (
        sites,
        numbers(&base, section),
        numbers(&outcome.model, section),
    )
}

fn added(base: &[f64], delta: &[f64]) -> Vec<f64> {
    base.iter()
        .zip(delta)
        .map(|(base, delta)| base + delta)
        .collect()
}

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

#[test]
fn median_and_trimmed_mean_are_coordinate_wise() {
    for (text, count, trim) in [
        ("name = \"median\"", 5, 2),
        ("name = \"median\"", 6, 2),
        ("name = \"median\"", 1, 0),
        ("name = \"trimmed-mean\", trim = 1", 5, 1),
        ("name = \"trimmed-mean\", trim = 0", 5, 0),
    ] {
        let (sites, base, new) = weights(&strategy(text), |layout| sites(layout, count));
        let delta: Vec<f64> = (0..base.len())
            .map(|i| {
                let mut values: Vec<f64> = sites.iter().map(|site| site.weights[i]).collect();
                values.sort_by(f64::total_cmp);
                let kept = &values[trim..values.len() - trim];
                kept.iter().sum::<f64>() / kept.len() as f64
            })
            .collect();
        assert_close(&new, &added(&base, &delta));
    }
}

#[test]
fn krum_selects_by_summed_distance_to_neighbors() {
    for (text, malicious, keep) in [
        ("name = \"krum\", malicious = 2", 2, 1),
        ("name = \"multi-krum\", malicious = 2, keep = 4", 2, 4),
    ] {
        let (sites, base, new) = weights(&strategy(text), |layout| sites(layout, 7));
        let mut scores: Vec<(f64, usize)> = (0..7)
            .map(|a| {
                let mut distances: Vec<f64> = (0..7)
                    .filter(|&b| b != a)
                    .map(|b| {
                        let pairs = sites[a].weights.iter().zip(&sites[b].weights);
                        pairs.map(|(a, b)| (a - b).powi(2)).sum()
                    })
                    .collect();
                distances.sort_by(f64::total_cmp);
                (distances[..7 - malicious - 2].iter().sum(), a)
            })
            .collect();
        scores.sort_by(|a, b| a.0.total_cmp(&b.0));
        let chosen: Vec<Site> = scores[..keep]
            .iter()
            .map(|&(_, i)| sites[i].clone())
            .collect();
        let delta = mean(&chosen, |_| 1.0 / keep as f64, |site| &site.weights);
        assert_close(&new, &added(&base, &delta));
    }
}

#[test]
fn robust_strategies_hold_under_their_number_of_poisoned_sites() {
    // Honest sites agree up to noise; poisoned ones send a large step the other way.
    for (text, poisoned) in [
        ("name = \"median\"", 4),
        ("name = \"trimmed-mean\", trim = 4", 4),
        ("name = \"krum\", malicious = 3", 3),
        ("name = \"multi-krum\", malicious = 3, keep = 3", 3),
    ] {
        let (_, base, new) = weights(&strategy(text), |layout| {
            let mut sites = sites(layout, 9);
            for (i, site) in sites.iter_mut().enumerate() {
                let poison = i % 2 == 1 && i / 2 < poisoned;
                for value in &mut site.weights {
                    *value = if poison { -1e6 } else { 1.0 + *value };
                }
            }
            sites
        });
        for (base, new) in base.iter().zip(&new) {
            assert!(
                (0.89..=1.11).contains(&(new - base)),
                "{text}: moved by {}",
                new - base
            );
        }
    }
}

#[test]
fn the_mean_does_not_hold_under_one_poisoned_site() {
    // The test above can fail: the same poison ruins a mean.
    let (_, base, new) = weights(&strategy("name = \"fedavg\""), |layout| {
        let mut sites = sites(layout, 9);
        sites[1].weights.fill(-1e6);
        sites
    });
    assert!(base.iter().zip(&new).all(|(base, new)| new - base < -1e4));
}

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
