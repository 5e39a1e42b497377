//! What a site does next. Pure: no clock, no file, no network.

use std::collections::VecDeque;

use protocol::message::Work;
use protocol::{Digest, Round, RunId};
use serde::{Deserialize, Serialize};

/// What the coordinator asks for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The run.
    pub run: RunId,
    /// The round; for evaluation, the one that made the model.
    pub round: Round,
    /// The model to start from or to evaluate.
    pub model: Digest,
    /// Global step it stands at.
    pub first_step: u64,
    /// What to do with it.
    pub work: Work,
}

/// A finished result, durable at the site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// The update, or the evaluation as it is sent.
    pub blob: Digest,
    /// Bytes of it.
    pub bytes: u64,
    /// Examples trained on.
    pub examples: u64,
    /// Optimizer steps taken.
    pub steps: u64,
    /// Euclidean norm of the change that an update tells of.
    #[serde(default)]
    pub norm: Option<f64>,
}

/// How far the site is with its task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Working {
    /// The model is not here yet.
    Fetching,
    /// At work on it.
    Running,
    /// Done and durable; not yet known to have arrived.
    Ready(Ready),
    /// Arrived: the coordinator gave a receipt.
    Delivered(Ready),
    /// Turned down for good, with the coordinator's reason, or failed here.
    Given(String),
}

/// What must survive a crash of the site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The latest task and how far it is.
    pub current: Option<(Task, Working)>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The coordinator asked for something.
    Asked(Task),
    /// There is a connection, and the plan is approved.
    Connected,
    /// The result is on disk.
    Done(Task, Ready),
    /// The connection ended.
    Disconnected,
    /// The task cannot be done here.
    Failed(Task, String),
    /// The model is on disk.
    Fetched(Digest),
    /// A file of the task in work is missing or damaged at this site, and gone now: the model it starts
    /// from, or the result that is ready. It is had again, whatever that takes.
    Lost(Digest),
    /// The coordinator has the result, durably.
    Received(Digest),
    /// The coordinator turned the result down, or this site's policy keeps it in.
    Refused(Digest, String),
    /// A while has passed since this blob could not be fetched or delivered over a link that lives
    /// on, for instance because a disk was full.
    TryAgain(Digest),
    /// The coordinator no longer wants this task's result.
    Withdrawn,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Stop what is running.
    Cancel,
    /// Get a model from the coordinator.
    Fetch(Digest),
    /// Make this state durable before anything after it is done.
    Persist(State),
    /// Tell the coordinator that the task cannot be done.
    ReportFailure(Task, String),
    /// Do the task; say `Done` when its result is durable.
    Start(Task),
    /// Send a result; sending it again must be harmless.
    Send(Task, Ready),
}

/// A site's session with a coordinator: it outlives connections and processes.
///
/// ```text
///   asked            fetched           result on disk        receipt
///  ───────▶ Fetching ───────▶ Running ───────────────▶ Ready ───────▶ Delivered
///              ▲                 │ model lost            │ result lost
///              └─────────────────┴───────────────────────┘
/// ```
///
/// A task that is asked for again goes on from where it is: a result that is ready is sent again,
/// byte for byte, and never trained again. Another task replaces this one; but the fate of a result
/// that is ready is settled first, because what the site carries into its next round depends on
/// whether this one counted.
#[derive(Clone, Debug)]
pub struct Session {
    state: State,
    connected: bool,
    /// Begins when the fate of the current result is known; asked for again on the next link.
    next: Option<Task>,
    actions: VecDeque<Action>,
}

impl Session {
    /// Continues from what was durable when the process ended.
    pub fn resume(state: State) -> Self {
        let mut session = Self {
            state,
            connected: false,
            next: None,
            actions: VecDeque::new(),
        };
        if let Some((task, Working::Running)) = &session.state.current {
            session.actions.push_back(Action::Start(task.clone()));
        }
        session
    }

    /// Takes in what happened; drain [`poll`](Self::poll) afterwards.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Asked(task) => self.asked(task),
            Event::Connected => {
                self.connected = true;
                self.go_on();
            }
            Event::Done(task, ready) => {
                if self.is_at(&task, &Working::Running) {
                    self.advance(Working::Ready(ready));
                    self.go_on();
                }
            }
            Event::Disconnected => (self.connected, self.next) = (false, None),
            Event::Failed(task, reason) => {
                if self.is_at(&task, &Working::Running) {
                    self.advance(Working::Given(reason));
                    self.go_on();
                }
            }
            Event::Fetched(model) => {
                if let Some((task, Working::Fetching)) = &self.state.current
                    && task.model == model
                {
                    let task = task.clone();
                    self.advance(Working::Running);
                    self.actions.push_back(Action::Start(task));
                }
            }
            Event::Lost(blob) => self.lost(blob),
            Event::Received(blob) => {
                if let Some((_, Working::Ready(ready))) = &self.state.current
                    && ready.blob == blob
                {
                    let ready = ready.clone();
                    self.advance(Working::Delivered(ready));
                    self.begin_next();
                }
            }
            Event::Refused(blob, reason) => {
                if let Some((_, Working::Ready(ready) | Working::Delivered(ready))) =
                    &self.state.current
                    && ready.blob == blob
                {
                    self.advance(Working::Given(reason));
                    if self.next.is_some() {
                        self.begin_next();
                    } else {
                        self.go_on();
                    }
                }
            }
            Event::TryAgain(blob) => match &self.state.current {
                Some((task, Working::Fetching)) if task.model == blob => self.go_on(),
                Some((_, Working::Ready(ready))) if ready.blob == blob => self.go_on(),
                _ => {}
            },
            Event::Withdrawn => self.withdrawn(),
        }
    }

    /// The next thing to do, if any.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What is durable, or about to be.
    pub fn state(&self) -> &State {
        &self.state
    }

    fn asked(&mut self, task: Task) {
        match &self.state.current {
            Some((current, Working::Given(_))) if *current == task => {
                // Asked again after a refusal or a failure: a fresh try is what is wanted.
                self.begin(task);
            }
            Some((current, Working::Delivered(ready))) if *current == task => {
                let ready = ready.clone();
                self.advance(Working::Ready(ready));
                self.go_on();
            }
            Some((current, _)) if *current == task => self.go_on(),
            Some((_, Working::Ready(_))) => {
                self.next = Some(task);
                self.go_on();
            }
            Some((_, Working::Running)) => {
                self.actions.push_back(Action::Cancel);
                self.begin(task);
            }
            _ => self.begin(task),
        }
    }

    /// A task begins anew without what it had: the same result comes of the same work. A result that
    /// another task waits behind is given up.
    fn lost(&mut self, blob: Digest) {
        match &self.state.current {
            Some((task, Working::Running)) if task.model == blob => {
                let task = task.clone();
                self.actions.push_back(Action::Cancel);
                self.begin(task);
            }
            Some((task, Working::Ready(ready))) if ready.blob == blob => {
                let task = self.next.take().unwrap_or_else(|| task.clone());
                self.begin(task);
            }
            _ => {}
        }
    }

    fn begin_next(&mut self) {
        if let Some(task) = self.next.take() {
            self.begin(task);
        }
    }

    fn begin(&mut self, task: Task) {
        self.state.current = Some((task, Working::Fetching));
        self.persist();
        self.go_on();
    }

    /// A withdrawn task that is not done is dropped. A result that is ready is kept: the round may
    /// be gathered again, and then it counts.
    fn withdrawn(&mut self) {
        match &self.state.current {
            Some((_, Working::Fetching)) => self.forget(),
            Some((_, Working::Running)) => {
                self.actions.push_back(Action::Cancel);
                self.forget();
            }
            _ => {}
        }
    }

    fn forget(&mut self) {
        self.state.current = None;
        self.persist();
    }

    fn advance(&mut self, working: Working) {
        if let Some((_, current)) = &mut self.state.current {
            *current = working;
            self.persist();
        }
    }

    fn persist(&mut self) {
        self.actions.push_back(Action::Persist(self.state.clone()));
    }

    /// What a connection makes possible.
    fn go_on(&mut self) {
        if !self.connected {
            return;
        }
        let action = match &self.state.current {
            Some((task, Working::Fetching)) => Action::Fetch(task.model),
            Some((task, Working::Ready(ready))) => Action::Send(task.clone(), ready.clone()),
            Some((task, Working::Given(reason))) => {
                Action::ReportFailure(task.clone(), reason.clone())
            }
            _ => return,
        };
        self.actions.push_back(action);
    }

    fn is_at(&self, task: &Task, working: &Working) -> bool {
        matches!(&self.state.current, Some((current, at)) if current == task && at == working)
    }
}

#[cfg(test)]
mod tests;
