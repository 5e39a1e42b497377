//! Federation computes what one machine with all scans would, where it must.

use std::ops::ControlFlow;
use std::sync::Arc;

use burn::tensor::Device;
use core_model::state::StateDict;
use protocol::SiteId;
use protocol::plan::Plan as Federated;
use site_client::federation::{CENTER, site_seed};
use site_client::params::to_state;
use site_client::train::pretrain::{Feed, Pretraining, Skipped};
use site_client::train::{Config, Objective, Plan, Preset, Span};

use crate::harness::{distance, hospital, member, plan, rehearse, weights};

pub(crate) const ROUNDS: u64 = 3;
pub(crate) const STEPS: u64 = 3;
pub(crate) const BATCH: usize = 4;

/// The configuration of `fmct-site pretrain` that does what a federation's plan asks of `site`.
pub(crate) fn alone(site: &str, batch: usize) -> Plan {
    let mut config = Config::preset(Preset::Tiny);
    let site: SiteId = site.parse().unwrap();
    config.seed = site_seed(5, &site);
    let length = Span::Steps(ROUNDS * STEPS);
    (config.mae.length, config.dino.length) = (length, length);
    (config.mae.global_batch, config.dino.global_batch) = (batch, batch);
    (config.mae.device_batch, config.dino.device_batch) = (BATCH, BATCH);
    Plan::new(config).unwrap()
}

/// A federation's plan with the schedules of the preset over the same steps.
pub(crate) fn federated(objective: Objective, sites: &[&str], moments: &str) -> Federated {
    let config = Config::preset(Preset::Tiny);
    let (name, rate, decay) = match objective {
        Objective::Dino => ("dino", config.dino.base_lr, config.dino.weight_decay),
        Objective::Mae => ("mae", config.mae.base_lr, config.mae.weight_decay),
    };
    let peak = rate * BATCH as f64 / 256.0;
    let (end, momentum) = (peak * 1e-3, config.dino.momentum);
    let dino = format!(
        "[dino]\nteacher = \"local\"\nteacher_momentum = {{ start = {momentum:?}, end = 1.0 }}\n\
         teacher_temperature_start = 0.04\nteacher_temperature_warmup_steps = 1\n"
    );
    let (statistics, dino) = match objective {
        Objective::Dino => (format!("statistics = [\"{CENTER}\"]"), dino),
        Objective::Mae => (String::new(), String::new()),
    };
    plan(
        name,
        ROUNDS as u32,
        sites,
        &format!(
            "{statistics}\n[local]\nsteps = {STEPS}\nbatch_size = {BATCH}\noptimizer_state = \"{moments}\"\n\
             [schedule]\nlearning_rate = {{ peak = {peak:?}, end = {end:?}, warmup_steps = 1 }}\n\
             weight_decay = {{ start = {decay:?}, end = {decay:?} }}\n{dino}"
        ),
    )
}

fn train(training: &mut Pretraining, feed: &Arc<Feed>) {
    let mut skipped = Skipped::default();
    let mut go_on = |_: &_, _: &_, _: &_| ControlFlow::Continue(());
    training
        .train(feed, STEPS, &mut skipped, &mut go_on)
        .unwrap();
}

/// A federation's round rounds twice: the change of a weight to float32 when it is sent, and the
/// new weight when it is folded. So from the same start a weight ends within 2⁻²⁴ (|change| +
/// |weight|) of where the site alone would end, whatever the objective and the number of steps.
pub(crate) fn assert_within_rounding(found: &StateDict, alone: &StateDict, start: &StateDict) {
    let unit = f64::powi(2.0, -24) * (1.0 + 1e-6);
    for (name, expected) in alone {
        let rows = found[name].values.iter().zip(&expected.values);
        for ((found, expected), start) in rows.zip(&start[name].values) {
            let [found, expected, start] = [found, expected, start].map(|value| f64::from(*value));
            let bound =
                unit * ((expected - start).abs() + found.abs()) + f64::from(f32::MIN_POSITIVE);
            let off = (found - expected).abs();
            assert!(off <= bound, "{name}: {off:e} off, bound {bound:e}");
        }
    }
}

fn follows_the_site_alone(objective: Objective, moments: &str) {
    let plan = federated(objective, &["langone"], moments);
    let cohort = hospital("langone", 10);
    let (mut rehearsal, _folder) = rehearse(&plan, vec![member("langone", cohort.clone())]);

    let local = alone("langone", BATCH);
    let source = Arc::clone(cohort.source());
    let mut site = Pretraining::new(&local, objective, source.len(), &Device::flex()).unwrap();
    let start = weights(&rehearsal);
    site.load(&start).unwrap();
    site.set_teacher(&start).unwrap();
    let feed = Arc::new(Feed::new(&local, objective, source));
    for _ in 0..ROUNDS {
        let start = weights(&rehearsal);
        site.load(&start).unwrap();
        if moments == "reset" {
            site.set_moments(StateDict::new()).unwrap();
        }
        if let Some(center) = to_state(&rehearsal.model().unwrap()).remove(CENTER) {
            site.set_center(&center.values).unwrap();
        }
        rehearsal.round().unwrap();
        train(&mut site, &feed);
        let end = weights(&rehearsal);
        assert!(distance(&start, &end) > 1e-6, "nothing was learned");
        assert_within_rounding(&end, &site.parameters(), &start);
    }
    assert_eq!(site.steps_done(), site.total_steps());
}

#[test]
fn a_federation_of_one_follows_the_site_alone_within_the_rounding_of_a_round() {
    follows_the_site_alone(Objective::Mae, "keep");
    follows_the_site_alone(Objective::Dino, "keep");
}

#[test]
fn moments_that_the_plan_resets_are_those_of_a_site_that_starts_anew() {
    follows_the_site_alone(Objective::Mae, "reset");
}

/// Nothing is put right between rounds here, so that rounding runs through Adam too. Only MAE: DINO
/// has gradients so close to zero that Adam makes whole steps of their rounding.
#[test]
fn a_whole_federation_of_one_ends_where_the_site_alone_ends() {
    let objective = Objective::Mae;
    let plan = federated(objective, &["langone"], "keep");
    let cohort = hospital("langone", 10);
    let (mut rehearsal, _folder) = rehearse(&plan, vec![member("langone", cohort.clone())]);
    let local = alone("langone", BATCH);
    let source = Arc::clone(cohort.source());
    let mut site = Pretraining::new(&local, objective, source.len(), &Device::flex()).unwrap();
    let start = weights(&rehearsal);
    site.load(&start).unwrap();
    let feed = Arc::new(Feed::new(&local, objective, source));
    for _ in 0..ROUNDS {
        rehearsal.round().unwrap();
        train(&mut site, &feed);
    }
    let end = site.parameters();
    let (off, moved) = (distance(&weights(&rehearsal), &end), distance(&start, &end));
    assert!(
        moved > 1e-5 && off < 1e-3 * moved,
        "{off:e} off after {moved:e}"
    );
}

/// Four sites with the same scans and draws, one step: what a batch four times as large does.
#[test]
fn four_sites_with_the_same_scans_make_the_step_of_the_large_batch() {
    for objective in [Objective::Mae, Objective::Dino] {
        let sites = ["a", "b", "c", "d"];
        let text = federated(objective, &sites, "keep");
        let text = std::str::from_utf8(text.text()).unwrap();
        let text = text.replace(&format!("steps = {STEPS}\nb"), "steps = 1\nb");
        let plan = Federated::parse(
            text.replace("warmup_steps = 1 ", "warmup_steps = 0 ")
                .as_bytes(),
        )
        .unwrap();
        let cohort = hospital("langone", 10);
        // The draws follow the site's name.
        let members = sites.map(|_| member("langone", cohort.clone())).into();
        let (mut rehearsal, _folder) = rehearse(&plan, members);
        let start = weights(&rehearsal);

        let mut config = alone("langone", 4 * BATCH).config().clone();
        // As many steps as the federation's plan has, without warm-up, at the same peak.
        let length = Span::Steps(ROUNDS);
        (config.mae.length, config.dino.length) = (length, length);
        (config.mae.warmup, config.dino.warmup) = (Span::Steps(0), Span::Steps(0));
        (config.mae.base_lr, config.dino.base_lr) =
            (config.mae.base_lr / 4.0, config.dino.base_lr / 4.0);
        let local = Plan::new(config).unwrap();
        let source = Arc::clone(cohort.source());
        let mut large = Pretraining::new(&local, objective, source.len(), &Device::flex()).unwrap();
        large.load(&start).unwrap();
        large.set_teacher(&start).unwrap();
        let feed = Feed::new(&local, objective, source);
        large.step((0..4).map(|_| Ok(feed.prepare(0)))).unwrap();

        rehearsal.round().unwrap();
        let (end, expected) = (trained(weights(&rehearsal)), trained(large.parameters()));
        let start = trained(start);
        assert!(
            distance(&start, &expected) > 1e-5,
            "{objective:?}: nothing was learned"
        );
        let off = distance(&end, &expected);
        println!("{objective:?}: {off:e} off");
        assert!(off < 1e-5, "{objective:?}: {off:e} off");
        if let Some(center) = large.center() {
            let found = to_state(&rehearsal.model().unwrap())
                .remove(CENTER)
                .unwrap();
            let off = |(a, b): (&f32, &f32)| f64::from((a - b).abs());
            let off = found
                .values
                .iter()
                .zip(&center)
                .map(off)
                .fold(0.0, f64::max);
            assert!(off < 1e-5, "center: {off:e} off");
        }
    }
}

/// Without batch norm's running statistics, which count passes and not scans.
fn trained(mut state: StateDict) -> StateDict {
    state.retain(|name, _| !name.contains("running_"));
    state
}
