//! One training step and one forward pass of ViT-B: 513 tokens of 5,184 voxels, as in
//! `torch_vit.py`, so that the two can be run alternately.
//!
//! `cargo bench -p site-client --bench vit_step -- [STEPS [DEVICE [BATCH]]]` prints median seconds and
//! peak memory; 5 steps of one volume on the CPU if nothing is said.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use core_model::adamw::{AdamW, AdamWConfig, Rate};
use core_model::gradients::Gradients;
use core_model::init::Init;
use core_model::vit::{Vit, VitConfig};
use site_client::device::DeviceChoice;

fn main() {
    // cargo adds `--bench`
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let steps = args.next().map_or(5, |arg| arg.parse().expect("STEPS"));
    let choice: DeviceChoice = args.next().map_or(DeviceChoice::Cpu, |arg| {
        arg.parse().expect("DEVICE: cpu or cuda")
    });
    let batch = args.next().map_or(1, |arg| arg.parse().expect("BATCH"));
    let device = choice.open().expect("DEVICE: one that is there");
    let config = VitConfig::vit_base().with_qkv_bias();
    let volume = Tensor::<5>::random([batch, 3, 96, 96, 96], Distribution::Default, &device);

    let vit = Vit::new(&config, &mut Init::seeded(0, &device.clone().autodiff()));
    let frozen = vit.valid();
    let forward = median(steps, || {
        drop(frozen.forward(volume.clone()).into_data());
    });
    drop(frozen);

    let mut optimizer = AdamW::new(AdamWConfig::default());
    let rate = Rate {
        learning_rate: 1e-4,
        weight_decay: 0.01,
    };
    let mut parts = [0.0; 4];
    let mut vit = Some(vit);
    let step = median(steps, || {
        let model = vit.take().expect("every step puts the model back");
        let clock = Instant::now();
        let loss = model.forward(volume.clone().autodiff()).square().mean();
        wait(&device);
        parts[0] += clock.elapsed().as_secs_f64();
        let gradients = loss.backward();
        wait(&device);
        parts[1] += clock.elapsed().as_secs_f64();
        let gradients = Gradients::of(&model, gradients);
        parts[2] += clock.elapsed().as_secs_f64();
        vit = Some(optimizer.step(model, &gradients, |_| rate));
        parts[3] += clock.elapsed().as_secs_f64();
    });
    let parts = parts.map(|total| total / (steps + 1) as f64);
    println!(
        "forward {forward:.3} s  train_step {step:.3} s  peak {:.2} GiB",
        peak_bytes() as f64 / f64::from(1 << 30)
    );
    println!(
        "of a step, until: forward {:.3}  backward {:.3}  gradients {:.3}  update {:.3}",
        parts[0], parts[1], parts[2], parts[3]
    );
}

/// Until the device has done what it was given.
fn wait(device: &Device) {
    device.sync().expect("the device answers");
}

/// Median of `repeats` runs after one to warm up, in seconds.
fn median(repeats: usize, mut run: impl FnMut()) -> f64 {
    run();
    let mut seconds: Vec<f64> = (0..repeats)
        .map(|_| {
            let clock = Instant::now();
            run();
            clock.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[repeats / 2]
}

/// Greatest resident memory of this process so far; 0 where the system does not tell.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
