//! What sites measured of the model in evaluation.

use protocol::bounded::Text;
use protocol::message::{Metrics, Reason};
use protocol::{SiteId, Timestamp};

use super::coordinator::Coordinator;
use super::error::ServiceError;
use crate::run::{Event, Report, TaskReport};

impl Coordinator {
    /// Takes a site's report, if it is of the model that is being evaluated; `None` if it is of no run
    /// that is served.
    pub(super) fn measured(
        &mut self,
        now: Timestamp,
        site: &SiteId,
        metrics: &Metrics,
    ) -> Result<Option<Result<(), Reason>>, ServiceError> {
        let event = Event::Evaluated {
            site: site.clone(),
            round: metrics.round,
            report: report(metrics),
        };
        let active = self.active().filter(|one| one.launch.run == metrics.run);
        let Some(run) = active.map(|active| active.driver.run()) else {
            return Ok(None);
        };
        let (expected, found) = (run.checkpoint().model, metrics.model);
        if found != expected && run.admits(&event).is_ok() {
            let defect = format!("evaluation: of model {found}, expected {expected}");
            let reason = Reason::Invalid {
                defect: Text::lossy(&defect),
            };
            self.refuse(now, site, reason.clone())?;
            return Ok(Some(Err(reason)));
        }
        self.submit(now, event, &[]).map(Some)
    }
}

fn report(metrics: &Metrics) -> Report {
    let tasks = metrics.tasks.iter().map(|task| TaskReport {
        task: task.task.to_string(),
        positive: task.positive.to_vec(),
        negative: task.negative.to_vec(),
        auc: task.auc.map(Into::into),
    });
    Report {
        tasks: tasks.collect(),
    }
}
