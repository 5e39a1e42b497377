//! The science of FM-CT: volumes, preprocessing, views, the 3-D vision transformer, DINO, MAE,
//! probes, baselines, phantoms, schedules and metrics. Names no backend, opens no file.
