//! Updates at the door of a served run: bad ones are refused with a reason and the round goes on;
//! one that counts is receipted again for as long as the run lasts.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use certs::{Authority, Identity, PrivateKey, Request, Trust};
use coordinator::aggregate::inspect;
use coordinator::blobs::Blobs;
use coordinator::journal::Journal;
use coordinator::run::{Dropped, Event, Phase, Report, TaskReport};
use coordinator::service::{
    Coordinator, Initial, Network, Offer, Options, Side, blobs_path, export_model, launch, matrix,
    replay, verify,
};
use protocol::bounded::Text;
use protocol::encoding::Encoding;
use protocol::message::{
    Content, Join, Manifest, Reason, Receipt, Rejection, Subject, UpdateFacts,
};
use protocol::plan::Plan;
use protocol::{BlobRef, Digest, Params, Role, Round, RunId, Signed, SiteId, Timestamp};

#[path = "updates/endings.rs"]
mod endings;
#[path = "updates/garbage.rs"]
mod garbage;
#[path = "updates/members.rs"]
mod members;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const SITES: [&str; 2] = ["north", "south"];
/// The link that updates come over where it makes no difference.
const LINK: u64 = 0;

/// A served run of two rounds and two sites, both of which have joined.
struct Scene {
    folder: tempfile::TempDir,
    coordinator: Coordinator,
    authority: Authority,
    identities: Vec<Identity>,
    trust: Trust,
    schema: Digest,
    run: RunId,
}

impl Scene {
    fn new() -> Self {
        Self::of("rule = \"full\"", "")
    }

    /// A run under another cohort rule, and with `rest` at the end of its plan.
    fn of(rule: &str, rest: &str) -> Self {
        Self::with(rule, rest, Options::default())
    }

    fn with(rule: &str, rest: &str, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = Authority::found("headct".parse().unwrap(), NOW).unwrap();
        let own = Arc::new(admit(&mut authority, Role::Coordinator, "coordinator"));
        let identities = SITES.map(|site| admit(&mut authority, Role::Site, site));
        let trust = Trust::new(authority.root().clone(), authority.consortium().clone()).unwrap();
        let params = Params::from_tensors([("w".to_owned(), vec![4], vec![1.0; 4])]).unwrap();
        let first = folder.path().join("first.safetensors");
        std::fs::write(&first, params.to_safetensors()).unwrap();
        let initial = Initial::open(&first).unwrap();
        let plan = format!(
            "name = \"doors\"\nobjective = \"mae\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
             initial = \"{}\"\nrounds = 2\nlocal = {{ steps = 1, batch_size = 1 }}\n\
             schedule = {{ learning_rate = {{ peak = 0.1 }} }}\n\
             cohort = {{ {rule}, sites = {SITES:?} }}\n\
             limits = {{ max_update_norm = 10.0, max_examples = 1000 }}\n{rest}\n",
            initial.digest()
        );
        let plan = Plan::parse(plan.as_bytes()).unwrap();
        let run: RunId = "doors-1".parse().unwrap();
        let mut journal = Journal::open_shared(folder.path()).unwrap();
        let blobs = Blobs::open_shared(blobs_path(folder.path())).unwrap();
        launch(&mut journal, &blobs, &own, &run, &plan, &initial, NOW).unwrap();
        let mut coordinator = Coordinator::open(folder.path(), own, options, NOW).unwrap();
        coordinator.follow(trust.clone());
        for site in SITES {
            let site: SiteId = site.parse().unwrap();
            coordinator.connected(site.clone());
            let join = Join {
                run: run.clone(),
                plan: plan.digest(),
                examples: 10,
            };
            coordinator.message(NOW, &site, join.into()).unwrap();
        }
        Self {
            folder,
            coordinator,
            authority,
            identities: identities.into(),
            trust,
            schema: initial.schema().digest(),
            run,
        }
    }

    /// A manifest that is in order, for these bytes.
    fn manifest(&self, bytes: &[u8]) -> Manifest {
        let run = self.coordinator.run().unwrap();
        Manifest {
            blob: BlobRef {
                digest: Digest::of(bytes),
                len: bytes.len() as u64,
            },
            run: self.run.clone(),
            round: run.round(),
            schema: self.schema,
            content: Content::Update(UpdateFacts {
                base: run.checkpoint().model,
                examples: 10,
                steps: 1,
                encoding: Encoding::F32,
            }),
        }
    }

    /// What the service's shell does with an upload: offered, moved, looked at, handed over.
    fn upload(
        &mut self,
        site: usize,
        manifest: &Manifest,
        bytes: &[u8],
    ) -> Result<Signed<Receipt>, Reason> {
        let id: SiteId = SITES[site].parse().unwrap();
        let upload = match self.coordinator.offered(NOW, &id, LINK, manifest).unwrap() {
            Offer::Welcome(upload) => upload,
            Offer::Counted(receipt) => return Ok(receipt),
            Offer::Refused(reason) => return Err(reason),
        };
        let blobs = self.coordinator.blobs();
        let (mut file, path) = blobs.create("upload").unwrap();
        file.write_all(bytes).unwrap();
        let stored = blobs.commit(&file, &path).unwrap();
        let file = File::open(blobs.path(stored.digest)).unwrap();
        let inspected = inspect(&upload.config, &upload.layout, &file)
            .unwrap()
            .map_err(Reason::from);
        let identity = &self.identities[site];
        let signed = Signed::new(manifest, |context, text| identity.sign(context, text)).unwrap();
        self.coordinator
            .uploaded(NOW, (&id, LINK), &signed, manifest, inspected)
            .unwrap()
    }

    fn good(&mut self, site: usize, value: f32) -> (Manifest, Signed<Receipt>) {
        let bytes = update([value; 4]);
        let manifest = self.manifest(&bytes);
        let receipt = self.upload(site, &manifest, &bytes).unwrap();
        (manifest, receipt)
    }

    fn fold(&mut self) {
        let job = self.coordinator.poll_job().unwrap();
        self.coordinator.folded(NOW, job.run().unwrap()).unwrap();
    }

    /// Launches a second run beside the process that serves.
    fn launch_another(&self) -> RunId {
        let run: RunId = "doors-2".parse().unwrap();
        let mut journal = Journal::open_shared(self.folder.path()).unwrap();
        let first = journal.launches().unwrap().remove(0);
        let plan = Plan::parse(&first.plan).unwrap();
        let initial = Initial::open(&self.folder.path().join("first.safetensors")).unwrap();
        let (blobs, own) = (self.coordinator.blobs(), &self.identities[0]);
        launch(&mut journal, blobs, own, &run, &plan, &initial, NOW).unwrap();
        run
    }

    /// Shuts a site out, as another process would, and lets this one know.
    fn revoke(&mut self, site: usize) {
        self.authority
            .revoke(&SITES[site].parse().unwrap(), NOW)
            .unwrap();
        let newest = self.authority.consortium();
        assert!(self.trust.update(newest.as_bytes()).unwrap());
    }

    /// The run that is served, by its name, and what it is doing.
    fn served(&self) -> (String, String) {
        let run = self.coordinator.overview(NOW).run.unwrap();
        (run.run, run.phase)
    }

    fn refusals(&self, round: u32, site: usize) -> Vec<String> {
        let key = (Round(round), SITES[site].parse().unwrap());
        let refusals = self.coordinator.run().unwrap().refusals().get(&key);
        let reasons = refusals.into_iter().flatten();
        reasons.map(ToString::to_string).collect()
    }
}

#[test]
fn bad_updates_are_refused_with_a_reason_and_the_round_goes_on() {
    let mut scene = Scene::new();
    let [nan, infinite, long, short, fine] = [
        update([1.0, f32::NAN, 1.0, 1.0]),
        update([1.0, 1.0, f32::INFINITY, 1.0]),
        update([100.0; 4]),
        vec![0; 12],
        update([1.0; 4]),
    ];
    let mut refused = Vec::new();
    for bytes in [&nan, &infinite, &long, &short] {
        let manifest = scene.manifest(bytes);
        refused.push(scene.upload(0, &manifest, bytes).unwrap_err().to_string());
    }
    let good = scene.manifest(&fine);
    let facts = |examples, base| {
        Content::Update(UpdateFacts {
            base,
            examples,
            steps: 1,
            encoding: Encoding::F32,
        })
    };
    let base = scene.coordinator.run().unwrap().checkpoint().model;
    let mut wrong = vec![good.clone(); 5];
    wrong[0].round = Round(2);
    wrong[1].schema = Digest::of(b"another model");
    wrong[2].content = facts(10, Digest::of(b"another base"));
    wrong[3].content = facts(1001, base);
    wrong[4].run = "other-1".parse().unwrap();
    for manifest in &wrong {
        refused.push(scene.upload(0, manifest, &fine).unwrap_err().to_string());
    }
    // Each has its reason, and the journal keeps them for the site and round.
    assert_eq!(scene.refusals(1, 0), refused);
    for (reason, expected) in refused.iter().zip([
        "element 1",
        "element 2",
        "norm",
        "12",
        "round 2",
        "schema",
        "starts from",
        "1001",
        "unknown",
    ]) {
        assert!(reason.contains(expected), "{reason}: no {expected}");
    }
    // Another update once one is staged is a replay; the staged one counts.
    scene.good(0, 1.0);
    let other = update([2.0; 4]);
    let manifest = scene.manifest(&other);
    let reason = scene.upload(0, &manifest, &other).unwrap_err();
    assert!(matches!(reason, Reason::Replayed { .. }), "{reason}");
    scene.good(1, 3.0);
    scene.fold();
    let run = scene.coordinator.run().unwrap();
    assert_eq!(run.history()[0].updates.len(), 2);
    assert_eq!(run.round(), Round(2));
}

#[test]
fn a_receipt_that_was_lost_is_given_again_however_far_the_run_has_gone_on() {
    let mut scene = Scene::new();
    let (manifest, receipt) = scene.good(0, 1.0);
    let bytes = update([1.0; 4]);
    assert_eq!(scene.upload(0, &manifest, &bytes).unwrap(), receipt);
    scene.good(1, 3.0);
    // While it is folded, in the next round, and after the last.
    assert_eq!(scene.upload(0, &manifest, &bytes).unwrap(), receipt);
    scene.fold();
    assert_eq!(scene.upload(0, &manifest, &bytes).unwrap(), receipt);
    scene.good(0, 2.0);
    scene.good(1, 4.0);
    scene.fold();
    assert_eq!(scene.coordinator.run().unwrap().phase(), &Phase::Finished);
    assert_eq!(scene.upload(0, &manifest, &bytes).unwrap(), receipt);
    // What never counted gets none.
    let other = update([9.0; 4]);
    let late = Manifest {
        blob: BlobRef {
            digest: Digest::of(&other),
            len: other.len() as u64,
        },
        ..manifest
    };
    assert!(scene.upload(0, &late, &other).is_err());
    let verified = verify(scene.folder.path(), &scene.trust, &scene.run).unwrap();
    assert_eq!((verified.receipts, verified.records), (4, 2));
    replay(scene.folder.path(), &scene.run, |_, _| {}).unwrap();
}

#[test]
fn a_coordinator_that_starts_again_knows_what_counts() {
    let mut scene = Scene::new();
    let (manifest, receipt) = scene.good(0, 1.0);
    let Scene {
        folder,
        coordinator,
        ..
    } = scene;
    drop(coordinator);
    // Its key does not matter for what was signed before.
    let mut authority = Authority::found("headct".parse().unwrap(), NOW).unwrap();
    let own = Arc::new(admit(&mut authority, Role::Coordinator, "coordinator"));
    let mut coordinator = Coordinator::open(folder.path(), own, Options::default(), NOW).unwrap();
    let id = SITES[0].parse().unwrap();
    let Offer::Counted(again) = coordinator.offered(NOW, &id, LINK, &manifest).unwrap() else {
        panic!("it counts");
    };
    assert_eq!(again, receipt);
}

#[test]
fn a_model_that_is_exported_and_launched_to_be_evaluated_is_known_by_who_trained_it() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        scene.good(0, 1.0);
        scene.good(1, 3.0);
        scene.fold();
    }
    let file = scene.folder.path().join("exported.safetensors");
    let network = Network::default();
    export_model(scene.folder.path(), &scene.run, None, network, &file).unwrap();
    let initial = Initial::open(&file).unwrap();
    let plan = format!(
        "name = \"test\"\nobjective = \"evaluate\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
         initial = \"{}\"\ncohort = {{ rule = \"full\", sites = [\"north\", \"east\"] }}\n\
         evaluation = {{ every = 1, tasks = [\"ich\"], histogram_bins = 2 }}\n",
        initial.digest()
    );
    let plan = Plan::parse(plan.as_bytes()).unwrap();
    let run: RunId = "test-1".parse().unwrap();
    let mut journal = Journal::open_shared(scene.folder.path()).unwrap();
    let (blobs, identity) = (scene.coordinator.blobs(), &scene.identities[0]);
    launch(&mut journal, blobs, identity, &run, &plan, &initial, NOW).unwrap();
    for site in ["north", "east"] {
        let task = TaskReport {
            task: "ich".to_owned(),
            positive: vec![1, 9],
            negative: vec![8, 2],
            auc: None,
        };
        let event = Event::Evaluated {
            site: site.parse().unwrap(),
            round: Round(0),
            report: Report { tasks: vec![task] },
        };
        journal.append(&run, NOW, &event, &[]).unwrap();
    }
    let row = matrix(scene.folder.path(), &[run], None).unwrap().remove(0);
    let side = |site: &str| row.side(&site.parse().unwrap());
    assert_eq!(
        [side("north"), side("east")],
        [Side::Internal, Side::External]
    );
}

fn update(values: [f32; 4]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn admit(authority: &mut Authority, role: Role, name: &str) -> Identity {
    let key = PrivateKey::generate().unwrap();
    let request = Request::write(&name.parse().unwrap(), &key).unwrap();
    let request = Request::read(request.as_bytes()).unwrap();
    let certificate = authority.approve(&request, role, NOW).unwrap();
    Identity::new(Arc::new(key), certificate).unwrap()
}

#[test]
fn a_plan_that_a_sites_policy_declines_is_shown_with_the_reason_until_it_joins() {
    let mut scene = Scene::new();
    let south: SiteId = SITES[1].parse().unwrap();
    let shown = |scene: &Scene, site: &str| {
        let run = scene.coordinator.overview(NOW).run.unwrap();
        (run.plan, run.sites[site].declined.clone())
    };
    let (plan, nothing) = shown(&scene, "south");
    assert_eq!(nothing, None);
    let rejection = |plan| {
        let rule = Text::lossy("plan has 2 rounds, policy max_rounds is 1");
        let reason = Reason::Policy { rule };
        Rejection {
            subject: Subject::Plan(plan),
            reason,
        }
    };
    let say = |scene: &mut Scene, site: &SiteId, plan| {
        let message = rejection(plan).into();
        scene.coordinator.message(NOW, site, message).unwrap();
    };
    // Of another plan, or of a site that this one does not name: nothing of this run.
    say(&mut scene, &south, Digest::of(b"another"));
    say(&mut scene, &"east".parse().unwrap(), plan);
    assert_eq!(shown(&scene, "south").1, None);
    say(&mut scene, &south, plan);
    let reason = "site policy: plan has 2 rounds, policy max_rounds is 1";
    assert_eq!(shown(&scene, "south").1.as_deref(), Some(reason));
    assert_eq!(shown(&scene, "north").1, None);
    let (run, examples) = (scene.run.clone(), 10);
    let join = Join {
        run,
        plan,
        examples,
    };
    scene.coordinator.message(NOW, &south, join.into()).unwrap();
    assert_eq!(shown(&scene, "south").1, None);
}

#[test]
fn a_task_that_a_site_refuses_is_not_waited_for_and_its_reason_is_kept() {
    let mut scene = Scene::new();
    let [north, south] = SITES.map(|site| site.parse::<SiteId>().unwrap());
    let reason = Reason::Policy {
        rule: Text::lossy("round 1 begins at step 0, found 7"),
    };
    let mut refuse = |site: &SiteId, round| {
        let rejection = Rejection {
            subject: Subject::Task(scene.run.clone(), round),
            reason: reason.clone(),
        };
        scene
            .coordinator
            .message(NOW, site, rejection.into())
            .unwrap();
        scene.coordinator.run().unwrap().phase().clone()
    };
    // Of a round that is over, or not begun.
    assert!(matches!(refuse(&south, Round(2)), Phase::Training { .. }));
    refuse(&south, Round(1));
    // Nobody is at work any more, and the full rule has no round without them.
    assert!(matches!(refuse(&north, Round(1)), Phase::Gathering { .. }));
    let journal = Journal::open_shared(scene.folder.path()).unwrap();
    let entries = journal.entries(&scene.run).unwrap();
    let dropped: Vec<Event> = entries
        .iter()
        .map(|entry| entry.event(&scene.run).unwrap())
        .filter(|event| matches!(event, Event::Dropped { .. }))
        .collect();
    let expected = [south, north].map(|site| Event::Dropped {
        site,
        reason: Dropped::Failed {
            reason: reason.to_string(),
        },
    });
    assert_eq!(dropped, expected);
}
