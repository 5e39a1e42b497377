//! What a member says again and again, or of something else than what it was asked.

use protocol::Message;
use protocol::bounded::List;
use protocol::message::{Failed, Leave, Metrics};

use super::*;

impl Scene {
    fn rows(&self) -> u64 {
        let journal = Journal::open_shared(self.folder.path()).unwrap();
        journal.len(&self.run).unwrap()
    }

    /// What the first site is told after it has said this.
    fn say(&mut self, message: Message) -> Vec<Message> {
        while self.coordinator.poll_message().is_some() {}
        let north = SITES[0].parse().unwrap();
        self.coordinator.message(NOW, &north, message).unwrap();
        let told = std::iter::from_fn(|| self.coordinator.poll_message());
        told.filter(|(site, _)| *site == north)
            .map(|(_, message)| message)
            .collect()
    }

    fn join(&mut self) -> Vec<Message> {
        let join = Join {
            run: self.run.clone(),
            plan: self.coordinator.overview(NOW).run.unwrap().plan,
            examples: 10,
        };
        self.say(join.into())
    }

    fn leave(&mut self) -> Vec<Message> {
        let leave = Leave {
            run: self.run.clone(),
            reason: Text::lossy("test"),
        };
        self.say(leave.into())
    }
}

#[test]
fn a_site_makes_one_row_when_it_joins_and_one_when_it_leaves_whatever_it_says_over_a_connection() {
    let mut scene = Scene::new();
    let rows = scene.rows();
    // It is told its task again: it may be there over another connection.
    for _ in 0..5 {
        assert!(matches!(scene.join()[..], [Message::Task(_)]));
    }
    assert_eq!(scene.rows(), rows);
    let busy = |told: &[Message]| matches!(told, [Message::Rejection(rejection)] if rejection.reason == Reason::Busy);
    for _ in 0..5 {
        assert!(scene.leave().is_empty());
        let told = scene.join();
        assert!(busy(&told), "{told:?}");
    }
    assert_eq!(scene.rows(), rows + 1);
    scene.coordinator.connected(SITES[0].parse().unwrap());
    assert!(matches!(scene.join()[..], [Message::Task(_)]));
    assert_eq!(scene.rows(), rows + 2);
    // Nor does a task that it fails bring it back over the same connection.
    for _ in 0..5 {
        let failed = Failed {
            run: scene.run.clone(),
            round: Round(1),
            reason: Text::lossy("out of memory"),
        };
        scene.say(failed.into());
        let told = scene.join();
        assert!(busy(&told), "{told:?}");
    }
    // It failed, and the other one is still at work.
    assert_eq!(scene.served().1, "training");
    // One row that it failed, and one that it had nothing more to fail.
    assert_eq!(scene.rows(), rows + 4);
    scene.coordinator.connected(SITES[0].parse().unwrap());
    assert!(matches!(scene.join()[..], [Message::Task(_)]));
}

#[test]
fn a_report_of_another_model_than_the_one_in_evaluation_is_refused() {
    let evaluated = "evaluation = { every = 1, tasks = [\"ich\"], histogram_bins = 2 }";
    let mut scene = Scene::of("rule = \"full\"", evaluated);
    let before = scene.coordinator.run().unwrap().checkpoint().model;
    scene.good(0, 1.0);
    scene.good(1, 3.0);
    scene.fold();
    let model = scene.coordinator.run().unwrap().checkpoint().model;
    let metrics = |scene: &Scene, model| Metrics {
        run: scene.run.clone(),
        round: Round(1),
        model,
        scalars: List::default(),
        tasks: List::default(),
    };
    let other = metrics(&scene, before);
    let told = scene.say(other.into());
    let [Message::Rejection(rejection)] = &told[..] else {
        panic!("refused, but {told:?}");
    };
    let reason = format!("evaluation: of model {before}, expected {model}");
    assert_eq!(rejection.reason.to_string(), reason);
    assert_eq!(scene.refusals(1, 0), [reason]);
    let right = metrics(&scene, model);
    assert!(scene.say(right.into()).is_empty());
    let Phase::Evaluating { reports, .. } = scene.coordinator.run().unwrap().phase() else {
        panic!("the other site is awaited");
    };
    assert_eq!(reports.len(), 1);
}
