//! Scans that cannot be read though they could be when training began.

use super::*;

/// A source of which some scans cannot be read.
#[derive(Debug)]
struct Damaged(Corner, Vec<usize>);

impl Source for Damaged {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn id(&self, scan: usize) -> String {
        self.0.id(scan)
    }

    fn load(&self, scan: usize, reading: Reading) -> Result<Arc<Windowed>, String> {
        if self.1.contains(&scan) {
            return Err("input/output error".into());
        }
        self.0.load(scan, reading)
    }
}

/// 137 labelled scans: 1 % is one of them.
fn damaged(scans: &[usize]) -> Labelled {
    let source: Arc<dyn Source> = Arc::new(Damaged(Corner(160), scans.to_vec()));
    labelled(160).reading(|_| source)
}

#[test]
fn a_scan_that_cannot_be_read_is_left_out_of_training_and_a_second_of_137_stops_it() {
    let plan = plan(&["finetune.shift=0.0"]);
    let draw = Draw::balanced(&labelled(160), 16).unwrap();
    let mut without = finetuning(&plan, Start::Scratch, &draw);
    without.train(&labelled(160), &[2, 4, 5, 8, 9], 1).unwrap();
    assert_eq!(without.left_out(), 0);

    let mut learner = finetuning(&plan, Start::Scratch, &draw);
    let scans = [1, 2, 4, 5, 8, 9];
    learner.train(&damaged(&[1]), &scans, 1).unwrap();
    assert!(learner.parameters() == without.parameters());
    learner.train(&damaged(&[1]), &scans, 2).unwrap();
    assert_eq!(learner.left_out(), 1, "counted once");

    let error = learner.train(&damaged(&[1, 4]), &scans, 3).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("2 of 137") && error.contains("scan-1 scan-4"),
        "{error}"
    );
}

#[test]
fn a_scan_that_cannot_be_read_has_no_score_unless_all_are_asked_for() {
    let plan = plan(&[]);
    let draw = Draw::balanced(&labelled(160), 16).unwrap();
    let learner = finetuning(&plan, Start::Scratch, &draw);
    let scans = [3, 10, 11];
    let (read, scores) = learner.readable_scores(&damaged(&[10]), &scans).unwrap();
    assert_eq!(read, [3, 11]);
    let expected = learner.scores(&labelled(160), &[3, 11]).unwrap();
    assert_eq!(scores, expected);

    let error = learner.scores(&damaged(&[10]), &scans).unwrap_err();
    assert_eq!(error.to_string(), "scan scan-10: input/output error");
    let error = learner.readable_scores(&damaged(&[3, 10]), &scans);
    assert!(error.unwrap_err().to_string().contains("2 of 137"));
}

#[test]
fn fine_tuning_ends_with_the_count_of_what_it_left_out_and_scores_the_rest() {
    let plan = plan(&["finetune.epochs=2"]);
    let trial = Trial {
        plan: &plan,
        protocol: Protocol::Finetune,
        backbone: None,
        seed: 1,
        device: &Device::flex(),
    };
    let run = |scan: usize| {
        let set = damaged(&[scan]);
        let draw = Draw::balanced(&set, 16).unwrap();
        let trained = trial.run(&set, &[], &draw, &mut |_, _, _| {}).unwrap();
        (trained, set.part(Part::Test).len())
    };
    let (validated, test) = run(10);
    assert_eq!(validated.fit.left_out, 1);
    assert!(validated.fit.validation_auc.is_finite());
    assert_eq!(validated.predictions.len(), test);
    let note = TrialNote::fitted("SDH", "finetune", &validated.fit);
    let note = serde_json::to_value(&note).unwrap();
    assert_eq!(note["left_out"], 1);

    let (tested, test) = run(11);
    assert_eq!(tested.fit.left_out, 0);
    assert_eq!(tested.predictions.len(), test - 1);
    let named = |row: &crate::evaluate::Prediction| &*row.scan == "scan-11";
    assert!(!tested.predictions.iter().any(named));
}
