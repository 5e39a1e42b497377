//! The report: runs in, one self-contained page with all figures and tables out.
//!
//! The way of the data: folders become [`Run`]s, runs a study with every statistic computed once,
//! the study sections of figures and tables, and those one HTML page, SVG, PNG and CSV files. The
//! same runs give the same bytes: no clock, no system font, no order of threads.

mod attention;
mod error;
mod figures;
mod page;
mod parts;
mod plot;
mod png;
mod run;
mod study;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use askama::Template;
use rayon::prelude::*;

pub use attention::{AttentionOptions, NamedWeights, attention};
pub use error::ReportError;
pub use run::{
    CohortRow, Embeddings, FewShot, HistoryPoint, Run, RunInfo, write_cohort, write_embeddings,
};

use crate::evaluate::Settings;
use page::Page;
use parts::{Section, Table};
use study::Study;

/// Where a report was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The page.
    pub page: PathBuf,
    /// Number of pictures, each as SVG and PNG under `figures/`.
    pub pictures: usize,
    /// Number of tables under `tables/`.
    pub tables: usize,
}

/// Writes the report of `runs` into `out`: `report.html`, `figures/*.svg`, `figures/*.png`,
/// `tables/*.csv` and `metrics.json`.
///
/// The first run's model is the one of interest: others are tested against it.
///
/// # Errors
/// No runs, a run whose predictions have no test rows, or a folder that cannot be written.
pub fn write(runs: Vec<Run>, out: &Path, settings: &Settings) -> Result<Written, ReportError> {
    let study = Study::new(runs, settings.clone())?;
    let sections = sections(&study);
    let page = Page {
        title: "Foundation model for head CT: evaluation",
        version: env!("CARGO_PKG_VERSION"),
        methods: page::methods(&study),
        sections: &sections,
        configurations: page::configurations(&study),
    };
    let (figures, tables) = (out.join("figures"), out.join("tables"));
    for folder in [&figures, &tables] {
        fs::create_dir_all(folder).map_err(|source| ReportError::Io {
            path: folder.clone(),
            source,
        })?;
    }
    let pictures: Vec<(String, &String)> = sections
        .iter()
        .flat_map(|section| &section.figures)
        .flat_map(|figure| {
            let panels = figure.panels.iter().enumerate();
            panels.map(|(place, svg)| (format!("{}-{}", figure.id, place + 1), svg))
        })
        .collect();
    pictures.par_iter().try_for_each(|(name, svg)| {
        save(&figures.join(format!("{name}.svg")), svg.as_bytes())?;
        save(
            &figures.join(format!("{name}.png")),
            &png::render(svg, PIXELS_PER_UNIT)?,
        )
    })?;
    let all_tables: Vec<&Table> = sections
        .iter()
        .flat_map(|section| &section.tables)
        .collect();
    for table in &all_tables {
        save(
            &tables.join(format!("{}.csv", table.id)),
            csv_of(table).as_bytes(),
        )?;
    }
    let metrics: Vec<_> = study.models.iter().map(|model| &model.table).collect();
    let json = serde_json::to_string_pretty(&metrics).unwrap_or_default();
    save(&out.join("metrics.json"), json.as_bytes())?;
    let path = out.join("report.html");
    save(&path, page.render()?.as_bytes())?;
    Ok(Written {
        page: path,
        pictures: pictures.len(),
        tables: all_tables.len(),
    })
}

/// The report in reading order; empty sections are left out.
fn sections(study: &Study) -> Vec<Section> {
    let results = Section {
        title: "Results per disease".to_owned(),
        figures: figures::diseases(study),
        tables: vec![tables::summary(study)],
    };
    let all = Section {
        title: "All numbers".to_owned(),
        figures: Vec::new(),
        tables: std::iter::once(tables::cells(study))
            .chain(tables::comparisons(study))
            .collect(),
    };
    let setup = Section {
        title: "Runs and published results".to_owned(),
        figures: Vec::new(),
        tables: vec![tables::runs(study), tables::published(study)],
    };
    let sections = vec![
        results,
        Section::of_figures(
            "Internal against external validation",
            figures::external(study),
        ),
        Section::of_figures("Few-shot learning", figures::few_shot(study)),
        Section::of_figures("Pre-training data", figures::scaling(study)),
        Section::of_figures(
            "Fine-tuning, probes and ablations",
            figures::protocols(study)
                .into_iter()
                .chain(figures::ablation(study))
                .collect(),
        ),
        Section::of_figures("Curves", figures::curves(study)),
        Section::of_figures("Scanner and patient groups", figures::groups(study)),
        Section::of_figures(
            "Embeddings",
            figures::embedding(study).into_iter().collect(),
        ),
        figures::cohort(study),
        Section::of_figures("Training", figures::training(study).into_iter().collect()),
        all,
        setup,
    ];
    sections
        .into_iter()
        .filter(|section| !section.is_empty())
        .collect()
}

fn csv_of(table: &Table) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail.
    drop(writer.write_record(&table.columns));
    for row in &table.rows {
        drop(writer.write_record(row));
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    fs::write(path, bytes).map_err(|source| ReportError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Twice the size of the SVG: sharp in print.
const PIXELS_PER_UNIT: f32 = 2.0;
