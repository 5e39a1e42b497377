//! Every strategy against a plain float64 reference on a small model of three weight tensors, one
//! statistic and one local tensor; robust ones against poisoned sites; order, determinism, refusal.

use protocol::encoding::Encoding;
use protocol::layout::{Layout, Section};
use protocol::plan::{Config, Plan};

use super::*;

mod means;
mod robust;
mod whole;

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
