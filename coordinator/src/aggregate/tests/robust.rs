//! Order statistics and Krum, with and without poisoned sites.

use super::*;

#[test]
fn median_and_trimmed_mean_are_coordinate_wise() {
    for (text, count, trim) in [
        ("name = \"median\"", 5, 2),
        ("name = \"median\"", 6, 2),
        ("name = \"median\"", 1, 0),
        ("name = \"trimmed-mean\", trim = 1", 5, 1),
        ("name = \"trimmed-mean\", trim = 0", 5, 0),
    ] {
        let (sites, base, new) = weights(&strategy(text), |layout| sites(layout, count));
        let delta: Vec<f64> = (0..base.len())
            .map(|i| {
                let mut values: Vec<f64> = sites.iter().map(|site| site.weights[i]).collect();
                values.sort_by(f64::total_cmp);
                let kept = &values[trim..values.len() - trim];
                kept.iter().sum::<f64>() / kept.len() as f64
            })
            .collect();
        assert_close(&new, &added(&base, &delta));
    }
}

#[test]
fn krum_selects_by_summed_distance_to_neighbors() {
    for (text, malicious, keep) in [
        ("name = \"krum\", malicious = 2", 2, 1),
        ("name = \"multi-krum\", malicious = 2, keep = 4", 2, 4),
    ] {
        let (sites, base, new) = weights(&strategy(text), |layout| sites(layout, 7));
        let mut scores: Vec<(f64, usize)> = (0..7)
            .map(|a| {
                let mut distances: Vec<f64> = (0..7)
                    .filter(|&b| b != a)
                    .map(|b| {
                        let pairs = sites[a].weights.iter().zip(&sites[b].weights);
                        pairs.map(|(a, b)| (a - b).powi(2)).sum()
                    })
                    .collect();
                distances.sort_by(f64::total_cmp);
                (distances[..7 - malicious - 2].iter().sum(), a)
            })
            .collect();
        scores.sort_by(|a, b| a.0.total_cmp(&b.0));
        let chosen: Vec<Site> = scores[..keep]
            .iter()
            .map(|&(_, i)| sites[i].clone())
            .collect();
        let delta = mean(&chosen, |_| 1.0 / keep as f64, |site| &site.weights);
        assert_close(&new, &added(&base, &delta));
    }
}

#[test]
fn robust_strategies_hold_under_their_number_of_poisoned_sites() {
    // Honest sites agree up to noise; poisoned ones send a large step the other way.
    for (text, poisoned) in [
        ("name = \"median\"", 4),
        ("name = \"trimmed-mean\", trim = 4", 4),
        ("name = \"krum\", malicious = 3", 3),
        ("name = \"multi-krum\", malicious = 3, keep = 3", 3),
    ] {
        let (_, base, new) = weights(&strategy(text), |layout| {
            let mut sites = sites(layout, 9);
            for (i, site) in sites.iter_mut().enumerate() {
                let poison = i % 2 == 1 && i / 2 < poisoned;
                for value in &mut site.weights {
                    *value = if poison { -1e6 } else { 1.0 + *value };
                }
            }
            sites
        });
        for (base, new) in base.iter().zip(&new) {
            assert!(
                (0.89..=1.11).contains(&(new - base)),
                "{text}: moved by {}",
                new - base
            );
        }
    }
}

#[test]
fn the_mean_does_not_hold_under_one_poisoned_site() {
    // The test above can fail: the same poison ruins a mean.
    let (_, base, new) = weights(&strategy("name = \"fedavg\""), |layout| {
        let mut sites = sites(layout, 9);
        sites[1].weights.fill(-1e6);
        sites
    });
    assert!(base.iter().zip(&new).all(|(base, new)| new - base < -1e4));
}
