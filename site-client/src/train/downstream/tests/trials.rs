//! Whole protocols: what they read, and how often.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn frozen_features_of_labelled_scans_are_computed_once_for_all_tasks() {
    let plan = plan(&["finetune.epochs=2"]);
    let source = Arc::new(Counting(Corner(160), AtomicUsize::new(0)));
    let one = labelled(160);
    let twice = one.rows().iter().map(|row| LabelledScan {
        labels: vec![row.labels[0]; 2],
        ..row.clone()
    });
    let names: Vec<Arc<str>> = vec!["SDH".into(), "EDH".into()];
    let set = Labelled::new(Arc::<Counting>::clone(&source), names, twice.collect()).unwrap();
    let weights = backbone(&plan, 3);
    let trial = Trial {
        plan: &plan,
        protocol: Protocol::LinearProbe,
        backbone: Some(&weights),
        seed: 1,
        device: &Device::flex(),
    };
    let external = [set.clone()];
    let ready = trial.ready(&set, &external).unwrap();
    let mut aucs = Vec::new();
    for task in ["SDH", "EDH"] {
        let set = set.of_tasks(&[task.into()]).unwrap();
        let draw = Draw::balanced(&set, 48).unwrap();
        let trained = ready
            .run(&set, std::slice::from_ref(&set), &draw, &mut |_, _, _| {})
            .unwrap();
        aucs.push(trained.fit.validation_auc);
    }
    let (labelled, test) = (set.labelled().len(), set.part(Part::Test).len());
    assert_eq!(source.1.load(Ordering::SeqCst), labelled + test);
    // The same labels under two names: the same probe.
    assert_eq!(aucs[0], aucs[1]);

    source.1.store(0, Ordering::SeqCst);
    let one = set.of_tasks(&["SDH".into()]).unwrap();
    let draw = Draw::balanced(&one, 48).unwrap();
    let alone = trial.run(&one, &[], &draw, &mut |_, _, _| {}).unwrap();
    assert_eq!(alone.fit.validation_auc, aucs[0], "shared or not");
}

#[test]
fn fitting_leaves_the_test_part_unseen() {
    let plan = plan(&["finetune.epochs=1"]);
    let set = labelled(80);
    let seen = Arc::new(Seen(Corner(80), Mutex::default()));
    let set = set.reading(|_| Arc::<Seen>::clone(&seen) as Arc<dyn Source>);
    let trial = Trial {
        plan: &plan,
        protocol: Protocol::Finetune,
        backbone: None,
        seed: 1,
        device: &Device::flex(),
    };
    let draw = Draw::balanced(&set, 16).unwrap();
    let ready = trial.ready(&set, &[]).unwrap();
    let fitted = ready.fit(&set, &draw, &mut |_, _, _| {}).unwrap();
    let test = set.part(Part::Test);
    let touched = |scan: &usize| seen.1.lock().unwrap().contains(scan);
    assert!(!test.iter().any(touched));
    assert_eq!(fitted.test(&set, &[]).unwrap().len(), test.len());
    assert!(test.iter().all(touched));
}

/// A source that counts how often a scan is read.
#[derive(Debug)]
struct Counting(Corner, AtomicUsize);

impl Source for Counting {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn id(&self, scan: usize) -> String {
        self.0.id(scan)
    }

    fn load(&self, scan: usize, reading: Reading) -> Result<Arc<Windowed>, String> {
        // Scans without a label are not checked beforehand, and not read.
        if scan.is_multiple_of(7) {
            return Err("truncated".into());
        }
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.load(scan, reading)
    }
}

/// A source that remembers which scans were read.
#[derive(Debug)]
struct Seen(Corner, Mutex<BTreeSet<usize>>);

impl Source for Seen {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn id(&self, scan: usize) -> String {
        self.0.id(scan)
    }

    fn load(&self, scan: usize, reading: Reading) -> Result<Arc<Windowed>, String> {
        self.1.lock().unwrap().insert(scan);
        self.0.load(scan, reading)
    }
}
