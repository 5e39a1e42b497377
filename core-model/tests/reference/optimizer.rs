//! AdamW with clipping, and the schedules.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use core_model::adamw::{AdamW, AdamWConfig, DecayRule, Rate};
use core_model::gradients::{Clipping, Gradients};
use core_model::schedule::{cosine, warmup_cosine};
use core_model::state::state_dict;

use crate::vectors::Vectors;

#[derive(Module, Debug)]
struct Two {
    w: Param<Tensor<2>>,
    b: Param<Tensor<1>>,
}

#[test]
fn five_adamw_steps_with_clipping_match_pytorch() {
    for vectors in Vectors::all("adamw") {
        let device = Device::flex().autodiff();
        let mut module = Two {
            w: Param::from_tensor(vectors.tensor("w0", &device)),
            b: Param::from_tensor(vectors.tensor("b0", &device)),
        };
        let config = AdamWConfig {
            beta1: vectors.settings["betas"][0].as_f64().unwrap(),
            beta2: vectors.settings["betas"][1].as_f64().unwrap(),
            epsilon: vectors.number("eps"),
            decay: DecayRule::Everything,
        };
        let rate = Rate {
            learning_rate: vectors.number("lr"),
            weight_decay: vectors.number("weight_decay"),
        };
        let mut optimizer = AdamW::new(config);
        for step in 0..5 {
            let w: Tensor<2> = vectors.tensor(&format!("grad_w.{step}"), &device);
            let b: Tensor<1> = vectors.tensor(&format!("grad_b.{step}"), &device);
            let loss = (module.w.val() * w).sum() + (module.b.val() * b).sum();
            let mut gradients = Gradients::of(&module, loss.backward());
            gradients.clip(Clipping::PerParameter(3.0));
            module = optimizer.step(module, &gradients, |_| rate);
            // A restored optimizer continues as if it had never stopped.
            optimizer = AdamW::restore(config, optimizer.state()).unwrap();
            let state = state_dict(&module);
            vectors.check_values(&format!("w.{step}"), &state["w"].values);
            vectors.check_values(&format!("b.{step}"), &state["b"].values);
        }
    }
}

#[test]
fn schedules_match_to_a_millionth() {
    for vectors in Vectors::all("schedules") {
        type Schedule = fn(&serde_json::Value, usize) -> f64;
        let schedules: [(&str, Schedule); 3] = [
            ("lr", |s, step| {
                let int = |key: &str| s[key].as_u64().unwrap() as usize;
                let float = |key: &str| s[key].as_f64().unwrap();
                let (warmup, total) = (int("warmup_steps"), int("total_steps"));
                warmup_cosine(float("base"), float("final"), warmup, total, step)
            }),
            ("weight_decay", half_cosine),
            ("teacher_momentum", half_cosine),
        ];
        for (name, schedule) in schedules {
            let settings = &vectors.settings[name];
            for (step, expected) in settings["values"].as_array().unwrap().iter().enumerate() {
                let (actual, expected) = (schedule(settings, step), expected.as_f64().unwrap());
                let tolerance = 1e-6 * expected.abs();
                assert!(
                    (actual - expected).abs() <= tolerance,
                    "{name} {step}: {actual}"
                );
            }
        }
    }
}

fn half_cosine(settings: &serde_json::Value, step: usize) -> f64 {
    let float = |key: &str| settings[key].as_f64().unwrap();
    cosine(
        float("start"),
        float("end"),
        settings["total_steps"].as_u64().unwrap() as usize,
        step,
    )
}
