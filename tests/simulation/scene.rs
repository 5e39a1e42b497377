//! What all worlds of a kind share: the members, the plan, the first checkpoint.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use certs::{Authority, Identity, PrivateKey, Request, Trust};
use coordinator::service::Initial;
use protocol::plan::{CohortRule, Plan};
use protocol::{Params, Role, RunId, Schema, SiteId, Timestamp};
use site_client::federation::{
    EvaluateJob, Flow, Report, StandIn, TrainError, TrainJob, Trained, Trainer,
};

/// Members, plan and first checkpoint.
pub(super) struct Scene {
    pub(super) coordinator: Arc<Identity>,
    pub(super) sites: Vec<(SiteId, Arc<Identity>)>,
    pub(super) trust: Trust,
    /// The consortium file in which the last site is revoked.
    pub(super) without_last: Vec<u8>,
    pub(super) plan: Plan,
    pub(super) schema: Schema,
    pub(super) run: RunId,
    pub(super) rule: CohortRule,
    folder: tempfile::TempDir,
}

impl Scene {
    pub(super) fn new(rule: CohortRule, evaluated: bool) -> Self {
        let mut authority =
            Authority::found("simulated".parse().expect("a name"), START).expect("a consortium");
        let coordinator = admit(&mut authority, Role::Coordinator, "coordinator");
        let sites: Vec<_> = SITES
            .iter()
            .map(|name| {
                let identity = admit(&mut authority, Role::Site, name);
                (name.parse().expect("a name"), Arc::new(identity))
            })
            .collect();
        let trust = Trust::new(authority.root().clone(), authority.consortium().clone())
            .expect("our own root");
        let (last, _) = sites.last().expect("sites");
        authority.revoke(last, START).expect("a member");
        let without_last = authority.consortium().as_bytes().to_vec();
        let places = SITES.len() * ROUNDS as usize;
        let params = Params::from_tensors([(
            "measured".to_owned(),
            vec![places as u64],
            vec![0.0; places],
        )])
        .expect("one tensor");
        let folder = tempfile::tempdir().expect("a folder");
        let first = folder.path().join("first.safetensors");
        std::fs::write(&first, params.to_safetensors()).expect("a file");
        let initial = Initial::open(&first).expect("our own file");
        let text = plan(rule, evaluated, &initial.digest().to_string());
        Self {
            coordinator: Arc::new(coordinator),
            sites,
            trust,
            without_last,
            plan: Plan::parse(text.as_bytes()).expect("a plan"),
            schema: params.schema().clone(),
            run: "simulated-1".parse().expect("a name"),
            rule,
            folder,
        }
    }

    /// The first checkpoint's file.
    pub(super) fn first(&self) -> PathBuf {
        self.folder.path().join("first.safetensors")
    }

    /// What a site trains with.
    pub(super) fn trainer(&self, site: usize) -> Box<dyn Trainer> {
        Box::new(OneHot {
            site,
            stand_in: StandIn {
                schema: self.schema.clone(),
                examples: 10,
            },
        })
    }
}

/// Adds 1 at the place of a site and round.
pub(super) fn place(site: usize, round: u32) -> usize {
    (round as usize - 1) * SITES.len() + site
}

struct OneHot {
    site: usize,
    stand_in: StandIn,
}

impl Trainer for OneHot {
    fn schema(&mut self, _: &Plan) -> Result<Schema, TrainError> {
        Ok(self.stand_in.schema.clone())
    }

    fn train(&mut self, job: &TrainJob<'_>, _: &mut Flow<'_>) -> Result<Trained, TrainError> {
        let mut params = job.start.params.clone();
        params.values_mut()[place(self.site, job.round.0)] += 1.0;
        Ok(Trained {
            params,
            teacher: None,
            examples: 10,
            steps: job.plan.config().steps_per_round(),
            learning_rate_sum: 1.0,
        })
    }

    fn evaluate(
        &mut self,
        job: &EvaluateJob<'_>,
        flow: &mut Flow<'_>,
    ) -> Result<Report, TrainError> {
        self.stand_in.evaluate(job, flow)
    }
}

fn plan(rule: CohortRule, evaluated: bool, initial: &str) -> String {
    let mut text = format!(
        "name = \"simulated\"\nobjective = \"mae\"\nmodel = \"vit\"\npreset = \"tiny\"\n\
         initial = \"{initial}\"\nrounds = {ROUNDS}\n\
         local = {{ steps = 10, batch_size = 1 }}\n\
         schedule = {{ learning_rate = {{ peak = 0.1 }} }}\n\
         [cohort]\nsites = {SITES:?}\n\
         gather_seconds = 30\nround_deadline_seconds = 1000\nidle_timeout_seconds = 100\n"
    );
    let cohort = match rule {
        CohortRule::Full => "rule = \"full\"",
        CohortRule::Quorum => "rule = \"quorum\"\nquorum = 2",
    };
    writeln!(text, "{cohort}\n[aggregation]\nweighting = \"uniform\"").expect("a string");
    if evaluated {
        let evaluation = "[evaluation]\nevery = 1\ntasks = [\"ich\"]\nhistogram_bins = 2\n\
                          deadline_seconds = 500";
        writeln!(text, "{evaluation}").expect("a string");
    }
    text
}

fn admit(authority: &mut Authority, role: Role, name: &str) -> Identity {
    let key = PrivateKey::generate().expect("randomness");
    let request = Request::write(&name.parse().expect("a name"), &key).expect("a request");
    let request = Request::read(request.as_bytes()).expect("our own request");
    let certificate = authority.approve(&request, role, START).expect("approval");
    Identity::new(Arc::new(key), certificate).expect("our own certificate")
}

/// When every world begins.
pub(super) const START: Timestamp = Timestamp(1_800_000_000_000);
pub(super) const SITES: [&str; 3] = ["east", "north", "west"];
/// The site that is revoked where one is.
pub(super) const LAST: usize = SITES.len() - 1;
pub(super) const ROUNDS: u32 = 3;
