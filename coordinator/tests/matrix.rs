//! Who trained a model, and what the matrix and the model card say of sites that tested it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;

use coordinator::journal::{Journal, Launch};
use coordinator::run::{Checkpoint, Event, Exact, Report, Signature, TaskReport, Update};
use coordinator::service::{MatrixRow, Part, Side, Together, matrix, model_card};
use protocol::plan::Plan;
use protocol::{Digest, Params, Round, RunId, SiteId, Timestamp};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// A journal with runs in it, and no blobs: who trained what is in the events alone.
struct Scene {
    folder: tempfile::TempDir,
    journal: Journal,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open_shared(folder.path()).unwrap();
        Self { folder, journal }
    }

    /// Launches a run from `start`.
    fn launch(&mut self, run: &str, objective: &str, sites: &[&str], start: &str, rest: &str) {
        let training = match objective {
            "evaluate" => "",
            _ => {
                "rounds = 2\nlocal = { steps = 1, batch_size = 1 }\n\
                 schedule = { learning_rate = { peak = 0.1 } }\n"
            }
        };
        let dino = if objective == "dino" {
            "dino = {}\nstatistics = [\"center\"]\n"
        } else {
            ""
        };
        let plan = format!(
            "name = \"{run}\"\nobjective = \"{objective}\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
             initial = \"{}\"\n{training}{dino}{rest}\n\
             [cohort]\nrule = \"full\"\nsites = {sites:?}\nevaluators = [\"far\"]\n\
             [evaluation]\nevery = 1\ntasks = [\"ich\"]\nhistogram_bins = 2\n\
             select = \"best-mean-auc\"\n",
            "0".repeat(64)
        );
        Plan::parse(plan.as_bytes()).unwrap();
        let params = Params::from_tensors([("w".to_owned(), vec![1], vec![1.0])]).unwrap();
        let launch = Launch {
            run: name(run),
            plan: plan.into_bytes(),
            signature: run.as_bytes().to_vec(),
            schema: params.schema().to_safetensors_header(),
            at: NOW,
        };
        self.journal.launch(&launch, checkpoint(0, start)).unwrap();
        for site in sites.iter().chain(&["far"]) {
            self.enter(
                run,
                Event::Joined {
                    site: site.parse().unwrap(),
                },
            );
        }
    }

    /// A round of a run, which makes `model`.
    fn round(&mut self, run: &str, sites: &[&str], round: u32, [base, model]: [&str; 2]) {
        for site in sites {
            let update = Update {
                round: Round(round),
                base: Digest::of(base.as_bytes()),
                blob: Digest::of(format!("{site} {round}").as_bytes()),
                manifest: Digest::of(b"manifest"),
                receipt: Digest::of(b"receipt"),
                bytes: 4,
                examples: 10,
                steps: 1,
                norm: 1.0.into(),
            };
            self.enter(
                run,
                Event::Staged {
                    site: site.parse().unwrap(),
                    update,
                },
            );
        }
        let aggregated = Event::Aggregated {
            checkpoint: checkpoint(round, model),
            delta_norm: Exact::default(),
        };
        self.enter(run, aggregated);
        self.enter(
            run,
            Event::Published {
                signature: Signature::default(),
            },
        );
    }

    /// Each site's area of a round, from its own scores; its histograms say 0.85.
    fn evaluated(&mut self, run: &str, round: u32, areas: &[(&str, f64)]) {
        for (site, auc) in areas {
            let task = TaskReport {
                task: "ich".to_owned(),
                positive: vec![1, 9],
                negative: vec![8, 2],
                auc: Some((*auc).into()),
            };
            let event = Event::Evaluated {
                site: site.parse().unwrap(),
                round: Round(round),
                report: Report { tasks: vec![task] },
            };
            self.enter(run, event);
        }
        self.enter(run, Event::EvaluationClosed);
    }

    fn enter(&mut self, run: &str, event: Event) {
        self.journal.append(&name(run), NOW, &event, &[]).unwrap();
    }

    fn row(&self, run: &str) -> MatrixRow {
        let mut rows = matrix(self.folder.path(), &[name(run)], None).unwrap();
        assert_eq!(rows.len(), 1);
        rows.remove(0)
    }

    fn card(&self, run: &str) -> String {
        let (consortium, named) = ("headct".parse().unwrap(), BTreeSet::new());
        model_card(self.folder.path(), &consortium, &name(run), None, &named).unwrap()
    }
}

fn name(run: &str) -> RunId {
    run.parse().unwrap()
}

fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

fn checkpoint(round: u32, model: &str) -> Checkpoint {
    Checkpoint {
        round: Round(round),
        step: u64::from(round),
        model: Digest::of(model.as_bytes()),
        moments: None,
    }
}

/// A run of `north` and `south` whose second of two rounds is its result.
fn tuned(scene: &mut Scene, objective: &str, rest: &str) {
    let sites = ["north", "south"];
    scene.launch("tuned", objective, &sites, "first", rest);
    for (round, models, auc) in [(1, ["first", "one"], 0.6), (2, ["one", "two"], 0.9)] {
        scene.round("tuned", &sites, round, models);
        let areas = [("north", auc), ("south", auc - 0.1), ("far", 0.7)];
        scene.evaluated("tuned", round, &areas);
    }
}

#[test]
fn who_trained_an_evaluated_model_is_known_where_a_run_of_this_journal_made_it() {
    let mut scene = Scene::new();
    tuned(&mut scene, "finetune", "");
    scene.launch("known", "evaluate", &["north", "harbor"], "two", "");
    scene.evaluated(
        "known",
        0,
        &[("north", 0.8), ("harbor", 0.75), ("far", 0.7)],
    );
    let row = scene.row("known");
    assert_eq!(row.part, Part::Test);
    assert_eq!(
        row.trained_at,
        Some(BTreeSet::from([site("north"), site("south")]))
    );
    assert_eq!(row.side(&site("north")), Side::Internal);
    for elsewhere in ["harbor", "far"] {
        assert_eq!(row.side(&site(elsewhere)), Side::External);
    }
    let sides: Vec<Side> = row.tasks["ich"].together.keys().copied().collect();
    assert_eq!(sides, [Side::Internal, Side::External]);

    scene.launch("foreign", "evaluate", &["north"], "from elsewhere", "");
    scene.evaluated("foreign", 0, &[("north", 0.8), ("far", 0.7)]);
    let row = scene.row("foreign");
    assert_eq!(row.trained_at, None);
    let sides: Vec<Side> = row.tasks["ich"].together.keys().copied().collect();
    assert_eq!(sides, [Side::Unknown]);
    let card = scene.card("foreign");
    assert!(card.contains("| trained at | unknown: "), "{card}");
    assert!(!card.contains(", external |"), "{card}");
}

#[test]
fn a_run_that_goes_on_from_anothers_model_was_trained_by_both() {
    let mut scene = Scene::new();
    tuned(&mut scene, "finetune", "");
    scene.launch("further", "finetune", &["harbor"], "two", "");
    scene.round("further", &["harbor"], 1, ["two", "three"]);
    scene.evaluated("further", 1, &[("harbor", 0.8), ("far", 0.7)]);
    let trained_at = scene.row("further").trained_at.unwrap();
    assert_eq!(trained_at, ["harbor", "north", "south"].map(site).into());
}

#[test]
fn one_classifier_is_pooled_and_probes_of_each_site_are_averaged() {
    for (objective, rest, pooled) in [
        ("finetune", "", true),
        ("finetune", "local_parameters = [\"head*\"]", false),
        ("probe", "local_parameters = [\"backbone.*\"]", true),
        ("mae", "", false),
        ("dino", "", false),
    ] {
        let mut scene = Scene::new();
        tuned(&mut scene, objective, rest);
        let row = scene.row("tuned");
        assert_eq!((row.round, row.part), (Round(2), Part::Validation));
        match row.tasks["ich"].together[&Side::Internal] {
            Together::Pooled(area) => {
                assert!(pooled, "{objective} {rest}");
                assert_eq!((area.positives, area.negatives), (20, 20));
                assert!((area.auc - 0.85).abs() < 1e-12);
            }
            Together::Mean { auc, sites } => {
                assert!(!pooled, "{objective} {rest}");
                assert_eq!(sites, 2);
                assert!((auc - 0.85).abs() < 1e-12, "of 0.9 and 0.8: {auc}");
                let card = scene.card("tuned");
                assert!(card.contains("| ich, internal | 2 | 0.850 |"), "{card}");
                assert!(!card.contains("binning bound |"), "{card}");
            }
        }
    }
}

#[test]
fn the_card_says_that_validation_patients_chose_the_round_and_gives_test_figures_where_there_are() {
    let mut scene = Scene::new();
    tuned(&mut scene, "finetune", "");
    let before = scene.card("tuned");
    for part in [
        "| round | 2 of 2; the plan selects best mean AUC on the validation patients",
        "### Validation patients, run tuned",
        "**The internal patients below chose the round**",
        "There is no figure on test patients",
    ] {
        assert!(before.contains(part), "{part}:\n{before}");
    }
    // Of the round that was not chosen: no figure of the card's model.
    scene.launch("early", "evaluate", &["north"], "one", "");
    scene.evaluated("early", 0, &[("north", 0.61)]);
    assert_eq!(scene.card("tuned"), before);
    scene.launch("tested", "evaluate", &["north", "harbor"], "two", "");
    scene.evaluated("tested", 0, &[("north", 0.81), ("harbor", 0.76)]);
    let after = scene.card("tuned");
    for part in [
        "### Test patients, run tested",
        "| internal | 0.810 |",
        "| external | 0.760 |",
    ] {
        assert!(after.contains(part), "{part}:\n{after}");
    }
    assert!(
        !after.contains("There is no figure on test patients"),
        "{after}"
    );
    for site in ["north", "south", "harbor", "far"] {
        assert!(
            !after.contains(site),
            "nobody has agreed to be named:\n{after}"
        );
    }
}
