//! What ends before it is done: an evaluation that sites cannot do, a run that somebody stops, the
//! part of a site that is revoked. And what replay says of moments that are not the journal's.

use coordinator::service::{Stop, stop};
use protocol::Message;
use protocol::message::Failed;

use super::*;

const EVALUATED: &str = "evaluation = { every = 1, tasks = [\"ich\"], histogram_bins = 2 }";

#[test]
fn an_evaluation_that_sites_fail_or_refuse_ends_and_status_says_why() {
    let mut scene = Scene::of("rule = \"full\"", EVALUATED);
    scene.good(0, 1.0);
    scene.good(1, 3.0);
    scene.fold();
    assert_eq!(scene.served().1, "evaluating");
    let [north, south] = SITES.map(|site| site.parse::<SiteId>().unwrap());
    let failed = Failed {
        run: scene.run.clone(),
        round: Round(1),
        reason: Text::lossy("no held-out patients"),
    };
    let (coordinator, run) = (&mut scene.coordinator, scene.run.clone());
    coordinator.message(NOW, &north, failed.into()).unwrap();
    let shown = coordinator.overview(NOW).run.unwrap();
    let awaited = &shown.sites["north"].awaited;
    assert_eq!(awaited, "dropped: failed: no held-out patients");
    let rejection = Rejection {
        subject: Subject::Task(run, Round(1)),
        reason: Reason::Policy {
            rule: Text::lossy("no evaluation"),
        },
    };
    coordinator.message(NOW, &south, rejection.into()).unwrap();
    assert_eq!(scene.served().1, "training");
    let last = |coordinator: &Coordinator| {
        let run = coordinator.overview(NOW).run.unwrap();
        run.history[0].unevaluated.clone()
    };
    let expected = [
        (
            "north".to_owned(),
            "failed: no held-out patients".to_owned(),
        ),
        (
            "south".to_owned(),
            "failed: site policy: no evaluation".to_owned(),
        ),
    ];
    assert_eq!(last(&scene.coordinator), expected.into());
    // The journal gives it back.
    let before = last(&scene.coordinator);
    let Scene {
        folder,
        coordinator,
        mut authority,
        ..
    } = scene;
    drop(coordinator);
    let own = Arc::new(admit(&mut authority, Role::Coordinator, "another"));
    let again = Coordinator::open(folder.path(), own, Options::default(), NOW).unwrap();
    assert_eq!(last(&again), before);
}

#[test]
fn a_run_that_is_served_is_stopped_from_beside_and_the_next_one_begins() {
    let mut scene = Scene::new();
    scene.good(0, 1.0);
    scene.good(1, 3.0);
    scene.fold();
    scene.good(0, 2.0);
    let published = scene.coordinator.run().unwrap().checkpoint();
    let next = scene.launch_another();
    scene.coordinator.activate(NOW).unwrap();
    assert_eq!(scene.served(), ("doors-1".into(), "training".into()));
    let folder = scene.folder.path().to_owned();
    for _ in 0..2 {
        assert_eq!(stop(&folder, &scene.run, NOW).unwrap(), Stop::Asked);
    }
    while scene.coordinator.poll_message().is_some() {}
    scene.coordinator.activate(NOW).unwrap();
    assert_eq!(scene.served(), (next.to_string(), "gathering".into()));
    let mut told = Vec::new();
    while let Some((site, message)) = scene.coordinator.poll_message() {
        if let Message::Finish(finish) = message {
            assert_eq!((&finish.run, finish.round), (&scene.run, Round(1)));
            assert_eq!(finish.model.digest, published.model);
            told.push(site.to_string());
        }
    }
    assert_eq!(told, SITES);
    // It is over, and asking again changes nothing.
    assert_eq!(
        stop(&folder, &scene.run, NOW).unwrap(),
        Stop::Over(published)
    );
    let unknown: RunId = "doors-3".parse().unwrap();
    let error = stop(&folder, &unknown, NOW).unwrap_err();
    assert_eq!(error.to_string(), "there is no run doors-3");
    let verified = verify(&folder, &scene.trust, &scene.run).unwrap();
    assert_eq!((verified.receipts, verified.records), (3, 1));
    replay(&folder, &scene.run, |_, _| {}).unwrap();
}

#[test]
fn a_run_is_stopped_without_a_process_that_serves_and_before_it_is_its_turn() {
    let scene = Scene::new();
    let next = scene.launch_another();
    // It waits for its turn behind a run that is served.
    let folder = scene.folder.path().to_owned();
    assert_eq!(stop(&folder, &next, NOW).unwrap(), Stop::Asked);
    let Scene {
        folder: _kept,
        mut coordinator,
        run,
        mut authority,
        ..
    } = scene;
    coordinator.activate(NOW).unwrap();
    let Stop::Over(first) = stop(&folder, &next, NOW).unwrap() else {
        panic!("it was stopped before it began");
    };
    drop(coordinator);
    assert_eq!(stop(&folder, &run, NOW).unwrap(), Stop::Stopped(first));
    let own = Arc::new(admit(&mut authority, Role::Coordinator, "another"));
    let coordinator = Coordinator::open(&folder, own, Options::default(), NOW).unwrap();
    assert!(coordinator.is_idle());
}

#[test]
fn a_fold_that_ends_after_its_run_was_stopped_is_no_model_of_the_next_run() {
    let mut scene = Scene::new();
    scene.good(0, 1.0);
    scene.good(1, 3.0);
    let late = scene.coordinator.poll_job().unwrap().run().unwrap();
    let next = scene.launch_another();
    let folder = scene.folder.path().to_owned();
    stop(&folder, &scene.run, NOW).unwrap();
    scene.coordinator.activate(NOW).unwrap();
    let plan = scene.coordinator.overview(NOW).run.unwrap().plan;
    for site in SITES {
        let (run, examples) = (next.clone(), 10);
        let join = Join {
            run,
            plan,
            examples,
        };
        let site = site.parse().unwrap();
        scene.coordinator.message(NOW, &site, join.into()).unwrap();
    }
    scene.run = next;
    scene.good(0, -1.0);
    scene.good(1, -3.0);
    assert_eq!(scene.served().1, "aggregating");
    scene.coordinator.folded(NOW, late).unwrap();
    assert_eq!(scene.served().1, "aggregating");
    scene.fold();
    replay(&folder, &scene.run, |_, _| {}).unwrap();
}

#[test]
fn an_update_of_a_site_that_is_revoked_before_the_fold_is_not_folded() {
    let mut scene = Scene::of("rule = \"quorum\", quorum = 1", "");
    let (manifest, _) = scene.good(0, 1.0);
    scene.revoke(0);
    // Its connection has not ended yet, and what it sends does not count.
    scene.good(1, 3.0);
    let run = scene.coordinator.run().unwrap();
    let Phase::Aggregating {
        updates, dropped, ..
    } = run.phase()
    else {
        panic!("{}", run.phase());
    };
    let [north, south] = SITES.map(|site| site.parse::<SiteId>().unwrap());
    assert_eq!(updates.keys().collect::<Vec<_>>(), [&south]);
    assert_eq!(dropped[&north], Dropped::Revoked);
    assert_eq!(run.counted(&north, Round(1), manifest.blob.digest), None);
    scene.fold();
    replay(scene.folder.path(), &scene.run, |_, _| {}).unwrap();
}

#[test]
fn an_upload_that_ends_after_its_site_was_revoked_is_refused() {
    let mut scene = Scene::new();
    scene.good(1, 3.0);
    scene.revoke(0);
    scene.coordinator.activate(NOW).unwrap();
    // Under the full rule the round waits, for a site that may be approved again or for `stop`.
    assert_eq!(scene.served().1, "gathering");
    let bytes = update([1.0; 4]);
    let manifest = scene.manifest(&bytes);
    let refused = scene.upload(0, &manifest, &bytes).unwrap_err();
    assert_eq!(refused.to_string(), "update: of a site that was revoked");
    assert_eq!(scene.served().1, "gathering");
}

#[test]
fn replay_names_the_round_whose_moments_are_others_than_the_journal_says() {
    let mut scene = Scene::of(
        "rule = \"full\"",
        "strategy = { name = \"fedavgm\", server_learning_rate = 1.0, momentum = 0.5 }",
    );
    scene.good(0, 1.0);
    scene.good(1, 3.0);
    let mut folded = scene.coordinator.poll_job().unwrap().run().unwrap();
    let computed = folded.checkpoint.moments.unwrap();
    // The model is the one, and the moments are somebody else's.
    let other = Digest::of(b"other moments");
    folded.checkpoint.moments = Some(other);
    scene.coordinator.folded(NOW, folded).unwrap();
    let error = replay(scene.folder.path(), &scene.run, |_, _| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("run doors-1, round 1: replay gives moments {computed}, the journal says {other}")
    );
}
