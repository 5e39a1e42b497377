//! Draws how rounds grow, from lines of the rounds benchmark on standard input.
//!
//! `cargo run --release -p fmct-tests --example rounds_plot -- docs < docs/rounds.jsonl` writes
//! `rounds-sites.svg` (the size measured most often, over the number of sites) and `rounds-size.svg`
//! (the number of sites measured most often, over the size).

use std::collections::BTreeMap;
use std::fs;
use std::io::stdin;
use std::path::PathBuf;

use anyhow::Context;
use kuva::backend::svg::SvgBackend;
use kuva::plot::legend::{LegendEntry, LegendPosition, LegendShape};
use kuva::plot::{LinePlot, ScatterPlot};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;
use kuva::render::render::render_multiple;
use serde_json::Value;

/// What one line says.
struct Measured {
    sites: u64,
    megabytes: u64,
    /// Seconds and processor seconds of a round.
    took: [f64; 2],
}

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).context("usage: FOLDER < LINES")?;
    let folder = PathBuf::from(folder);
    let lines = stdin().lines().map(|line| read(&line?));
    let measured: Vec<Measured> = lines.collect::<anyhow::Result<_>>()?;
    let megabytes = most_common(measured.iter().map(|one| one.megabytes))?;
    let by_sites = measured.iter().filter(|one| one.megabytes == megabytes);
    let by_sites = by_sites.map(|one| (one.sites, one.took)).collect();
    let title = format!("Rounds of {megabytes} MB");
    let svg = draw(&title, "sites", &by_sites);
    fs::write(folder.join("rounds-sites.svg"), svg)?;
    let sites = most_common(measured.iter().map(|one| one.sites))?;
    let by_size = measured.iter().filter(|one| one.sites == sites);
    let by_size = by_size.map(|one| (one.megabytes, one.took)).collect();
    let title = format!("Rounds of {sites} sites");
    let svg = draw(&title, "MB of the model", &by_size);
    fs::write(folder.join("rounds-size.svg"), svg)?;
    Ok(())
}

fn most_common(values: impl Iterator<Item = u64>) -> anyhow::Result<u64> {
    let mut times = BTreeMap::<u64, usize>::new();
    values.for_each(|value| *times.entry(value).or_default() += 1);
    let common = times.into_iter().max_by_key(|(_, times)| *times);
    Ok(common.context("nothing measured")?.0)
}

fn read(line: &str) -> anyhow::Result<Measured> {
    let line: Value = serde_json::from_str(line)?;
    let number = |value: &Value| value.as_f64().context("not a line of the benchmark");
    Ok(Measured {
        sites: line["of"]["clients"].as_u64().context("no clients")?,
        megabytes: line["of"]["megabytes"].as_u64().context("no megabytes")?,
        took: [number(&line["round_s"])?, number(&line["cpu_s"])?],
    })
}

/// Seconds and processor seconds over something that was varied; from zero, so that what grows in
/// proportion looks so.
fn draw(title: &str, of: &str, points: &BTreeMap<u64, [f64; 2]>) -> String {
    let series = [("seconds", "#0072B2"), ("processor seconds", "#D55E00")];
    let (mut plots, mut legend) = (Vec::new(), Vec::new());
    for (index, (name, color)) in series.into_iter().enumerate() {
        let points: Vec<(f64, f64)> = points
            .iter()
            .map(|(at, took)| (*at as f64, took[index]))
            .collect();
        let line = LinePlot::new()
            .with_data(points.iter().copied())
            .with_color(color);
        plots.push(Plot::Line(line));
        let marks = ScatterPlot::new().with_data(points).with_color(color);
        plots.push(Plot::Scatter(marks));
        legend.push(LegendEntry {
            label: name.to_owned(),
            color: color.to_owned(),
            shape: LegendShape::Line,
            dasharray: None,
        });
    }
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(1.0, f64::max);
    let right = most(&mut points.keys().map(|at| *at as f64));
    let top = most(&mut points.values().flatten().copied());
    let layout = Layout::new((0.0, right), (0.0, top))
        .with_title(title)
        .with_x_label(of)
        .with_y_label("s a round")
        .with_legend_entries(legend)
        .with_legend_position(LegendPosition::OutsideBottomColumns)
        .with_legend_box(false)
        .with_width(420.0)
        .with_height(330.0);
    SvgBackend::new().render_scene(&render_multiple(plots, layout))
}
