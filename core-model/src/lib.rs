//! The science of FM-CT: volumes, preprocessing, views, the 3-D vision transformer, DINO, MAE,
//! probes, baselines, phantoms, schedules and metrics. Names no backend, opens no file.

pub mod adamw;
pub mod attention;
pub mod baselines;
pub mod ct;
pub mod error;
pub mod gradients;
pub mod heads;
pub mod init;
pub mod layers;
pub mod metrics;
pub mod phantom;
pub mod pos_embed;
pub mod schedule;
pub mod sgd;
pub mod ssl;
pub mod state;
pub mod vit;
