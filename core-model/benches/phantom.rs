//! How fast phantoms are drawn: one core at 32³ and 48³, a 1 mm volume, a thousand at 48³ on all cores.
//!
//! `cargo bench -p core-model --bench phantom`

use std::hint::black_box;
use std::time::Instant;

use core_model::phantom::{Patient, Site};
use rayon::prelude::*;

const SEED: u64 = 1;

fn main() {
    let site = Site::builtin("langone").expect("a built-in site");
    let cube = |index: u64, n: usize| {
        let patient = Patient::draw(&site, SEED, index);
        let scan = patient.acquisition(&site, 0);
        patient.render(&scan, &patient.model_grid(&scan, n))
    };
    for n in [32, 48] {
        let ms = median((0..200).map(|index| time(|| drop(black_box(cube(index, n))))));
        println!("{n}^3, one core: {:.2} ms", 1e3 * ms);
    }
    let fine = median((0..7).map(|index| {
        let patient = Patient::draw(&site, SEED, index);
        let scan = patient.acquisition(&site, 0);
        let grid = patient.isotropic_grid(&scan, 1.0);
        time(|| drop(black_box(patient.render(&scan, &grid))))
    }));
    println!("1 mm volume, one core: {fine:.2} s");
    let all = median((0..3).map(|_| {
        time(|| {
            (0..1000_u64)
                .into_par_iter()
                .for_each(|index| drop(black_box(cube(index, 48))))
        })
    }));
    println!(
        "1,000 at 48^3, {} threads: {all:.2} s",
        rayon::current_num_threads()
    );
}

fn time(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

fn median(times: impl Iterator<Item = f64>) -> f64 {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
