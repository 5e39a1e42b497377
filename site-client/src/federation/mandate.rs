//! What an approved plan lets a coordinator ask of this site, task by task.

use protocol::SiteId;
use protocol::message::Work;
use protocol::plan::{Objective, Plan};

use super::session::Task;

/// Whether a task is one that the plan foresees for a site. Approving a plan is approving these.
///
/// A round may be asked for again, as a coordinator does that was restored from a backup.
///
/// # Errors
/// Which rule the task breaks, in words for the logs of both ends.
pub(super) fn foreseen(plan: &Plan, site: &SiteId, task: &Task) -> Result<(), String> {
    let (config, round) = (plan.config(), task.round.0);
    let trains = config.cohort.sites.contains(site);
    match task.work {
        Work::Train => {
            if config.objective == Objective::Evaluate || !trains {
                return Err(format!("plan does not let {site} train"));
            }
            if !(1..=config.rounds).contains(&round) {
                let last = config.rounds;
                return Err(format!("plan has rounds 1 to {last}, asked for {round}"));
            }
            let step = u64::from(round - 1) * config.steps_per_round();
            if task.first_step != step {
                let found = task.first_step;
                return Err(format!(
                    "round {round} begins at step {step}, found {found}"
                ));
            }
        }
        Work::Evaluate => {
            if !trains && !config.cohort.evaluators.contains(site) {
                return Err(format!("plan does not name {site}"));
            }
            if round > config.rounds || !config.evaluates_after(round) {
                return Err(format!("plan has no evaluation after round {round}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::{Digest, Round};

    use super::*;

    fn plan() -> Plan {
        let text = format!(
            "name = \"test\"\nobjective = \"mae\"\nmodel = \"vit\"\npreset = \"tiny\"\ninitial = \"{}\"\nrounds = 4\n\
             [cohort]\nrule = \"full\"\nsites = [\"a\", \"b\"]\nevaluators = [\"c\"]\n\
             [local]\nsteps = 5\nbatch_size = 2\n[schedule]\nlearning_rate = {{ peak = 1e-3 }}\n\
             [evaluation]\nevery = 2\ntasks = [\"ich\"]\n",
            "0".repeat(64)
        );
        Plan::parse(text.as_bytes()).unwrap()
    }

    fn ask(site: &str, round: u32, first_step: u64, work: Work) -> Result<(), String> {
        let task = Task {
            run: "run-1".parse().unwrap(),
            round: Round(round),
            model: Digest::of(b"model"),
            first_step,
            work,
        };
        foreseen(&plan(), &site.parse().unwrap(), &task)
    }

    #[test]
    fn what_the_plan_says_may_be_asked_for() {
        for round in 1..=4 {
            let step = u64::from(round - 1) * 5;
            assert_eq!(ask("a", round, step, Work::Train), Ok(()));
        }
        assert_eq!(ask("a", 2, 10, Work::Evaluate), Ok(()));
        assert_eq!(ask("c", 4, 20, Work::Evaluate), Ok(()));
    }

    #[test]
    fn a_site_that_only_evaluates_is_never_made_to_train() {
        let refusal = ask("c", 1, 0, Work::Train).unwrap_err();
        assert_eq!(refusal, "plan does not let c train");
        assert!(ask("stranger", 2, 10, Work::Evaluate).is_err());
    }

    #[test]
    fn rounds_and_evaluations_beyond_the_plan_are_refused() {
        let refusal = ask("a", 5, 20, Work::Train).unwrap_err();
        assert_eq!(refusal, "plan has rounds 1 to 4, asked for 5");
        assert!(ask("a", 0, 0, Work::Train).is_err());
        assert!(ask("a", 3, 15, Work::Evaluate).is_err());
        assert!(ask("a", 6, 30, Work::Evaluate).is_err());
        let refusal = ask("a", 3, 5, Work::Train).unwrap_err();
        assert_eq!(refusal, "round 3 begins at step 10, found 5");
    }
}
