//! The rules that fields of a configuration keep, each on its own or beside its neighbours.

use crate::train::{Architecture, Config, Precision, Span, TrainError};

/// The first rule that a field breaks.
pub(super) fn check(config: &Config) -> Result<(), TrainError> {
    machine(config)?;
    pretraining(config)?;
    classification(config)?;
    shares(config)?;
    rates(config)
}

/// Where a run computes and what it keeps.
fn machine(config: &Config) -> Result<(), TrainError> {
    let Config {
        model,
        data,
        pretrain,
        ..
    } = config;
    rule(
        "model.channels",
        "must be 1 or 3",
        model.channels,
        matches!(model.channels, 1 | 3),
    )?;
    rule(
        "data.workers",
        "must be positive",
        data.workers,
        data.workers > 0,
    )?;
    rule("data.queue", "must be positive", data.queue, data.queue > 0)?;
    let fraction = pretrain.fraction;
    rule(
        "pretrain.fraction",
        "must be in (0, 1]",
        fraction,
        fraction > 0.0 && fraction <= 1.0,
    )?;
    let every = pretrain.checkpoint_every;
    rule(
        "pretrain.checkpoint_every",
        "must be positive",
        every,
        every > 0,
    )?;
    rule(
        "pretrain.log_every",
        "must be positive",
        pretrain.log_every,
        pretrain.log_every > 0,
    )?;
    let gpu = config.device.starts_with("cuda");
    rule(
        "pretrain.devices",
        "must be positive, and 1 on the CPU, which is one device with all its cores",
        pretrain.devices,
        pretrain.devices == 1 || (pretrain.devices > 1 && gpu),
    )?;
    rule(
        "pretrain.precision",
        "must be float32 on the CPU",
        format!("{:?}", pretrain.precision).to_lowercase(),
        pretrain.precision == Precision::Float32 || gpu,
    )?;
    Ok(())
}

/// What both objectives ask of their batches and lengths, and DINO of its views.
fn pretraining(config: &Config) -> Result<(), TrainError> {
    let Config { dino, mae, .. } = config;
    let views = dino.global_views;
    rule(
        "dino.global_views",
        "must be at least 2: they are compared",
        views,
        views >= 2,
    )?;
    for (field, batch, part) in [
        ("dino.global_batch", dino.global_batch, dino.device_batch),
        ("mae.global_batch", mae.global_batch, mae.device_batch),
    ] {
        let whole = part > 0 && batch > 0 && batch.is_multiple_of(part);
        rule(
            field,
            "must be a multiple of device_batch",
            format!("{batch} and {part}"),
            whole,
        )?;
    }
    for (field, temperature) in [
        ("dino.student_temperature", dino.student_temperature),
        ("dino.teacher_temperature", dino.teacher_temperature),
        (
            "dino.teacher_temperature_start",
            dino.teacher_temperature_start,
        ),
    ] {
        rule(field, "must be positive", temperature, temperature > 0.0)?;
    }
    for (field, length) in [("dino.length", dino.length), ("mae.length", mae.length)] {
        let own = match length {
            Span::Epochs(epochs) => epochs > 0.0 && epochs.is_finite(),
            Span::Fraction(_) => false,
            Span::Steps(steps) => steps > 0,
        };
        rule(
            field,
            "must be positive epochs or steps",
            format!("{length:?}"),
            own,
        )?;
    }
    Ok(())
}

/// Numbers of things in fine-tuning, few-shot and sweep.
fn classification(config: &Config) -> Result<(), TrainError> {
    let Config {
        finetune,
        few_shot,
        sweep,
        ..
    } = config;
    for (field, count) in [
        ("finetune.epochs", finetune.epochs),
        ("finetune.draws", finetune.draws),
        ("few_shot.repeats", few_shot.repeats),
        ("few_shot.neighbors", few_shot.neighbors),
        (
            "few_shot.shots",
            few_shot.shots.iter().copied().min().unwrap_or(0),
        ),
        (
            "sweep.epochs",
            sweep.epochs.iter().copied().min().unwrap_or(0),
        ),
        ("sweep.learning_rates", sweep.learning_rates.len()),
        ("sweep.weight_decays", sweep.weight_decays.len()),
        ("sweep.optimizers", sweep.optimizers.len()),
    ] {
        rule(field, "must be positive", count, count > 0)?;
    }
    rule(
        "finetune.batch",
        "must be at least 2, for batch norm",
        finetune.batch,
        finetune.batch > 1,
    )
}

/// Shares of something, and chances.
fn shares(config: &Config) -> Result<(), TrainError> {
    let Config {
        dino,
        mae,
        finetune,
        ..
    } = config;
    for (field, share) in [
        ("dino.momentum", dino.momentum),
        ("dino.center_momentum", dino.center_momentum),
        ("finetune.warmup", finetune.warmup),
        ("finetune.min_lr_ratio", finetune.min_lr_ratio),
    ]
    .into_iter()
    .chain(dino.flip.map(|flip| ("dino.flip", flip)))
    .chain(mae.flip.map(|flip| ("mae.flip", flip)))
    .chain(finetune.flip.map(|flip| ("finetune.flip", flip)))
    {
        rule(
            field,
            "must be in [0, 1]",
            share,
            (0.0..=1.0).contains(&share),
        )?;
    }
    Ok(())
}

/// What optimizers multiply by.
fn rates(config: &Config) -> Result<(), TrainError> {
    let Config {
        dino,
        mae,
        finetune,
        ..
    } = config;
    let betas = [("dino.betas", dino.betas), ("mae.betas", mae.betas)];
    for (field, betas) in betas
        .into_iter()
        .chain([("finetune.betas", finetune.betas)])
    {
        let fine = betas.iter().all(|beta| (0.0..1.0).contains(beta));
        rule(field, "must be in [0, 1)", format!("{betas:?}"), fine)?;
    }
    for (field, value) in [
        ("dino.base_lr", dino.base_lr),
        ("dino.weight_decay", dino.weight_decay),
        ("dino.weight_decay_end", dino.weight_decay_end),
        ("dino.clip", dino.clip),
        ("dino.shift", dino.shift),
        ("mae.base_lr", mae.base_lr),
        ("mae.weight_decay", mae.weight_decay),
        ("mae.weight_decay_end", mae.weight_decay_end),
        ("mae.clip", mae.clip),
        ("mae.shift", mae.shift),
        ("finetune.backbone_lr", finetune.backbone_lr),
        ("finetune.head_lr", finetune.head_lr),
        ("finetune.weight_decay", finetune.weight_decay),
        ("finetune.clip", finetune.clip),
        ("finetune.shift", finetune.shift),
    ] {
        rule(
            field,
            "must be finite and not negative",
            value,
            value.is_finite() && value >= 0.0,
        )?;
    }
    Ok(())
}

pub(super) fn rule(
    field: &str,
    rule: &str,
    found: impl std::fmt::Display,
    holds: bool,
) -> Result<(), TrainError> {
    if holds {
        Ok(())
    } else {
        Err(TrainError::config(format!(
            "{field}: {rule}, found {found}"
        )))
    }
}

/// Whether pre-training and probing make sense for the architecture.
pub(crate) fn require_vit(config: &Config, what: &str) -> Result<(), TrainError> {
    let architecture = config.model.architecture;
    let rule_text = format!("must be vit for {what}");
    rule(
        "model.architecture",
        &rule_text,
        "resnet50-3d",
        architecture == Architecture::Vit,
    )
}
