//! The probes in training and evaluation mode, and the convolutional baseline.

use burn::module::Module;
use burn::tensor::Device;
use core_model::baselines::resnet::{ResNet, ResNetConfig};
use core_model::heads::{AttentiveProbe, LinearProbe};
use core_model::init::Init;
use core_model::state::{load, load_partial, state_dict};

use crate::vectors::Vectors;

#[test]
fn linear_probe_matches_pytorch_in_both_modes() {
    for vectors in Vectors::all("linear_probe") {
        let device = Device::flex();
        let dim = vectors.shape("tokens")[2];
        let (mut probe, missing) = load_partial(
            LinearProbe::new(dim, &mut Init::seeded(0, &device)),
            &vectors.part("weight."),
        );
        assert_eq!(missing.missing, ["bn.running_mean", "bn.running_var"]);
        let tokens = vectors.tensor("tokens", &device);
        vectors.check("train_output", probe.forward_train(tokens.clone()));
        running(&vectors, &probe, &[("bn.", "")]);
        vectors.check("eval_output", probe.forward(tokens));
    }
}

#[test]
fn attentive_probe_matches_pytorch_in_both_modes() {
    for vectors in Vectors::all("attentive_probe") {
        let device = Device::flex();
        let dim = vectors.shape("tokens")[2];
        let probe =
            AttentiveProbe::new(dim, vectors.setting("heads"), &mut Init::seeded(0, &device));
        let (mut probe, missing) = load_partial(probe, &vectors.part("weight."));
        assert_eq!(
            missing.missing.len(),
            4,
            "only running statistics are missing"
        );
        let tokens = vectors.tensor("tokens", &device);
        vectors.check("train_output", probe.forward_train(tokens.clone()));
        running(&vectors, &probe, &[("bn1.", "bn1."), ("bn2.", "bn2.")]);
        vectors.check("eval_output", probe.forward(tokens));
    }
}

#[test]
fn resnet_matches_the_reference_in_evaluation_mode() {
    for vectors in Vectors::all("resnet3d") {
        let device = Device::flex();
        let four = |key: &str| -> [usize; 4] {
            serde_json::from_value(vectors.settings[key].clone()).unwrap()
        };
        let config = ResNetConfig {
            layers: four("layers"),
            planes: four("planes"),
            channels: 3,
            classes: 2,
        };
        let resnet = ResNet::new(&config, &mut Init::zeros(&device));
        let resnet = load(resnet, &vectors.part("weight.")).unwrap();
        vectors.check("output", resnet.forward(vectors.tensor("input", &device)));
    }
}

/// Compares the running statistics `OURS running_*` with `THEIRS running_*_after`.
fn running<M: Module>(vectors: &Vectors, probe: &M, prefixes: &[(&str, &str)]) {
    let state = state_dict(probe);
    for (ours, theirs) in prefixes {
        for statistic in ["running_mean", "running_var"] {
            let values = &state[&format!("{ours}{statistic}")].values;
            vectors.check_values(&format!("{theirs}{statistic}_after"), values);
        }
    }
}
