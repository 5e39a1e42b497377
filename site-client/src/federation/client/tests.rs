//! A site's shell, and a coordinator that the test plays.

use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use certs::{Authority, PrivateKey, Request};
use protocol::bounded::List;
use protocol::message::{Content, Finish, Launch, Manifest, Plan as PlanMessage, Task as Asked};
use protocol::plan::Plan;
use protocol::{BlobRef, Params, Role, Round, RunId, Schema, Signed, Timestamp};
use transport::{Listener, receive_blob, send_blob};

use super::*;
use crate::federation::{
    EvaluateJob, Everything, Flow, Report, SiteStore, StandIn, State, TrainJob, Trained,
};

/// What the trainer says.
#[derive(Debug, PartialEq)]
enum Said {
    Began(Round),
    Canceled,
}

/// Says what it does; an endless one trains until it is canceled.
struct Telling {
    stand_in: StandIn,
    tell: mpsc::UnboundedSender<Said>,
    is_endless: bool,
}

impl Trainer for Telling {
    fn schema(&mut self, plan: &Plan) -> Result<Schema, TrainError> {
        self.stand_in.schema(plan)
    }

    fn train(&mut self, job: &TrainJob<'_>, flow: &mut Flow<'_>) -> Result<Trained, TrainError> {
        let _ = self.tell.send(Said::Began(job.round));
        if !self.is_endless {
            return self.stand_in.train(job, flow);
        }
        while flow(0, 1).is_continue() {
            thread::yield_now();
        }
        let _ = self.tell.send(Said::Canceled);
        Err(TrainError::Canceled)
    }

    fn evaluate(
        &mut self,
        job: &EvaluateJob<'_>,
        flow: &mut Flow<'_>,
    ) -> Result<Report, TrainError> {
        self.stand_in.evaluate(job, flow)
    }
}

/// A site's directory, and a coordinator with the model.
struct Scene {
    folder: tempfile::TempDir,
    site: Arc<Identity>,
    hub: Arc<Identity>,
    trust: Trust,
    plan: Vec<u8>,
    params: Params,
    /// The coordinator's.
    blobs: BlobStore,
    model: BlobRef,
}

impl Scene {
    fn new() -> Self {
        let now = crate::clock::now();
        let mut authority = Authority::found("headct".parse().unwrap(), now).unwrap();
        let mut admit = |name: &str, role| {
            let key = PrivateKey::generate().unwrap();
            let request = Request::write(&name.parse().unwrap(), &key).unwrap();
            let request = Request::read(request.as_bytes()).unwrap();
            let certificate = authority.approve(&request, role, now).unwrap();
            Arc::new(Identity::new(Arc::new(key), certificate).unwrap())
        };
        let (hub, site) = (admit("hub", Role::Coordinator), admit("north", Role::Site));
        let (root, consortium) = (authority.root().clone(), authority.consortium().clone());
        let folder = tempfile::tempdir().unwrap();
        let params = Params::from_tensors([("w".to_owned(), vec![2], vec![1.0, 2.0])]).unwrap();
        let blobs = BlobStore::open(folder.path().join("hub")).unwrap();
        let plan = format!(
            "name = \"test\"\nobjective = \"mae\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
             initial = \"{}\"\nrounds = 4\nlocal = {{ steps = 1, batch_size = 2 }}\n\
             schedule = {{ learning_rate = {{ peak = 1e-3 }} }}\n\
             cohort = {{ rule = \"full\", sites = [\"north\"] }}\n",
            "0".repeat(64)
        );
        Self {
            site,
            hub,
            trust: Trust::new(root, consortium).unwrap(),
            plan: plan.into_bytes(),
            params,
            model: blobs.put(&model()).unwrap(),
            blobs,
            folder,
        }
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    fn store(&self) -> SiteStore {
        SiteStore::open(&self.directory().join("runs"), &run_id()).unwrap()
    }

    /// The site's.
    fn site_blobs(&self) -> BlobStore {
        BlobStore::open(self.directory().join("store")).unwrap()
    }

    fn task(&self) -> Task {
        Task {
            run: run_id(),
            round: Round(3),
            model: self.model.digest,
            first_step: 2,
            work: Work::Train,
        }
    }

    /// The site's process has ended when it was so far.
    fn left_at(&self, working: Working) {
        let mut store = self.store();
        store.keep_plan(&self.plan).unwrap();
        let current = Some((self.task(), working));
        store.persist(&State { current }).unwrap();
    }

    fn trainer(&self, is_endless: bool) -> (Box<Telling>, mpsc::UnboundedReceiver<Said>) {
        let (tell, told) = mpsc::unbounded_channel();
        let schema = self.params.schema().clone();
        let stand_in = StandIn {
            schema,
            examples: 5,
        };
        let trainer = Telling {
            stand_in,
            tell,
            is_endless,
        };
        (Box::new(trainer), told)
    }

    async fn run(
        &self,
        coordinator: String,
        trainer: Box<Telling>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), FederationError> {
        let directory = self.directory();
        let config = ClientConfig {
            coordinator,
            transport: transport::Config::default(),
            home: Home::new(&directory),
            directory,
            until_finished: false,
        };
        let (identity, trust) = (Arc::clone(&self.site), self.trust.clone());
        run(config, identity, trust, trainer, Arc::new(Everything), stop).await
    }

    async fn listen(&self) -> (Listener, String) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (hub, trust) = (Arc::clone(&self.hub), self.trust.clone());
        let listener = Listener::bind(any, transport::Config::default(), hub, trust);
        let listener = listener.await.unwrap();
        let address = listener.local_addr().to_string();
        (listener, address)
    }

    fn sign<T: protocol::Statement>(&self, statement: &T) -> Signed<T> {
        Signed::new(statement, |context, bytes| self.hub.sign(context, bytes)).unwrap()
    }

    /// The site joins the run, and is asked for the third round.
    async fn ask(&self, listener: &mut Listener) -> Link {
        let link = listener.accept().await;
        let launch = Launch {
            run: run_id(),
            plan: Digest::of(&self.plan),
            schema: self.params.schema().digest(),
            at: Timestamp(0),
        };
        let plan = PlanMessage {
            launch: self.sign(&launch),
            text: List::new(self.plan.clone()).unwrap(),
        };
        link.send(plan).await.unwrap();
        self.answer(&link, |message| matches!(message, Message::Join(_)))
            .await;
        let task = self.task();
        let asked = Asked {
            run: task.run,
            round: task.round,
            plan: launch.plan,
            work: task.work,
            model: self.model,
            step: task.first_step,
            deadline: Timestamp(u64::MAX),
        };
        link.send(asked).await.unwrap();
        link
    }

    /// Gives the model to the site when it wants it, and takes its updates, until a message that is
    /// waited for.
    async fn answer(&self, link: &Link, is_awaited: impl Fn(&Message) -> bool) {
        loop {
            let message = link.receive().await.unwrap();
            if let Message::Manifest(signed) = &message {
                let update = link.open(signed).unwrap().blob;
                let (link, blobs) = (link.clone(), self.blobs.clone());
                tokio::spawn(async move { receive_blob(&link, &blobs, update, |_| {}).await });
            }
            if matches!(message, Message::Want(_)) {
                let manifest = Manifest {
                    blob: self.model,
                    run: run_id(),
                    round: Round(2),
                    schema: self.params.schema().digest(),
                    content: Content::Model { step: 2 },
                };
                let (link, manifest) = (link.clone(), self.sign(&manifest));
                let blob = self.blobs.blob(self.model.digest).unwrap();
                tokio::spawn(async move { send_blob(&link, &blob, &manifest, |_| {}).await });
            }
            if is_awaited(&message) {
                return;
            }
        }
    }
}

/// An update, if the site offers one.
fn is_update(message: &Message) -> bool {
    matches!(message, Message::Manifest(_))
}

fn run_id() -> RunId {
    "run-1".parse().unwrap()
}

fn model() -> Vec<u8> {
    let weights = [1.0_f32, 2.0].into_iter();
    weights.flat_map(f32::to_le_bytes).collect()
}

fn nobody() -> String {
    "127.0.0.1:1".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_training_goes_on_before_the_coordinator_is_there() {
    let scene = Scene::new();
    scene.site_blobs().put(&model()).unwrap();
    scene.left_at(Working::Running);
    let (trainer, mut told) = scene.trainer(false);
    let mut said = None;
    let stop = async { said = told.recv().await };
    scene.run(nobody(), trainer, stop).await.unwrap();
    assert_eq!(said, Some(Said::Began(Round(3))));
}

#[tokio::test(flavor = "multi_thread")]
async fn training_is_canceled_when_the_site_is_told_to_end_and_goes_on_when_it_starts() {
    let scene = Scene::new();
    scene.site_blobs().put(&model()).unwrap();
    scene.left_at(Working::Running);
    for _ in 0..2 {
        let (trainer, mut told) = scene.trainer(true);
        let mut said = None;
        let stop = async { said = told.recv().await };
        scene.run(nobody(), trainer, stop).await.unwrap();
        assert_eq!(said, Some(Said::Began(Round(3))));
        assert_eq!(told.recv().await, Some(Said::Canceled));
        assert_eq!(told.recv().await, None, "the work has ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_directory_is_refused_by_its_name() {
    let scene = Scene::new();
    scene.site_blobs().put(&model()).unwrap();
    scene.left_at(Working::Running);
    let (trainer, mut told) = scene.trainer(false);
    let stop = async {
        told.recv().await;
        let (trainer, _told) = scene.trainer(false);
        let error = scene.run(nobody(), trainer, pending()).await.unwrap_err();
        let expected = format!("site {}: in use by another", scene.directory().display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    };
    scene.run(nobody(), trainer, stop).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_run_stops_training_and_nothing_of_it_leaves() {
    let scene = Scene::new();
    let (mut listener, address) = scene.listen().await;
    let (trainer, mut told) = scene.trainer(true);
    let stop = async {
        let link = scene.ask(&mut listener).await;
        // What it says of its progress is read all the while.
        let read = scene.answer(&link, |_| false);
        let ended = async {
            assert_eq!(told.recv().await, Some(Said::Began(Round(3))));
            let finish = Finish {
                run: run_id(),
                round: Round(2),
                model: scene.model,
            };
            link.send(finish).await.unwrap();
            assert_eq!(told.recv().await, Some(Said::Canceled));
        };
        tokio::select! {
            () = read => {}
            () = ended => {}
        }
    };
    scene.run(address, trainer, stop).await.unwrap();
    assert_eq!(scene.store().state().current, None);
    let rows = EgressLog::new(&scene.directory()).rows().unwrap();
    assert_eq!(rows, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_is_missing_or_damaged_on_disk_is_made_again() {
    for is_damaged in [false, true] {
        let scene = Scene::new();
        let update = scene.site_blobs().put(b"update").unwrap();
        let path = scene.site_blobs().path(update.digest);
        if is_damaged {
            std::fs::write(path, b"Update").unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
        scene.left_at(Working::Ready(Ready {
            blob: update.digest,
            bytes: update.len,
            examples: 5,
            steps: 1,
            norm: Some(1.0),
        }));
        let (mut listener, address) = scene.listen().await;
        let (trainer, mut told) = scene.trainer(false);
        let stop = async {
            let link = scene.ask(&mut listener).await;
            let is_another = |message: &Message| match message {
                Message::Manifest(signed) => link.open(signed).unwrap().blob != update,
                _ => false,
            };
            scene.answer(&link, is_another).await;
            assert_eq!(told.recv().await, Some(Said::Began(Round(3))));
        };
        scene.run(address, trainer, stop).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_damaged_on_disk_is_fetched_again_and_then_trained_from() {
    let scene = Scene::new();
    let blobs = scene.site_blobs();
    blobs.put(&model()).unwrap();
    std::fs::write(blobs.path(scene.model.digest), [0; 8]).unwrap();
    let (mut listener, address) = scene.listen().await;
    let (trainer, mut told) = scene.trainer(false);
    let stop = async {
        let link = scene.ask(&mut listener).await;
        scene.answer(&link, is_update).await;
    };
    scene.run(address, trainer, stop).await.unwrap();
    assert_eq!(told.recv().await, Some(Said::Began(Round(3))));
    assert_eq!(told.recv().await, None, "it trained once");
    blobs.blob(scene.model.digest).unwrap().verify().unwrap();
}
