//! The schedules of a federation's plan, as a preset has them.

use site_client::train::{Config, Objective};

/// The tables `[schedule]` and, for DINO, `[dino]` of a plan: what `config` says, over `total` global
/// steps of `batch` scans. `teacher` is DINO's treatment at a sync.
pub fn schedules(
    config: &Config,
    objective: Objective,
    (total, batch): (u64, usize),
    teacher: &str,
) -> String {
    let (mae, dino) = (&config.mae, &config.dino);
    let (rate, start, end) = match objective {
        Objective::Mae => (mae.base_lr, mae.weight_decay, mae.weight_decay_end),
        Objective::Dino => (dino.base_lr, dino.weight_decay, dino.weight_decay_end),
    };
    let peak = rate * batch as f64 / 256.0;
    let (last, warmup) = (peak * 1e-3, total / 10);
    let schedule = format!(
        "[schedule]\n\
         learning_rate = {{ peak = {peak:?}, end = {last:?}, warmup_steps = {warmup} }}\n\
         weight_decay = {{ start = {start:?}, end = {end:?} }}\n"
    );
    if objective == Objective::Mae {
        return schedule;
    }
    format!(
        "{schedule}[dino]\n\
         teacher = \"{teacher}\"\n\
         teacher_momentum = {{ start = {:?}, end = 1.0 }}\n\
         teacher_temperature_start = {:?}\n\
         teacher_temperature_end = {:?}\n\
         teacher_temperature_warmup_steps = {warmup}\n\
         freeze_last_layer_steps = {}\n",
        dino.momentum,
        dino.teacher_temperature_start,
        dino.teacher_temperature,
        total / 20
    )
}
