//! Plans: what a site looks at before it takes part.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use protocol::bounded::Text;
use protocol::layout::Layout;
use protocol::message::{Join, Launch, Plan as PlanMessage, Reason, Rejection, Subject};
use protocol::plan::Plan;
use protocol::{Digest, RunId, Schema};
use transport::Link;

use super::{Active, Site};
use crate::federation::error::FederationError;
use crate::federation::session::{Event, Session};
use crate::federation::store::SiteStore;
use crate::federation::work::Workplace;

impl Site {
    /// Looks at a plan; joins if it is the coordinator's, allowed here, and of a model known here.
    pub(super) async fn plan(
        &mut self,
        link: &Link,
        message: PlanMessage,
    ) -> Result<(), FederationError> {
        let Ok(launch) = link.open(&message.launch) else {
            tracing::warn!("plan refused: launch is not signed by the coordinator");
            return Ok(());
        };
        if let Err(reason) = self.consider(&launch, &message.text).await? {
            tracing::warn!(run = %launch.run, plan = %launch.plan, %reason, "plan not taken part in");
            let _ = link
                .send(Rejection {
                    subject: Subject::Plan(launch.plan),
                    reason,
                })
                .await;
            return Ok(());
        }
        self.finished = false;
        let join = Join {
            run: launch.run,
            plan: launch.plan,
            examples: 0,
        };
        let _ = link.send(join).await;
        self.handle(Event::Connected).await
    }

    async fn consider(
        &mut self,
        launch: &Launch,
        text: &[u8],
    ) -> Result<Result<(), Reason>, FederationError> {
        if Digest::of(text) != launch.plan {
            return Ok(Err(Reason::Invalid {
                defect: Text::lossy("plan: its bytes are not those that were signed"),
            }));
        }
        if let Some(Active { workplace, .. }) = &self.active
            && workplace.run == launch.run
            && workplace.plan.digest() == launch.plan
        {
            let (expected, found) = (launch.schema, workplace.schema.digest());
            if expected == found {
                return Ok(Ok(()));
            }
            self.leave();
            return Ok(Err(Reason::WrongSchema { expected, found }));
        }
        let (plan, schema) = match self.look_at(text).await {
            Ok(known) => known,
            Err(reason) => return Ok(Err(reason)),
        };
        if schema.digest() != launch.schema {
            let (expected, found) = (launch.schema, schema.digest());
            return Ok(Err(Reason::WrongSchema { expected, found }));
        }
        let store = SiteStore::open(&self.runs(), &launch.run)?;
        store.keep_plan(text)?;
        self.take_up(launch.run.clone(), plan, schema, store);
        Ok(Ok(()))
    }

    /// A plan and its model's tensors, if it is allowed here and the model is known here.
    pub(super) async fn look_at(&mut self, text: &[u8]) -> Result<(Arc<Plan>, Schema), Reason> {
        let invalid = |defect: String| Reason::Invalid {
            defect: Text::lossy(&defect),
        };
        let plan = Plan::parse(text).map_err(|error| invalid(error.to_string()))?;
        let plan = Arc::new(plan);
        self.approval.allows(&plan).map_err(|rule| Reason::Policy {
            rule: Text::lossy(&rule),
        })?;
        // There is one trainer, and it may be at work for a run that is over.
        self.leave();
        let (trainer, asked) = (Arc::clone(&self.trainer), Arc::clone(&plan));
        let schema = tokio::task::spawn_blocking(move || {
            trainer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .schema(&asked)
        });
        let schema = schema.await.map_err(|error| invalid(error.to_string()))?;
        Ok((plan, schema.map_err(|error| invalid(error.to_string()))?))
    }

    /// Takes part in a run from where its session was when it was last made durable.
    pub(super) fn take_up(
        &mut self,
        run: RunId,
        plan: Arc<Plan>,
        schema: Schema,
        store: SiteStore,
    ) {
        self.leave();
        let tensors = schema
            .tensors()
            .iter()
            .map(|spec| (spec.name(), spec.elements()));
        let layout = Arc::new(Layout::new(tensors, plan.config()));
        let session = Session::resume(store.state().clone());
        let workplace = Workplace {
            run,
            site: self.identity.id().clone(),
            plan,
            schema: Arc::new(schema),
            layout,
            store,
            blobs: self.blobs.clone(),
            trainer: Arc::clone(&self.trainer),
        };
        self.active = Some(Active {
            workplace,
            session,
            cancel: Arc::default(),
            fetching: None,
            sending: None,
        });
    }

    /// Stops what is running; its session lies in the run's store.
    pub(super) fn leave(&mut self) {
        self.active = None;
    }

    pub(super) fn runs(&self) -> PathBuf {
        self.config.directory.join("runs")
    }
}
