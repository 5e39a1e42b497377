//! Prevalence and patients (Suppl. Figs. 1–2, Suppl. Table 2).

use std::collections::BTreeSet;

use core_model::metrics::clopper_pearson;

use super::super::parts::{Figure, Section, Table};
use super::super::plot::{DotSeries, Dots, Estimate};
use super::super::run::CohortRow;
use super::super::study::{Study, distinct};

/// The runs' cohorts, each scan once.
pub(in crate::report) fn cohort(study: &Study) -> Section {
    let mut seen = BTreeSet::new();
    let rows: Vec<&CohortRow> = study
        .runs
        .iter()
        .flat_map(|run| &run.cohort)
        .filter(|row| seen.insert((&row.site, &row.scan)))
        .collect();
    let mut section = Section::of_figures("Cohort", Vec::new());
    if rows.is_empty() {
        return section;
    }
    let tasks = distinct(rows.iter().flat_map(|row| row.labels.keys().cloned()));
    let site = |row: &CohortRow| row.site.clone().unwrap_or_else(|| "all".to_owned());
    let sites = distinct(rows.iter().map(|row| site(row)));
    section
        .figures
        .extend(prevalence(study, &rows, &tasks, &sites, &site));
    section
        .tables
        .push(characteristics(&rows, &tasks, &sites, &site));
    section
}

fn prevalence(
    study: &Study,
    rows: &[&CohortRow],
    tasks: &[String],
    sites: &[String],
    site: &dyn Fn(&CohortRow) -> String,
) -> Option<Figure> {
    let estimate = |wanted: &String, task: &String| {
        let labels: Vec<bool> = rows
            .iter()
            .filter(|row| site(row) == *wanted)
            .filter_map(|row| row.labels.get(task).copied().flatten())
            .collect();
        let positives = labels.iter().filter(|label| **label).count();
        let interval = clopper_pearson(positives, labels.len(), study.settings.level).ok()?;
        let value = positives as f64 / labels.len() as f64;
        Some(Estimate {
            value,
            interval: Some([interval.low, interval.high]),
        })
    };
    let series = sites.iter().enumerate().map(|(style, site)| DotSeries {
        name: site.clone(),
        style,
        estimates: tasks.iter().map(|task| estimate(site, task)).collect(),
    });
    let dots = Dots {
        title: "prevalence".to_owned(),
        x_label: "fraction of scans with the disease".to_owned(),
        rows: tasks.to_vec(),
        series: series.collect(),
        chance: None,
        marks: Vec::new(),
    };
    Figure::new(
        "fig-prevalence",
        "Prevalence of each disease",
        "Fraction of labeled scans with the disease at each site, with Clopper–Pearson intervals.",
        [|id: &str| dots.svg(id)],
    )
}

fn characteristics(
    rows: &[&CohortRow],
    tasks: &[String],
    sites: &[String],
    site: &dyn Fn(&CohortRow) -> String,
) -> Table {
    let mut table = Table::new(
        "table-cohort",
        "Patients and scans",
        "Sex and age of the patients behind the scans; percentages are of scans with known sex, \
         age is mean (standard deviation) over scans.",
        &[
            "site", "cohort", "", "scans", "patients", "male", "female", "age",
        ],
    );
    for name in sites {
        let here: Vec<&CohortRow> = rows
            .iter()
            .copied()
            .filter(|row| site(row) == *name)
            .collect();
        table.rows.push(line(name, "all", "", &here));
        for task in tasks {
            for (label, text) in [(false, "negative"), (true, "positive")] {
                let part: Vec<&CohortRow> = here
                    .iter()
                    .copied()
                    .filter(|row| row.labels.get(task) == Some(&Some(label)))
                    .collect();
                table.rows.push(line(name, task, text, &part));
            }
        }
    }
    table
}

fn line(site: &str, cohort: &str, label: &str, rows: &[&CohortRow]) -> Vec<String> {
    let patients: BTreeSet<&str> = rows.iter().map(|row| &*row.patient).collect();
    let sex = |wanted: &str| {
        rows.iter()
            .filter(|r| r.sex.as_deref() == Some(wanted))
            .count()
    };
    let (male, female) = (sex("M"), sex("F"));
    let share = |count: usize| match male + female {
        0 => "–".to_owned(),
        known => format!("{count} ({:.1} %)", 100.0 * count as f64 / known as f64),
    };
    let ages: Vec<f64> = rows.iter().filter_map(|row| row.age).collect();
    let mean = ages.iter().sum::<f64>() / ages.len() as f64;
    let squares: f64 = ages.iter().map(|age| (age - mean).powi(2)).sum();
    let age = match ages.len() {
        0 => "–".to_owned(),
        1 => format!("{mean:.1}"),
        count => format!("{mean:.1} ({:.1})", (squares / (count - 1) as f64).sqrt()),
    };
    vec![
        site.to_owned(),
        cohort.to_owned(),
        label.to_owned(),
        rows.len().to_string(),
        patients.len().to_string(),
        share(male),
        share(female),
        age,
    ]
}
