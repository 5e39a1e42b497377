use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rayon::prelude::*;

use super::augment::{adjust_gamma, smooth};
use super::*;

fn ramp(channels: usize, shape: [usize; 3]) -> Vec<f32> {
    let len = channels * shape.iter().product::<usize>();
    (0..len)
        .map(|index| (index as f32 * 0.618).fract())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn crops_stay_inside_their_cube_and_their_range(
        cube in 7usize..300,
        local in 0.5f64..=1.0,
        key in any::<[u64; 3]>(),
    ) {
        let local_cube = ((cube as f64 * local) as usize).max(cube / 2).max(1);
        let geometry =
            ViewGeometry { local_cube, ..ViewGeometry::proportional(cube, 3, 8).unwrap() };
        geometry.check().unwrap();
        let [seed, epoch, scan] = key;
        for view in 0..geometry.views() {
            let key = ViewKey { seed, epoch, scan, view: view as u64 };
            let crop = geometry.crop(view, &mut key.stream());
            let global = view < geometry.global_views;
            let [least, greatest] = if global { geometry.global_crop } else { geometry.local_crop };
            let margin = if global { 0 } else { cube / 2 - local_cube / 2 };
            let end = margin + if global { cube } else { local_cube };
            for axis in 0..3 {
                let (start, size) = (crop.start[axis], crop.size[axis]);
                prop_assert!((least..=greatest).contains(&size));
                prop_assert!(margin <= start && start + size <= end && end <= cube);
            }
        }
    }

    #[test]
    fn a_crop_of_padding_is_zero_and_one_of_the_scan_is_not(seed in any::<u64>()) {
        let shape = [6, 5, 9];
        let ones = vec![1.0; 2 * 6 * 5 * 9];
        let scan = Scan::new(&ones, 2, shape);
        let crop = ViewGeometry::paper(4).crop(0, &mut ViewKey { seed, epoch: 0, scan: 0, view: 0 }.stream());
        // Far more padding than scan: what is left of it in the view is the share it covers.
        let view = cut(scan, 224, crop, 1);
        let inside: usize = (0..3)
            .map(|axis| {
                let first = (224 - shape[axis]) / 2;
                let low = crop.start[axis].max(first);
                let high = (crop.start[axis] + crop.size[axis]).min(first + shape[axis]);
                high.saturating_sub(low)
            })
            .product();
        let expected = inside as f32 / crop.size.iter().product::<usize>() as f32;
        for value in view {
            prop_assert!((value - expected).abs() < 1e-6);
        }
    }
}

#[test]
fn a_view_is_the_same_on_any_number_of_threads() {
    let shape = [20, 24, 18];
    let voxels = ramp(3, shape);
    let scan = Scan::new(&voxels, 3, shape);
    let geometry = ViewGeometry::proportional(24, 2, 8).unwrap();
    let augmentation = Augmentation::dino();
    let draw = |threads: usize| -> Vec<Vec<Vec<f32>>> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let scans = 0..6u64;
        pool.install(|| {
            scans
                .into_par_iter()
                .map(|s| views(scan, &geometry, &augmentation, [1, 2, s]))
                .collect()
        })
    };
    let (one, two) = (draw(1), draw(2));
    assert_eq!(one, two);
    assert_ne!(one[0], one[1], "different scans give different views");
    assert!(
        one.iter()
            .flatten()
            .all(|view| view.len() == 3 * 8usize.pow(3))
    );
}

#[test]
fn the_whole_cube_without_augmentation_is_the_scan_itself() {
    let voxels = ramp(2, [8; 3]);
    let scan = Scan::new(&voxels, 2, [8; 3]);
    let geometry = ViewGeometry {
        global_crop: [8, 8],
        ..ViewGeometry::proportional(8, 0, 8).unwrap()
    };
    let key = ViewKey {
        seed: 0,
        epoch: 0,
        scan: 0,
        view: 0,
    };
    assert_eq!(view(scan, &geometry, &Augmentation::none(), key), voxels);
}

#[test]
fn a_larger_scan_is_cropped_to_its_center() {
    let voxels: Vec<f32> = (0..10 * 10 * 10)
        .map(|index| (index / 100) as f32)
        .collect();
    let scan = Scan::new(&voxels, 1, [10; 3]);
    let crop = Crop {
        start: [0; 3],
        size: [4; 3],
    };
    let view = cut(scan, 4, crop, 4);
    assert_eq!([view[0], view[63]], [3.0, 6.0]);
}

#[test]
fn flipping_every_axis_reverses_each_channel() {
    let mut voxels = ramp(2, [4; 3]);
    let original = voxels.clone();
    let always = Augmentation {
        flip: [1.0; 3],
        ..Augmentation::none()
    };
    let mut rng = ViewKey {
        seed: 0,
        epoch: 0,
        scan: 0,
        view: 0,
    }
    .stream();
    always.apply(&mut voxels, 4, &mut rng);
    for (flipped, original) in voxels.chunks(64).zip(original.chunks(64)) {
        assert!(flipped.iter().eq(original.iter().rev()));
    }
}

#[test]
fn smoothing_an_impulse_gives_the_product_of_three_kernels() {
    let size = 9;
    let mut view = vec![0.0; size * size * size];
    view[(4 * size + 4) * size + 4] = 1.0;
    smooth(&mut view, size, [0.5, 0.8, 1.0]);
    // Shares of a normal distribution within half a voxel of the center, and one voxel away.
    let center = |sigma: f64| erf_share(-0.5 / sigma, 0.5 / sigma);
    let next = |sigma: f64| erf_share(0.5 / sigma, 1.5 / sigma);
    let at = |i: usize, j: usize, k: usize| f64::from(view[(i * size + j) * size + k]);
    assert!((at(4, 4, 4) - center(0.5) * center(0.8) * center(1.0)).abs() < 1e-6);
    assert!((at(3, 4, 5) - next(0.5) * center(0.8) * next(1.0)).abs() < 1e-6);
}

#[test]
fn gamma_keeps_the_extremes_and_bends_the_middle() {
    let mut view = vec![-0.2, 0.3, 0.8];
    adjust_gamma(&mut view, 0.5);
    assert!((view[0] + 0.2).abs() < 1e-6 && (view[2] - 0.8).abs() < 1e-6);
    assert!((view[1] - (0.5f32.sqrt() - 0.2)).abs() < 1e-6);
}

/// Probability of a standard normal value in an interval.
fn erf_share(low: f64, high: f64) -> f64 {
    use statrs::distribution::{ContinuousCDF, Normal};
    let normal = Normal::standard();
    normal.cdf(high) - normal.cdf(low)
}
