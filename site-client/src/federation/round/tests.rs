use std::io::Cursor;

use protocol::plan::Plan;

use super::*;

fn config(tail: &str) -> Config {
    let text = format!(
        r#"
        name = "test"
        objective = "dino"
        model = "vit"
        preset = "tiny"
        initial = "{}"
        rounds = 4
        statistics = ["center"]
        local_parameters = ["*.norm"]
        cohort = {{ rule = "full", sites = ["a"] }}
        local = {{ steps = 10, batch_size = 1 }}
        schedule = {{ learning_rate = {{ peak = 0.1 }} }}
        {tail}
        "#,
        "0".repeat(64)
    );
    Plan::parse(text.as_bytes()).unwrap().config().clone()
}

fn schema() -> Schema {
    Params::from_tensors([
        ("a.norm".to_owned(), vec![2], vec![0.0; 2]),
        ("b.weight".to_owned(), vec![2, 2], vec![0.0; 4]),
        ("center".to_owned(), vec![1], vec![0.0]),
        ("d.weight".to_owned(), vec![1], vec![0.0]),
    ])
    .unwrap()
    .schema()
    .clone()
}

fn layout(config: &Config) -> Layout {
    Layout::new(
        schema()
            .tensors()
            .iter()
            .map(|spec| (spec.name(), spec.elements())),
        config,
    )
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

/// Weights 1 to 5, center 6, local 7 and 8, and what the plan adds.
fn model(extra: &[f32]) -> Cursor<Vec<u8>> {
    let values = [&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], extra].concat();
    Cursor::new(bytes(&values))
}

/// What is carried on, the norm, and the update.
fn finished(
    config: &Config,
    start: &Started,
    trained: &Trained,
    carried: &Carried,
) -> (Finished, Vec<u8>) {
    let mut update = Vec::new();
    let layout = layout(config);
    let finished = finish(config, &layout, start, trained, carried, 1, &mut update);
    (finished.unwrap(), update)
}

fn trained(start: &Started, by: f32) -> Trained {
    let (schema, mut values) = start.params.clone().into_parts();
    for value in &mut values {
        *value += by;
    }
    let params = Params::new(schema, values).unwrap();
    Trained {
        params,
        teacher: None,
        examples: 3,
        steps: 10,
        learning_rate_sum: 0.5,
    }
}

#[test]
fn tensors_find_their_places_and_the_update_holds_what_changed() {
    let config = config("dino = { teacher = \"local\" }");
    let layout = layout(&config);
    let nothing = Carried::default();
    let start = start(&config, &schema(), &layout, &mut model(&[]), &nothing).unwrap();
    assert_eq!(start.params.tensor("a.norm"), Some(&[7.0, 8.0][..]));
    assert_eq!(
        start.params.tensor("b.weight"),
        Some(&[1.0, 2.0, 3.0, 4.0][..])
    );
    assert_eq!(start.params.tensor("center"), Some(&[6.0][..]));
    assert_eq!(start.params.tensor("d.weight"), Some(&[5.0][..]));
    let (finished, update) = finished(&config, &start, &trained(&start, 0.5), &nothing);
    assert_eq!(floats(&update), [0.5; 6]);
    assert_eq!(update.len() as u64, layout.update_bytes());
    assert!((finished.norm - (5.0_f64 * 0.25).sqrt()).abs() < 1e-12);
    assert_eq!(finished.carried.local, [7.5, 8.5]);
}

#[test]
fn local_tensors_go_on_from_the_sites_own() {
    let config = config("dino = { teacher = \"local\" }");
    let carried = Carried {
        local: vec![-1.0, -2.0],
        ..Carried::default()
    };
    let start = start(
        &config,
        &schema(),
        &layout(&config),
        &mut model(&[]),
        &carried,
    )
    .unwrap();
    assert_eq!(start.params.tensor("a.norm"), Some(&[-1.0, -2.0][..]));
}

#[test]
fn the_teacher_comes_from_where_the_plan_says() {
    let own = Carried {
        teacher: Some(vec![10.0; 5]),
        ..Carried::default()
    };
    for (dino, extra, carried, expected) in [
        ("{}", &[9.0_f32; 5][..], &own, 9.0),
        ("{ teacher = \"local\" }", &[], &own, 10.0),
        ("{ teacher = \"local\" }", &[], &Carried::default(), 1.0),
        (
            "{ teacher = \"local-resync\", resync = 0.5 }",
            &[],
            &own,
            5.5,
        ),
    ] {
        let config = config(&format!("dino = {dino}"));
        let layout = layout(&config);
        let start = start(&config, &schema(), &layout, &mut model(extra), carried).unwrap();
        let teacher = start.teacher.unwrap();
        assert_eq!(teacher.tensor("b.weight").unwrap()[0], expected, "{dino}");
        assert!(teacher.tensor("center").is_none());
    }
}

#[test]
fn scaffold_corrects_by_the_difference_of_controls() {
    let config = config(
        "dino = { teacher = \"local\" }\nstrategy = { name = \"scaffold\", server_learning_rate = 1.0 }",
    );
    let layout = layout(&config);
    let own = Carried {
        control: Some(vec![0.25; 5]),
        ..Carried::default()
    };
    let start = start(&config, &schema(), &layout, &mut model(&[1.0; 5]), &own).unwrap();
    assert_eq!(start.correction, Some(vec![0.75; 5]));
    let (finished, update) = finished(&config, &start, &trained(&start, 0.5), &own);
    // cₖ⁺ = cₖ − c + (x − y)/Ση = 0.25 − 1 − 0.5/0.5, so the change is −2.
    assert_eq!(&floats(&update)[6..], [-2.0; 5]);
    assert_eq!(finished.carried.control, Some(vec![-1.75; 5]));
}

#[test]
fn fedema_mixes_by_divergence_and_keeps_its_first_scale() {
    let config =
        config("dino = { teacher = \"local\" }\nstrategy = { name = \"fedema\", tau = 0.5 }");
    let layout = layout(&config);
    let first = start(
        &config,
        &schema(),
        &layout,
        &mut model(&[]),
        &Carried::default(),
    )
    .unwrap();
    assert_eq!(first.params.tensor("d.weight"), Some(&[5.0][..]));
    let done = trained(&first, 2.0);
    let (Finished { carried, .. }, _) = finished(&config, &first, &done, &Carried::default());
    assert_eq!(
        carried.previous.as_deref(),
        Some(&[3.0, 4.0, 5.0, 6.0, 7.0][..])
    );
    // At the first synchronization the mixing rate is τ: halfway between own and global.
    let second = start(&config, &schema(), &layout, &mut model(&[]), &carried).unwrap();
    assert!((second.params.tensor("d.weight").unwrap()[0] - 6.0).abs() < 1e-5);
    let (Finished { carried, .. }, _) =
        finished(&config, &second, &trained(&second, 0.0), &carried);
    // Half as far away now, so half the rate: 5 + 0.25 · 1.
    let third = start(&config, &schema(), &layout, &mut model(&[]), &carried).unwrap();
    assert!((third.params.tensor("d.weight").unwrap()[0] - 5.25).abs() < 1e-5);
}

#[test]
fn what_is_scored_is_the_global_model_and_no_mixture_with_the_sites_own() {
    let config =
        config("dino = { teacher = \"local\" }\nstrategy = { name = \"fedema\", tau = 0.5 }");
    let layout = layout(&config);
    let carried = Carried {
        local: vec![-1.0, -2.0],
        previous: Some(vec![100.0; 5]),
        teacher: Some(vec![10.0; 5]),
        ..Carried::default()
    };
    let params = scored(&config, &schema(), &layout, &mut model(&[]), &carried).unwrap();
    // The plan leaves the norm at the site, so it is the site's own.
    assert_eq!(params.values(), [-1.0, -2.0, 1.0, 2.0, 3.0, 4.0, 6.0, 5.0]);
}

#[test]
fn where_the_coordinator_publishes_a_teacher_the_teacher_is_scored() {
    let config = config("dino = {}");
    let layout = layout(&config);
    let mut model = model(&[11.0, 12.0, 13.0, 14.0, 15.0]);
    let nothing = Carried::default();
    let params = scored(&config, &schema(), &layout, &mut model, &nothing).unwrap();
    assert_eq!(
        params.values(),
        [7.0, 8.0, 11.0, 12.0, 13.0, 14.0, 6.0, 15.0]
    );
}

#[test]
fn lossy_updates_carry_their_loss_to_the_next_round() {
    let config = config("dino = { teacher = \"local\" }\nencoding = { update = \"bf16\" }");
    let layout = layout(&config);
    let nothing = Carried::default();
    let start = start(&config, &schema(), &layout, &mut model(&[]), &nothing).unwrap();
    let done = trained(&start, 0.001);
    let (finished, update) = finished(&config, &start, &done, &nothing);
    let residual = finished.carried.residual.unwrap();
    let mut decoded = vec![0.0; 5];
    Encoding::Bf16.decode(&update[..10], &mut decoded).unwrap();
    for ((&before, &sent), (&after, lost)) in start
        .anchor
        .iter()
        .zip(&decoded)
        .zip(done.params.values()[2..].iter().zip(&residual))
    {
        // The last tensor follows the center in the schema; its values agree all the same.
        let delta = if after > 6.0 {
            5.001_f32 - 5.0
        } else {
            after - before
        };
        assert!((sent + lost - delta).abs() < 1e-9);
    }
}

#[test]
fn a_model_of_another_size_is_refused() {
    let config = config("dino = { teacher = \"local\" }");
    let result = start(
        &config,
        &schema(),
        &layout(&config),
        &mut Cursor::new([0; 12]),
        &Carried::default(),
    );
    let message = result.err().unwrap().to_string();
    assert_eq!(message, "model: expected 32 bytes, found 12");
    let result = scored(
        &config,
        &schema(),
        &layout(&config),
        &mut Cursor::new([0; 12]),
        &Carried::default(),
    );
    assert_eq!(result.err().unwrap().to_string(), message);
}

#[test]
fn an_update_of_a_value_that_is_not_finite_is_never_made() {
    let config =
        config("strategy = { name = \"scaffold\", server_learning_rate = 1.0 }\ndino = {}");
    let layout = layout(&config);
    let nothing = Carried::default();
    let extra = [0.0; 10];
    let mut model = model(&extra);
    let start = start(&config, &schema(), &layout, &mut model, &nothing).unwrap();
    // A weight, the center, another weight.
    for (place, bad) in [(2, f32::NAN), (6, f32::INFINITY), (7, f32::NAN)] {
        let mut trained = trained(&start, 0.1);
        let (schema, mut values) = trained.params.clone().into_parts();
        values[place] = bad;
        trained.params = Params::new(schema, values).unwrap();
        let mut update = Vec::new();
        let made = finish(&config, &layout, &start, &trained, &nothing, 1, &mut update);
        assert!(matches!(made, Err(FederationError::NotFinite)), "{place}");
    }
}

#[test]
fn the_norm_of_a_lossy_update_is_that_of_what_is_sent() {
    let config = config("encoding = { update = \"int8\" }\ndino = { teacher = \"local\" }");
    let layout = layout(&config);
    let carried = Carried {
        residual: Some(vec![0.5, -0.25, 0.125, 1.0, -2.0]),
        ..Carried::default()
    };
    let start = start(&config, &schema(), &layout, &mut model(&[]), &carried).unwrap();
    let (finished, update) = finished(&config, &start, &trained(&start, 0.1), &carried);
    let mut sent = [0.0; 5];
    let bytes = update.len() - 4;
    Encoding::Int8.decode(&update[..bytes], &mut sent).unwrap();
    let norm = sent.iter().map(|value| f64::from(*value).powi(2));
    let norm = norm.sum::<f64>().sqrt();
    assert!(
        (finished.norm - norm).abs() < 1e-6 * norm,
        "{} {norm}",
        finished.norm
    );
}
