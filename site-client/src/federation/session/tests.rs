use super::*;

fn task(round: u32) -> Task {
    Task {
        run: "run-1".parse().unwrap(),
        round: Round(round),
        model: Digest::of(&round.to_le_bytes()),
        first_step: 0,
        work: Work::Train,
    }
}

fn ready() -> Ready {
    Ready {
        blob: Digest::of(b"update"),
        bytes: 6,
        examples: 3,
        steps: 2,
        norm: Some(0.5),
    }
}

fn drain(session: &mut Session) -> Vec<Action> {
    std::iter::from_fn(|| session.poll()).collect()
}

/// A session that is training for round 1, and the state it would come back with.
fn running() -> Session {
    let mut session = Session::resume(State::default());
    session.handle(Event::Connected);
    session.handle(Event::Asked(task(1)));
    session.handle(Event::Fetched(task(1).model));
    drain(&mut session);
    session
}

fn persisted(actions: &[Action]) -> State {
    let mut states = actions.iter().filter_map(|action| match action {
        Action::Persist(state) => Some(state.clone()),
        _ => None,
    });
    states.next_back().expect("something was persisted")
}

#[test]
fn a_task_goes_from_asked_to_delivered() {
    let mut session = Session::resume(State::default());
    session.handle(Event::Connected);
    session.handle(Event::Asked(task(1)));
    assert_eq!(
        drain(&mut session).last(),
        Some(&Action::Fetch(task(1).model))
    );
    session.handle(Event::Fetched(task(1).model));
    assert_eq!(drain(&mut session).last(), Some(&Action::Start(task(1))));
    session.handle(Event::Done(task(1), ready()));
    assert_eq!(
        drain(&mut session).last(),
        Some(&Action::Send(task(1), ready()))
    );
    session.handle(Event::Received(ready().blob));
    let state = persisted(&drain(&mut session));
    assert_eq!(state.current, Some((task(1), Working::Delivered(ready()))));
}

#[test]
fn a_finished_update_is_durable_before_its_first_byte_goes() {
    let mut session = running();
    session.handle(Event::Done(task(1), ready()));
    let actions = drain(&mut session);
    assert!(matches!(
        &actions[..],
        [Action::Persist(_), Action::Send(..)]
    ));
}

#[test]
fn after_a_crash_a_finished_update_is_sent_and_not_trained_again() {
    let mut session = running();
    session.handle(Event::Done(task(1), ready()));
    let state = persisted(&drain(&mut session));
    let mut session = Session::resume(state);
    assert_eq!(drain(&mut session), []);
    session.handle(Event::Connected);
    assert_eq!(drain(&mut session), [Action::Send(task(1), ready())]);
    // Asked again, it sends again: the receiver knows the bytes.
    session.handle(Event::Asked(task(1)));
    assert_eq!(drain(&mut session), [Action::Send(task(1), ready())]);
}

#[test]
fn after_a_crash_in_training_the_training_starts_again_without_waiting_for_a_connection() {
    let state = running().state().clone();
    assert_eq!(drain(&mut Session::resume(state)), [Action::Start(task(1))]);
}

#[test]
fn training_outlives_the_connection() {
    let mut session = running();
    session.handle(Event::Disconnected);
    session.handle(Event::Done(task(1), ready()));
    assert!(matches!(&drain(&mut session)[..], [Action::Persist(_)]));
    session.handle(Event::Connected);
    assert_eq!(drain(&mut session), [Action::Send(task(1), ready())]);
}

#[test]
fn being_asked_again_while_training_changes_nothing() {
    let mut session = running();
    session.handle(Event::Asked(task(1)));
    assert_eq!(drain(&mut session), []);
}

#[test]
fn another_task_replaces_this_one() {
    let mut session = running();
    session.handle(Event::Asked(task(2)));
    let actions = drain(&mut session);
    assert_eq!(actions.first(), Some(&Action::Cancel));
    assert_eq!(actions.last(), Some(&Action::Fetch(task(2).model)));
    // The result of the old one comes too late and is nobody's.
    session.handle(Event::Done(task(1), ready()));
    assert_eq!(drain(&mut session), []);
}

#[test]
fn the_fate_of_a_finished_update_is_settled_before_the_next_task_begins() {
    for (fate, settled) in [
        (Event::Received(ready().blob), Working::Delivered(ready())),
        (
            Event::Refused(ready().blob, "late".to_owned()),
            Working::Given("late".to_owned()),
        ),
    ] {
        let mut session = running();
        session.handle(Event::Done(task(1), ready()));
        drain(&mut session);
        session.handle(Event::Asked(task(2)));
        assert_eq!(drain(&mut session), [Action::Send(task(1), ready())]);
        session.handle(fate);
        let actions = drain(&mut session);
        let settled = Action::Persist(State {
            current: Some((task(1), settled)),
        });
        assert_eq!(actions.first(), Some(&settled));
        assert_eq!(actions.last(), Some(&Action::Fetch(task(2).model)));
    }
}

#[test]
fn a_delivered_update_is_sent_again_if_asked_for() {
    let mut session = running();
    session.handle(Event::Done(task(1), ready()));
    session.handle(Event::Received(ready().blob));
    drain(&mut session);
    session.handle(Event::Asked(task(1)));
    assert_eq!(
        drain(&mut session).last(),
        Some(&Action::Send(task(1), ready()))
    );
}

#[test]
fn a_withdrawn_task_is_stopped_but_a_finished_update_is_kept() {
    let mut session = running();
    session.handle(Event::Withdrawn);
    assert!(matches!(
        &drain(&mut session)[..],
        [Action::Cancel, Action::Persist(_)]
    ));
    assert_eq!(session.state().current, None);
    let mut session = running();
    session.handle(Event::Done(task(1), ready()));
    drain(&mut session);
    session.handle(Event::Withdrawn);
    assert_eq!(drain(&mut session), []);
    assert_eq!(
        session.state().current,
        Some((task(1), Working::Ready(ready())))
    );
}

#[test]
fn a_failure_is_reported_and_a_new_try_is_possible() {
    let mut session = running();
    session.handle(Event::Failed(task(1), "out of memory".to_owned()));
    let report = Action::ReportFailure(task(1), "out of memory".to_owned());
    assert_eq!(drain(&mut session).last(), Some(&report));
    session.handle(Event::Asked(task(1)));
    assert_eq!(
        drain(&mut session).last(),
        Some(&Action::Fetch(task(1).model))
    );
}

#[test]
fn a_refused_update_is_not_sent_for_ever() {
    let mut session = running();
    session.handle(Event::Done(task(1), ready()));
    session.handle(Event::Refused(ready().blob, "norm".to_owned()));
    drain(&mut session);
    session.handle(Event::Disconnected);
    session.handle(Event::Connected);
    assert!(
        !drain(&mut session)
            .iter()
            .any(|action| matches!(action, Action::Send(..)))
    );
}

#[test]
fn a_transfer_that_failed_is_tried_again_while_it_is_still_wanted() {
    let mut session = Session::resume(State::default());
    session.handle(Event::Connected);
    session.handle(Event::Asked(task(1)));
    drain(&mut session);
    session.handle(Event::TryAgain(task(1).model));
    assert_eq!(drain(&mut session), [Action::Fetch(task(1).model)]);

    let mut session = running();
    session.handle(Event::Done(task(1), ready()));
    drain(&mut session);
    session.handle(Event::TryAgain(task(1).model));
    assert_eq!(drain(&mut session), []);
    session.handle(Event::TryAgain(ready().blob));
    assert_eq!(drain(&mut session), [Action::Send(task(1), ready())]);
    session.handle(Event::Received(ready().blob));
    drain(&mut session);
    session.handle(Event::TryAgain(ready().blob));
    assert_eq!(drain(&mut session), []);
}

#[test]
fn a_model_that_is_lost_is_fetched_again_before_the_work_goes_on() {
    let mut session = running();
    session.handle(Event::Lost(ready().blob));
    assert_eq!(drain(&mut session), [], "nothing that is needed");
    session.handle(Event::Lost(task(1).model));
    let begun = Action::Persist(State {
        current: Some((task(1), Working::Fetching)),
    });
    let again = [Action::Cancel, begun, Action::Fetch(task(1).model)];
    assert_eq!(drain(&mut session), again);
    session.handle(Event::Fetched(task(1).model));
    assert_eq!(drain(&mut session).last(), Some(&Action::Start(task(1))));
}

#[test]
fn a_result_that_is_lost_is_made_again_unless_another_task_is_waiting() {
    for next in [None, Some(task(2))] {
        let mut session = running();
        session.handle(Event::Done(task(1), ready()));
        if let Some(next) = &next {
            session.handle(Event::Asked(next.clone()));
        }
        drain(&mut session);
        session.handle(Event::Lost(ready().blob));
        let task = next.unwrap_or_else(|| task(1));
        let state = State {
            current: Some((task.clone(), Working::Fetching)),
        };
        let actions = [Action::Persist(state), Action::Fetch(task.model)];
        assert_eq!(drain(&mut session), actions);
    }
    let mut session = running();
    session.handle(Event::Done(task(1), ready()));
    session.handle(Event::Received(ready().blob));
    drain(&mut session);
    session.handle(Event::Lost(ready().blob));
    assert_eq!(drain(&mut session), [], "it is at the coordinator");
}
