//! A federation of one fine-tunes what the site alone fine-tunes on the same draws.

use burn::tensor::Device;
use core_model::heads::ProbeKind;
use core_model::state::StateDict;
use protocol::SiteId;
use site_client::federation::site_seed;
use site_client::train::downstream::{Draw, Finetuning, Learner, Start};
use site_client::train::{Config, Plan, Preset};

use crate::exact::{BATCH, ROUNDS, STEPS, assert_within_rounding};
use crate::harness::{distance, hospital, member, plan, rehearse, weights};

#[test]
fn a_federation_of_one_fine_tunes_like_the_site_alone_within_the_rounding_of_a_round() {
    for moments in ["keep", "reset"] {
        let mut config = Config::preset(Preset::Tiny);
        let finetune = &mut config.finetune;
        finetune.batch = BATCH;
        finetune.warmup = 1.0 / (ROUNDS * STEPS) as f64;
        let (peak, decay) = (finetune.backbone_lr, finetune.weight_decay);
        let end = peak * finetune.min_lr_ratio;
        let tasks = ["SDH", "ICH"];
        let federated = plan(
            "finetune",
            ROUNDS as u32,
            &["langone"],
            &format!(
                "[local]\nsteps = {STEPS}\nbatch_size = {BATCH}\noptimizer_state = \"{moments}\"\n\
                 [schedule]\nlearning_rate = {{ peak = {peak:?}, end = {end:?}, warmup_steps = 1 }}\n\
                 weight_decay = {{ start = {decay:?}, end = {decay:?} }}\n\
                 [evaluation]\nevery = 1\ntasks = {tasks:?}\n"
            ),
        );
        let cohort = hospital("langone", 16);
        let (mut rehearsal, _folder) =
            rehearse(&federated, vec![member("langone", cohort.clone())]);

        let site: SiteId = "langone".parse().unwrap();
        config.seed = site_seed(5, &site);
        let seed = config.seed;
        let local = Plan::new(config).unwrap();
        let set = cohort.of_tasks(&tasks.map(Into::into)).unwrap();
        let draw = Draw::balanced(&set, STEPS as usize * BATCH).unwrap();
        let (kind, total) = (ProbeKind::Linear, ROUNDS * STEPS);
        let device = Device::flex();
        let mut alone = Finetuning::new(
            &local,
            kind,
            tasks.len(),
            Start::Scratch,
            (5, total),
            &device,
        )
        .unwrap();
        for round in 1..=ROUNDS {
            let start = weights(&rehearsal);
            alone.load(&start).unwrap();
            if moments == "reset" {
                alone.set_moments(&StateDict::new()).unwrap();
            }
            for batch in draw.epoch(seed, round).chunks(BATCH) {
                let step = alone.steps_done();
                alone.train(&set, batch, step).unwrap();
            }
            rehearsal.round().unwrap();
            let end = weights(&rehearsal);
            assert!(distance(&start, &end) > 1e-6, "nothing was learned");
            assert_within_rounding(&end, &alone.parameters(), &start);
        }
        assert_eq!(alone.steps_done(), total);
    }
}
