//! Plans: what a site looks at before it takes part.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use protocol::Digest;
use protocol::bounded::Text;
use protocol::layout::Layout;
use protocol::message::{Join, Launch, Plan as PlanMessage, Reason, Rejection, Subject};
use protocol::plan::Plan;
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
        let invalid = |defect: &str| {
            Ok(Err(Reason::Invalid {
                defect: Text::lossy(defect),
            }))
        };
        if Digest::of(text) != launch.plan {
            return invalid("plan: its bytes are not those that were signed");
        }
        let known = self.active.as_ref().map(|active| &active.workplace);
        if known.is_some_and(|known| known.run == launch.run && known.plan.digest() == launch.plan)
        {
            return Ok(Ok(()));
        }
        let plan = match Plan::parse(text) {
            Ok(plan) => Arc::new(plan),
            Err(error) => return invalid(&error.to_string()),
        };
        if let Err(rule) = self.approval.allows(&plan) {
            return Ok(Err(Reason::Policy {
                rule: Text::lossy(&rule),
            }));
        }
        let (trainer, asked) = (Arc::clone(&self.trainer), Arc::clone(&plan));
        let schema = tokio::task::spawn_blocking(move || {
            trainer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .schema(&asked)
        });
        let schema = match schema.await {
            Ok(Ok(schema)) => schema,
            Ok(Err(error)) => return invalid(&error.to_string()),
            Err(error) => return invalid(&error.to_string()),
        };
        if schema.digest() != launch.schema {
            let (expected, found) = (launch.schema, schema.digest());
            return Ok(Err(Reason::WrongSchema { expected, found }));
        }
        if let Some(active) = &self.active {
            active.cancel.store(true, Ordering::Relaxed);
        }
        let store = SiteStore::open(&self.config.directory.join("runs"), &launch.run)?;
        store.keep_plan(text)?;
        let tensors = schema
            .tensors()
            .iter()
            .map(|spec| (spec.name(), spec.elements()));
        let layout = Arc::new(Layout::new(tensors, plan.config()));
        let session = Session::resume(store.state().clone());
        let workplace = Workplace {
            run: launch.run.clone(),
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
        Ok(Ok(()))
    }
}
