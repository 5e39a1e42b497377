//! DINO's teacher and center, optimizer moments and frozen backbones go where the plan says.

use protocol::plan::Plan;
use site_client::federation::{CENTER, LocalTraining, TrainError, Trainer};
use site_client::params::to_state;

use crate::harness::{hospital, member, plan, rehearse, weights};

const SITES: [&str; 2] = ["langone", "cq500"];

fn dino(teacher: &str, center: &str) -> Plan {
    let rest = format!(
        "{center} = [\"{CENTER}\"]\n[local]\nsteps = 2\nbatch_size = 3\n\
         [schedule]\nlearning_rate = {{ peak = 1e-3, end = 1e-3 }}\n\
         [dino]\nteacher = \"{teacher}\"\nteacher_momentum = {{ start = 0.9, end = 0.9 }}\n"
    );
    plan("dino", 2, &SITES, &rest)
}

fn two(plan: &Plan) -> (fmct_demo::Rehearsal, tempfile::TempDir) {
    rehearse(
        plan,
        SITES.map(|site| member(site, hospital(site, 16))).into(),
    )
}

#[test]
fn the_coordinators_teacher_follows_the_global_student_by_the_momentum_of_a_round() {
    let (mut rehearsal, _folder) = two(&dino("server-ema", "statistics"));
    let before = to_state(&rehearsal.teacher().unwrap());
    rehearsal.round().unwrap();
    let (student, teacher) = (
        to_state(&rehearsal.model().unwrap()),
        to_state(&rehearsal.teacher().unwrap()),
    );
    let kept = 0.9_f64 * 0.9;
    for (name, teacher) in teacher.iter().filter(|(name, _)| *name != CENTER) {
        let rows = before[name].values.iter().zip(&student[name].values);
        for (teacher, (before, student)) in teacher.values.iter().zip(rows) {
            let expected = kept * f64::from(*before) + (1.0 - kept) * f64::from(*student);
            assert!((f64::from(*teacher) - expected).abs() <= 1e-7 * expected.abs().max(1e-3));
        }
    }
    assert_ne!(before, teacher);
    let kept_here = rehearsal.carried().any(|carried| carried.teacher.is_some());
    assert!(!kept_here, "sites keep no teacher of their own");
}

#[test]
fn a_local_teacher_stays_at_its_site_and_a_resynced_one_is_drawn_to_the_others() {
    let mut apart = Vec::new();
    for treatment in ["local", "local-resync"] {
        let (mut rehearsal, _folder) = two(&dino(treatment, "statistics"));
        let sent = rehearsal.round().unwrap();
        rehearsal.round().unwrap();
        let teachers: Vec<Vec<f32>> = rehearsal
            .carried()
            .map(|carried| carried.teacher.clone().unwrap())
            .collect();
        let squares = teachers[0].iter().zip(&teachers[1]);
        let squares = squares.map(|(a, b)| f64::from(a - b).powi(2));
        apart.push(squares.sum::<f64>());
        // Weights and center, not a teacher.
        let trained = weights(&rehearsal);
        let elements = trained.values().map(|tensor| tensor.values.len());
        let center = to_state(&rehearsal.model().unwrap())[CENTER].values.len();
        let floats = elements.sum::<usize>() + center;
        assert_eq!(sent.up, [4 * floats as u64; 2], "{treatment}");
        assert_eq!(sent.down, 4 * floats as u64, "{treatment}");
    }
    assert!(0.0 < apart[1] && apart[1] < apart[0], "{apart:?}");
}

#[test]
fn the_center_is_averaged_as_its_own_vector_or_stays_at_each_site() {
    let (mut rehearsal, _folder) = two(&dino("server-ema", "statistics"));
    let averaged = rehearsal.round().unwrap();
    let center = &to_state(&rehearsal.model().unwrap())[CENTER].values;
    assert!(center.iter().any(|value| *value != 0.0));

    let (mut rehearsal, _folder) = two(&dino("server-ema", "local_parameters"));
    let own = rehearsal.round().unwrap();
    let global = &to_state(&rehearsal.model().unwrap())[CENTER].values;
    assert!(
        global.iter().all(|value| *value == 0.0),
        "nobody's center moved it"
    );
    let centers: Vec<&[f32]> = rehearsal.carried().map(|carried| &*carried.local).collect();
    assert_ne!(centers[0], centers[1]);
    assert_eq!(averaged.up[0] - own.up[0], 4 * center.len() as u64);
}

fn probe(local: &str) -> Plan {
    let rest = format!(
        "{local}\n[local]\nsteps = 2\nbatch_size = 4\n[schedule]\nlearning_rate = {{ peak = 1e-3 }}\n\
         [evaluation]\nevery = 1\ntasks = [\"SDH\", \"ICH\"]\n"
    );
    plan("probe", 1, &SITES, &rest)
}

#[test]
fn a_head_on_a_frozen_backbone_is_all_that_leaves_a_site() {
    let (mut rehearsal, _folder) = two(&probe("local_parameters = [\"backbone.*\"]"));
    let before = weights(&rehearsal);
    let sent = rehearsal.round().unwrap();
    let after = weights(&rehearsal);
    let head = |name: &&String| name.starts_with("heads.");
    let floats: usize = after
        .iter()
        .filter(|(name, _)| head(name))
        .map(|(_, tensor)| tensor.values.len())
        .sum();
    assert_eq!(sent.up, [4 * floats as u64; 2]);
    assert!(sent.up[0] * 100 < sent.down, "{sent:?}");
    for (name, tensor) in &after {
        assert_eq!(head(&name), before[name] != *tensor, "{name}");
    }
}

#[test]
fn a_probe_whose_plan_would_send_a_frozen_backbone_is_refused() {
    let mut trainer = LocalTraining::new(hospital("langone", 16), burn::tensor::Device::flex());
    let Err(TrainError::Failed(reason)) = trainer.schema(&probe("")) else {
        panic!("expected a refusal");
    };
    assert!(
        reason.contains("local_parameters: must hold a frozen backbone"),
        "{reason}"
    );
    assert!(
        trainer
            .schema(&probe("local_parameters = [\"backbone.*\"]"))
            .is_ok()
    );
}
