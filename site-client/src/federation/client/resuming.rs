//! Interrupted work: it goes on when the site starts, whether or not the coordinator is there.

use super::Site;
use crate::federation::error::FederationError;
use crate::federation::store::SiteStore;

impl Site {
    /// Goes on with what the end of the process interrupted, by the plan that was kept. Where that
    /// is impossible the coordinator's plan is waited for.
    pub(super) async fn resume(&mut self) -> Result<(), FederationError> {
        let kept = || {
            let Some((run, store)) = SiteStore::interrupted(&self.runs())? else {
                return Ok(None);
            };
            Ok(store.plan()?.map(|text| (run, store, text)))
        };
        let (run, store, text) = match kept() {
            Ok(Some(kept)) => kept,
            Ok(None) => return Ok(()),
            Err(error) => {
                let error: FederationError = error;
                tracing::warn!(%error, "interrupted work not found");
                return Ok(());
            }
        };
        match self.look_at(&text).await {
            Ok((plan, schema)) => {
                tracing::info!(%run, "going on with interrupted work");
                self.take_up(run, plan, schema, store);
                self.act().await
            }
            Err(reason) => {
                tracing::warn!(%run, %reason, "interrupted work not gone on with");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use certs::{Authority, Home, Identity, PrivateKey, Request, Trust};
    use protocol::message::Work;
    use protocol::plan::Plan;
    use protocol::{Params, Role, Round, Schema};
    use tokio::sync::mpsc;
    use transport::BlobStore;

    use crate::federation::{
        ClientConfig, EvaluateJob, Everything, Flow, Report, SiteStore, StandIn, State, Task,
        TrainError, TrainJob, Trained, Trainer, Working, run,
    };

    /// Says in which round it trains.
    struct Telling(StandIn, mpsc::UnboundedSender<Round>);

    impl Trainer for Telling {
        fn schema(&mut self, plan: &Plan) -> Result<Schema, TrainError> {
            self.0.schema(plan)
        }

        fn train(
            &mut self,
            job: &TrainJob<'_>,
            flow: &mut Flow<'_>,
        ) -> Result<Trained, TrainError> {
            let trained = self.0.train(job, flow);
            self.1.send(job.round).unwrap();
            trained
        }

        fn evaluate(
            &mut self,
            job: &EvaluateJob<'_>,
            flow: &mut Flow<'_>,
        ) -> Result<Report, TrainError> {
            self.0.evaluate(job, flow)
        }
    }

    fn admitted() -> (Identity, Trust) {
        let now = crate::clock::now();
        let mut authority = Authority::found("headct".parse().unwrap(), now).unwrap();
        let key = PrivateKey::generate().unwrap();
        let request = Request::write(&"north".parse().unwrap(), &key).unwrap();
        let request = Request::read(request.as_bytes()).unwrap();
        let certificate = authority.approve(&request, Role::Site, now).unwrap();
        let identity = Identity::new(Arc::new(key), certificate).unwrap();
        let (root, consortium) = (authority.root().clone(), authority.consortium().clone());
        (identity, Trust::new(root, consortium).unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn interrupted_training_goes_on_before_the_coordinator_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().to_owned();
        let params = Params::from_tensors([("w".to_owned(), vec![2], vec![1.0, 2.0])]).unwrap();
        let blobs = BlobStore::open(directory.join("store")).unwrap();
        let model: Vec<u8> = [1.0_f32, 2.0]
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        let text = format!(
            "name = \"test\"\nobjective = \"mae\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
             initial = \"{}\"\nrounds = 4\nlocal = {{ steps = 1, batch_size = 2 }}\n\
             schedule = {{ learning_rate = {{ peak = 1e-3 }} }}\n\
             cohort = {{ rule = \"full\", sites = [\"north\"] }}\n",
            "0".repeat(64)
        );
        let task = Task {
            run: "run-1".parse().unwrap(),
            round: Round(3),
            model: blobs.put(&model).unwrap().digest,
            first_step: 2,
            work: Work::Train,
        };
        let mut store = SiteStore::open(&directory.join("runs"), &task.run).unwrap();
        store.keep_plan(text.as_bytes()).unwrap();
        let current = Some((task, Working::Running));
        store.persist(&State { current }).unwrap();
        let (tell, mut told) = mpsc::unbounded_channel();
        let schema = params.schema().clone();
        let stand_in = StandIn {
            schema,
            examples: 5,
        };
        let config = ClientConfig {
            // Nobody listens there.
            coordinator: "127.0.0.1:1".to_owned(),
            transport: transport::Config::default(),
            home: Home::new(&directory),
            directory,
            until_finished: false,
        };
        let (identity, trust) = admitted();
        let mut round = None;
        let stop = async { round = told.recv().await };
        let trainer = Box::new(Telling(stand_in, tell));
        let identity = Arc::new(identity);
        run(config, identity, trust, trainer, Arc::new(Everything), stop)
            .await
            .unwrap();
        assert_eq!(round, Some(Round(3)));
    }
}
