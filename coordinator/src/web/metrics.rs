//! The overview as Prometheus metrics (OpenMetrics 1.0 text).

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::service::Overview;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SiteLabels {
    run: String,
    site: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabels {
    run: String,
    phase: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RunLabels {
    run: String,
}

/// What a scrape gets.
pub(super) fn text(overview: &Overview) -> String {
    let mut registry = Registry::with_prefix("fmct");
    let connected = Family::<SiteLabels, Gauge>::default();
    let done = Family::<SiteLabels, Gauge>::default();
    let total = Family::<SiteLabels, Gauge>::default();
    let phase = Family::<PhaseLabels, Gauge>::default();
    let round = Family::<RunLabels, Gauge>::default();
    let rounds = Family::<RunLabels, Gauge>::default();
    let step = Family::<RunLabels, Gauge>::default();
    let dropped = Family::<RunLabels, Gauge>::default();
    let bytes = Family::<RunLabels, Gauge>::default();
    let errors: Gauge = Gauge::default();
    errors.set(overview.errors.len() as i64);
    if let Some(run) = &overview.run {
        let labels = RunLabels {
            run: run.run.clone(),
        };
        round.get_or_create(&labels).set(run.round.0.into());
        rounds.get_or_create(&labels).set(run.rounds.into());
        step.get_or_create(&labels).set(run.step.cast_signed());
        let lost: usize = run.history.iter().map(|round| round.dropped.len()).sum();
        dropped.get_or_create(&labels).set(lost as i64);
        let received: u64 = run.history.iter().map(|round| round.bytes).sum();
        bytes.get_or_create(&labels).set(received.cast_signed());
        let labels = PhaseLabels {
            run: run.run.clone(),
            phase: run.phase.clone(),
        };
        phase.get_or_create(&labels).set(1);
        for (name, site) in &run.sites {
            let labels = SiteLabels {
                run: run.run.clone(),
                site: name.clone(),
            };
            connected.get_or_create(&labels).set(site.connected.into());
            done.get_or_create(&labels).set(site.done.cast_signed());
            total.get_or_create(&labels).set(site.total.cast_signed());
        }
    }
    registry.register("site_connected", "Whether a site is connected", connected);
    registry.register(
        "site_progress_done",
        "Steps, patients or bytes a site has done",
        done,
    );
    registry.register(
        "site_progress_total",
        "Steps, patients or bytes in all",
        total,
    );
    registry.register("phase", "1 for the phase the run is in", phase);
    registry.register("round", "Round in work", round);
    registry.register("rounds", "Rounds of the run", rounds);
    registry.register(
        "global_step",
        "Global step of the last published model",
        step,
    );
    registry.register(
        "dropped_updates",
        "Sites dropped from finished rounds",
        dropped,
    );
    registry.register(
        "update_bytes",
        "Bytes of the updates of finished rounds",
        bytes,
    );
    registry.register(
        "coordinator_errors",
        "Errors of the coordinator itself, of the last",
        errors,
    );
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}
