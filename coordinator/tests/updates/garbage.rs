//! What stays on disk and what goes: refused uploads, rounds that are not kept, damage.

use std::fs;
use std::path::PathBuf;
use std::thread;

use coordinator::service::{Replayed, ServiceError};
use protocol::message::Failed;
use rusqlite::Connection;
use transport::BlobStore;

use super::*;

impl Scene {
    fn path(&self, blob: Digest) -> PathBuf {
        self.coordinator.blobs().path(blob)
    }

    /// A round in which both sites send; the first one's manifest.
    fn round(&mut self, value: f32) -> Manifest {
        let (manifest, _) = self.good(0, value);
        self.good(1, value + 0.5);
        self.fold();
        manifest
    }

    /// What the service's shell does once a round is over.
    fn collect(&mut self) {
        if let Some(collection) = self.coordinator.poll_collection() {
            let store = BlobStore::open(blobs_path(self.folder.path())).unwrap();
            store.collect(collection.needed()).unwrap();
        }
    }

    fn replay(&self) -> Result<Replayed, ServiceError> {
        replay(self.folder.path(), &self.run, |_, _| {})
    }
}

const KEEP_ONE: Options = Options {
    keep_rounds: Some(1),
};
const FULL: &str = "rule = \"full\"";

#[test]
fn an_upload_that_is_refused_does_not_stay_on_disk_unless_its_bytes_count_for_another_site() {
    let mut scene = Scene::new();
    let bad = update([1.0, f32::NAN, 1.0, 1.0]);
    let manifest = scene.manifest(&bad);
    scene.upload(0, &manifest, &bad).unwrap_err();
    assert!(!scene.path(manifest.blob.digest).exists());
    let (counted, _) = scene.good(1, 3.0);
    scene.revoke(0);
    let same = update([3.0; 4]);
    let refused = scene.upload(0, &counted, &same).unwrap_err();
    assert_eq!(refused.to_string(), "update: of a site that was revoked");
    assert!(scene.path(counted.blob.digest).exists());
}

#[test]
fn an_upload_is_not_removed_while_blobs_are_held_and_is_afterwards() {
    let mut scene = Scene::new();
    let bad = update([f32::INFINITY; 4]);
    let manifest = scene.manifest(&bad);
    let held = scene.coordinator.blobs().hold().unwrap();
    scene.upload(0, &manifest, &bad).unwrap_err();
    assert!(scene.path(manifest.blob.digest).exists());
    drop(held);
    scene.coordinator.activate(NOW).unwrap();
    assert!(!scene.path(manifest.blob.digest).exists());
}

#[test]
fn a_refused_upload_stays_while_a_fold_is_under_way_and_goes_after_it() {
    let mut scene = Scene::of("rule = \"quorum\", quorum = 1", "");
    let north: SiteId = SITES[0].parse().unwrap();
    let bad = update([f32::NAN; 4]);
    let manifest = scene.manifest(&bad);
    let offer = scene.coordinator.offered(NOW, &north, LINK, &manifest);
    assert!(matches!(offer.unwrap(), Offer::Welcome(_)));
    scene.good(1, 3.0);
    let failed = Failed {
        run: scene.run.clone(),
        round: Round(1),
        reason: Text::lossy("test"),
    };
    scene
        .coordinator
        .message(NOW, &north, failed.into())
        .unwrap();
    assert_eq!(scene.served().1, "aggregating");
    let (mut file, path) = scene.coordinator.blobs().create("upload").unwrap();
    file.write_all(&bad).unwrap();
    scene.coordinator.blobs().commit(&file, &path).unwrap();
    let identity = &scene.identities[0];
    let signed = Signed::new(&manifest, |context, text| identity.sign(context, text)).unwrap();
    let inspected = Err(Reason::Invalid {
        defect: Text::lossy("test"),
    });
    let from = (&north, LINK);
    let refused = scene
        .coordinator
        .uploaded(NOW, from, &signed, &manifest, inspected);
    refused.unwrap().unwrap_err();
    // The next model may be on disk already, and no journal names it yet.
    assert!(scene.path(manifest.blob.digest).exists());
    scene.fold();
    scene.coordinator.activate(NOW).unwrap();
    assert!(!scene.path(manifest.blob.digest).exists());
}

#[test]
fn a_site_sends_one_upload_at_a_time_and_what_it_gives_up_does_not_stay_on_disk() {
    let mut scene = Scene::new();
    let north: SiteId = SITES[0].parse().unwrap();
    let [first, second] = [5.0, 2.0].map(|value| scene.manifest(&update([value; 4])));
    let offer = |scene: &mut Scene, link, manifest: &Manifest| match scene
        .coordinator
        .offered(NOW, &north, link, manifest)
        .unwrap()
    {
        Offer::Welcome(_) => Ok(()),
        Offer::Refused(reason) => Err(reason),
        Offer::Counted(_) => panic!("nothing counts"),
    };
    assert_eq!(offer(&mut scene, 1, &first), Ok(()));
    let partial = blobs_path(scene.folder.path()).join("partial");
    fs::create_dir_all(&partial).unwrap();
    let partial = partial.join(first.blob.digest.to_string());
    fs::write(&partial, "the half of it").unwrap();
    for link in [1, 2] {
        assert_eq!(offer(&mut scene, link, &second), Err(Reason::Busy));
    }
    // It is back before the end of its first link was noticed, and goes on.
    assert_eq!(offer(&mut scene, 2, &first), Ok(()));
    scene.coordinator.link_ended(&north, 1);
    assert_eq!(offer(&mut scene, 2, &second), Err(Reason::Busy));
    scene.coordinator.upload_cut(&north, 2, first.blob.digest);
    assert!(partial.exists(), "it may still go on");
    assert_eq!(offer(&mut scene, 2, &second), Ok(()));
    assert!(!partial.exists());
    scene.coordinator.link_ended(&north, 2);
    // That it had to wait is no refusal to be remembered.
    assert_eq!(scene.refusals(1, 0), Vec::<String>::new());
    scene.good(0, 2.0);
}

#[test]
fn replay_passes_over_rounds_that_were_collected_and_fails_on_a_blob_that_was_to_be_kept() {
    let mut scene = Scene::with(FULL, "", KEEP_ONE);
    let [old, kept] = [4.0, 2.0].map(|value| {
        let manifest = scene.round(value);
        scene.collect();
        scene.path(manifest.blob.digest)
    });
    assert!(!old.exists() && kept.exists());
    let expected = Replayed {
        rounds: 1,
        collected: 1,
    };
    assert_eq!(scene.replay().unwrap(), expected);
    fs::remove_file(kept).unwrap();
    scene.replay().unwrap_err();
}

#[test]
fn replay_fails_on_a_missing_blob_where_nothing_was_collected() {
    let mut scene = Scene::new();
    let [first, _] = [4.0, 2.0].map(|value| scene.round(value));
    let both = Replayed {
        rounds: 2,
        collected: 0,
    };
    assert_eq!(scene.replay().unwrap(), both);
    fs::remove_file(scene.path(first.blob.digest)).unwrap();
    scene.replay().unwrap_err();
}

#[test]
fn nothing_is_collected_while_blobs_are_held_and_uploads_under_way_never_are() {
    let mut scene = Scene::with(FULL, "", KEEP_ONE);
    let held = scene.coordinator.blobs().hold().unwrap();
    let old = scene.round(4.0);
    let kept = scene.round(2.0);
    scene.coordinator.activate(NOW).unwrap();
    assert!(scene.coordinator.poll_collection().is_none());
    let next = scene.launch_another();
    drop(held);
    scene.coordinator.activate(NOW).unwrap();
    let collection = scene.coordinator.poll_collection().unwrap();
    assert!(
        scene.coordinator.blobs().clear().unwrap().is_none(),
        "nobody else may now"
    );
    assert!(!collection.needed().contains(&old.blob.digest));
    assert!(collection.needed().contains(&kept.blob.digest));
    let journal = Journal::open_shared(scene.folder.path()).unwrap();
    let entry = journal.entries(&next).unwrap().remove(0);
    let Event::Launched { checkpoint } = entry.event(&next).unwrap() else {
        panic!("launched first");
    };
    assert!(collection.needed().contains(&checkpoint.model));
}

#[test]
fn a_run_that_is_being_launched_holds_its_model_until_the_journal_names_it() {
    let scene = Scene::new();
    let (folder, blobs) = (scene.folder.path(), scene.coordinator.blobs());
    let file = folder.join("second.safetensors");
    let params = Params::from_tensors([("w".to_owned(), vec![4], vec![2.0; 4])]).unwrap();
    fs::write(&file, params.to_safetensors()).unwrap();
    let initial = Initial::open(&file).unwrap();
    let journal = Journal::open_shared(folder).unwrap();
    let text = String::from_utf8(journal.launches().unwrap().remove(0).plan).unwrap();
    let first = Initial::open(&folder.join("first.safetensors")).unwrap();
    let text = text.replace(&first.digest().to_string(), &initial.digest().to_string());
    let plan = Plan::parse(text.as_bytes()).unwrap();
    let (own, run) = (&scene.identities[0], "doors-2".parse().unwrap());
    let model = Digest::of(&update([2.0; 4]));

    // The journal is busy just when the model is on disk.
    let busy = Connection::open(folder.join("journal.sqlite")).unwrap();
    busy.execute_batch("BEGIN IMMEDIATE").unwrap();
    thread::scope(|scope| {
        let launching = scope.spawn(|| {
            let mut journal = Journal::open_shared(folder).unwrap();
            launch(&mut journal, blobs, own, &run, &plan, &initial, NOW).unwrap()
        });
        while !blobs.contains(model) && !launching.is_finished() {
            thread::yield_now();
        }
        assert!(blobs.clear().unwrap().is_none());
        busy.execute_batch("COMMIT").unwrap();
        assert_eq!(launching.join().unwrap().model, model);
    });
    assert!(blobs.clear().unwrap().is_some());
}

#[test]
fn a_fold_of_a_blob_that_is_damaged_on_disk_names_the_blob() {
    let mut scene = Scene::new();
    let base = scene.coordinator.run().unwrap().checkpoint().model;
    let (manifest, _) = scene.good(0, 5.0);
    scene.good(1, 3.0);
    let job = scene.coordinator.poll_job().unwrap();
    for blob in [manifest.blob.digest, base] {
        let sound = fs::read(scene.path(blob)).unwrap();
        let mut flipped = sound.clone();
        flipped[13] ^= 1;
        // A number that is another, values that are none, and too few.
        for damaged in [flipped, vec![0xff; sound.len()], sound[..8].to_vec()] {
            fs::write(scene.path(blob), damaged).unwrap();
            let error = job.run().unwrap_err().to_string();
            assert_eq!(error, format!("blob {blob}: its bytes have another digest"));
        }
        fs::write(scene.path(blob), sound).unwrap();
    }
    let folded = job.run().unwrap();
    scene.coordinator.folded(NOW, folded).unwrap();
    assert_eq!(scene.coordinator.run().unwrap().round(), Round(2));
}

#[test]
fn a_damaged_model_is_not_exported() {
    let mut scene = Scene::new();
    scene.round(1.0);
    let model = scene.coordinator.run().unwrap().checkpoint().model;
    let mut bytes = fs::read(scene.path(model)).unwrap();
    bytes[0] ^= 1;
    fs::write(scene.path(model), bytes).unwrap();
    let file = scene.folder.path().join("exported.safetensors");
    let network = Network::default();
    let exported = export_model(scene.folder.path(), &scene.run, None, network, &file);
    let error = exported.unwrap_err().to_string();
    assert_eq!(
        error,
        format!("blob {model}: its bytes have another digest")
    );
    assert!(!file.exists());
}
