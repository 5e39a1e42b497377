use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

const MAE: &str = r#"
name = "pretrain"
objective = "mae"
model = "vit"
preset = "tiny"
initial = "0000000000000000000000000000000000000000000000000000000000000000"
rounds = 4
[cohort]
rule = "quorum"
quorum = 3
sites = ["north", "south", "east", "west"]
[local]
steps = 20
batch_size = 8
[schedule]
learning_rate = { peak = 1e-3, end = 1e-6, warmup_steps = 8 }
"#;

fn with(from: &str, to: &str) -> Result<Plan, PlanError> {
    assert!(MAE.contains(from), "{from}");
    Plan::parse(MAE.replace(from, to).as_bytes())
}

fn appended(tail: &str) -> Result<Plan, PlanError> {
    Plan::parse(format!("{MAE}{tail}").as_bytes())
}

fn error(result: Result<Plan, PlanError>) -> String {
    let error = result.expect_err("the plan breaks a rule");
    match &error {
        PlanError::Syntax(source) => format!("{error}: {}", source.message()),
        _ => error.to_string(),
    }
}

#[test]
fn a_plan_is_known_by_the_digest_of_its_bytes() {
    let plan = Plan::parse(MAE.as_bytes()).unwrap();
    assert_eq!(plan.text(), MAE.as_bytes());
    let commented = Plan::parse(format!("{MAE}# a comment\n").as_bytes()).unwrap();
    assert_eq!(plan.config(), commented.config());
    assert_ne!(plan.digest(), commented.digest());
}

#[test]
fn unknown_fields_are_refused_in_every_table() {
    for tail in [
        "surprise = 1\n",
        "[surprise]\n",
        "[strategy]\nname = \"fedavg\"\nsurprise = 1\n",
        "[strategy]\nname = \"fedprox\"\nmu = 0.1\nsurprise = 1\n",
        "[aggregation]\nsurprise = 1\n",
        "[encoding]\nsurprise = 1\n",
        "[limits]\nsurprise = 1\n",
        "[evaluation]\nevery = 1\ntasks = [\"ich\"]\nsurprise = 1\n",
    ] {
        assert!(error(appended(tail)).contains("unknown field"), "{tail}");
    }
    assert!(error(with("quorum = 3", "quorum = 3\nsurprise = 1")).contains("unknown field"));
    assert!(error(with("steps = 20", "steps = 20\nsurprise = 1")).contains("unknown field"));
    assert!(error(with("warmup_steps = 8", "surprise = 8")).contains("unknown field"));
}

#[test]
fn broken_rules_name_the_field_the_rule_and_what_was_found() {
    let message = error(with("quorum = 3", "quorum = 5"));
    assert_eq!(
        message,
        "plan: cohort.quorum: 1 to the number of sites, found 5"
    );
    for (result, field) in [
        (with("rounds = 4", "rounds = 0"), "rounds"),
        (with("name = \"pretrain\"", "name = \"a b\""), "name"),
        (with("\"west\"", "\"north\""), "cohort.sites"),
        (
            with("rule = \"quorum\"", "rule = \"full\""),
            "cohort.quorum",
        ),
        (with("quorum = 3", ""), "cohort.quorum"),
        (with("steps = 20", "steps = 20\nepochs = 1"), "local.steps"),
        (with("steps = 20", "epochs = 1"), "local.nominal_steps"),
        (with("peak = 1e-3", "peak = nan"), "schedule.learning_rate"),
        (
            with("warmup_steps = 8", "warmup_steps = 80"),
            "schedule.learning_rate.warmup_steps",
        ),
        (with("objective = \"mae\"", "objective = \"dino\""), "dino"),
        (
            with("objective = \"mae\"", "objective = \"evaluate\""),
            "rounds",
        ),
        (appended("[dino]\n"), "dino"),
        (
            appended("[limits]\nmax_update_norm = inf\n"),
            "limits.max_update_norm",
        ),
        (
            appended("[strategy]\nname = \"krum\"\nmalicious = 1\n"),
            "strategy.malicious",
        ),
        (
            appended("[strategy]\nname = \"trimmed-mean\"\ntrim = 2\n"),
            "strategy.trim",
        ),
        (
            appended(
                "[strategy]\nname = \"fedadam\"\nserver_learning_rate = 1.0\nbeta1 = 1.0\nbeta2 = 0.9\ntau = 1e-3\n",
            ),
            "strategy.beta1",
        ),
        (
            appended("[evaluation]\nevery = 0\ntasks = [\"ich\"]\n"),
            "evaluation.every",
        ),
        (
            appended("[evaluation]\nevery = 1\ntasks = []\n"),
            "evaluation.tasks",
        ),
    ] {
        let message = error(result);
        assert!(
            message.starts_with(&format!("plan: {field}: ")),
            "{message}"
        );
    }
}

#[test]
fn every_strategy_is_spelled_by_its_name() {
    for (tail, name) in [
        ("name = \"fedavg\"", "fedavg"),
        ("name = \"fedprox\"\nmu = 0.1", "fedprox"),
        (
            "name = \"fedavgm\"\nserver_learning_rate = 1.0\nmomentum = 0.9",
            "fedavgm",
        ),
        (
            "name = \"fedadam\"\nserver_learning_rate = 1.0\nbeta1 = 0.9\nbeta2 = 0.99\ntau = 1e-3",
            "fedadam",
        ),
        (
            "name = \"fedyogi\"\nserver_learning_rate = 1.0\nbeta1 = 0.9\nbeta2 = 0.99\ntau = 1e-3",
            "fedyogi",
        ),
        (
            "name = \"fedadagrad\"\nserver_learning_rate = 1.0\nbeta1 = 0.0\ntau = 1e-3",
            "fedadagrad",
        ),
        (
            "name = \"scaffold\"\nserver_learning_rate = 1.0",
            "scaffold",
        ),
        ("name = \"fedema\"\ntau = 0.7", "fedema"),
        ("name = \"l-dawa\"", "l-dawa"),
        ("name = \"median\"", "median"),
        ("name = \"trimmed-mean\"\ntrim = 1", "trimmed-mean"),
        ("name = \"krum\"\nmalicious = 0", "krum"),
        (
            "name = \"multi-krum\"\nmalicious = 0\nkeep = 2",
            "multi-krum",
        ),
    ] {
        let plan = appended(&format!("[strategy]\n{tail}\n")).unwrap();
        assert_eq!(plan.config().strategy.name(), name);
    }
}

#[test]
fn a_strategy_that_changes_gradients_is_refused_where_nothing_applies_it() {
    let fedprox = "name = \"fedprox\"\nmu = 0.1";
    let scaffold = "name = \"scaffold\"\nserver_learning_rate = 1.0";
    for objective in ["finetune", "probe"] {
        let plan = |strategy: &str| {
            let text = MAE.replace("\"mae\"", &format!("\"{objective}\""));
            Plan::parse(format!("{text}[strategy]\n{strategy}\n").as_bytes())
        };
        for (strategy, name) in [(fedprox, "fedprox"), (scaffold, "scaffold")] {
            assert_eq!(
                error(plan(strategy)),
                format!(
                    "plan: strategy.name: neither fedprox nor scaffold for objectives \"finetune\" \
                     and \"probe\", found {name}"
                )
            );
        }
        assert!(plan("name = \"fedema\"\ntau = 0.7").is_ok());
    }
}

#[test]
fn dino_without_a_place_for_its_center_is_refused() {
    let dino = |patterns: &str| {
        let text = MAE
            .replace("\"mae\"", "\"dino\"")
            .replace("[cohort]", &format!("{patterns}\n[cohort]"));
        Plan::parse(format!("{text}[dino]\n").as_bytes())
    };
    let rule = "plan: statistics: a pattern that matches \"center\" for objective \"dino\", here or in \
                local_parameters, found ";
    assert_eq!(error(dino("")), format!("{rule}[]"));
    assert_eq!(
        error(dino(
            "statistics = [\"head.center\"]\nlocal_parameters = [\"*.norm*\"]"
        )),
        format!("{rule}[\"head.center\", \"*.norm*\"]")
    );
    for patterns in [
        "statistics = [\"*center\"]",
        "local_parameters = [\"center\"]",
    ] {
        dino(patterns).unwrap();
    }
    // MAE has no center.
    Plan::parse(MAE.as_bytes()).unwrap();
}

#[test]
fn normalization_by_steps_is_refused_where_the_strategy_would_ignore_it() {
    let plan = |strategy: &str| {
        appended(&format!(
            "[strategy]\n{strategy}\n[aggregation]\nnormalize_steps = true\n"
        ))
    };
    for (strategy, name) in [
        ("name = \"l-dawa\"", "l-dawa"),
        ("name = \"median\"", "median"),
        ("name = \"trimmed-mean\"\ntrim = 1", "trimmed-mean"),
        ("name = \"krum\"\nmalicious = 0", "krum"),
        (
            "name = \"multi-krum\"\nmalicious = 0\nkeep = 2",
            "multi-krum",
        ),
    ] {
        assert_eq!(
            error(plan(strategy)),
            format!(
                "plan: aggregation.normalize_steps: only for strategies that are a mean by \
                 shares, found {name}"
            )
        );
    }
    plan("name = \"fedavg\"").unwrap();
    plan("name = \"fedavgm\"\nserver_learning_rate = 1.0\nmomentum = 0.9").unwrap();
}

#[test]
fn a_plan_that_was_launched_is_not_held_to_rules_that_came_later() {
    let tail = "[strategy]\nname = \"l-dawa\"\n[aggregation]\nnormalize_steps = true\n";
    let text = format!("{MAE}{tail}");
    Plan::parse(text.as_bytes()).unwrap_err();
    let plan = Plan::launched(text.as_bytes()).unwrap();
    assert_eq!(plan.digest(), Digest::of(text.as_bytes()));
    Plan::launched(text.replace("quorum = 3", "quorum = 5").as_bytes()).unwrap_err();
}

#[test]
fn a_control_is_bounded_by_twice_the_update_over_the_smallest_rate() {
    let plan = appended("[limits]\nmax_update_norm = 5.0\n").unwrap();
    assert_eq!(plan.config().max_control_norm(), Some(2.0 * 5.0 / 1e-6));
    assert_eq!(appended("").unwrap().config().max_control_norm(), None);
}

#[test]
fn evaluation_falls_on_every_nth_round_and_the_last() {
    let plan = appended("[evaluation]\nevery = 3\ntasks = [\"ich\"]\n").unwrap();
    let rounds: Vec<u32> = (1..=4)
        .filter(|&round| plan.config().evaluates_after(round))
        .collect();
    assert_eq!(rounds, [3, 4]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, rng_seed: RngSeed::Fixed(8), ..ProptestConfig::default() })]

    #[test]
    fn damaged_plans_never_panic(at in 0..MAE.len(), byte: u8, cut in 0..MAE.len()) {
        let mut text = MAE.as_bytes().to_vec();
        text[at] = byte;
        let _ = Plan::parse(&text);
        let _ = Plan::parse(&text[..cut]);
    }
}
