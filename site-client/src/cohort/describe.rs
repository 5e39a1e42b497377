//! The table of characteristics: the paper's Supplementary Table 2, for any cohort.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::scans::Scan;

use super::error::CohortError;
use super::sheet::write_whole;
use super::table::LabelTable;

/// One row: a group of scans.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The task, or `—` for all scans.
    pub cohort: String,
    /// `All`, `Neg` or `Pos`.
    pub group: &'static str,
    /// Scans.
    pub scans: usize,
    /// Scans of men and of women, where known.
    pub male: usize,
    /// See `male`.
    pub female: usize,
    /// Mean age in years, where known.
    pub age_mean: Option<f64>,
    /// Standard deviation of the age.
    pub age_sd: Option<f64>,
}

/// Characteristics of a cohort.
#[derive(Clone, Debug, PartialEq)]
pub struct Characteristics {
    /// All scans, then each task's negatives and positives.
    pub rows: Vec<Row>,
    /// Patients.
    pub patients: usize,
}

impl Characteristics {
    /// Describes a cohort. Scans without a label of a task belong to neither of its groups.
    #[must_use]
    pub fn new(scans: &[Scan], labels: &LabelTable) -> Self {
        let by_scan: BTreeMap<&str, &Scan> = scans.iter().map(|s| (s.scan.as_str(), s)).collect();
        let labeled: Vec<(&Scan, &[Option<bool>])> = labels
            .rows
            .iter()
            .filter_map(|row| Some((*by_scan.get(row.scan.as_str())?, row.labels.as_slice())))
            .collect();
        let mut rows = vec![row("—", "All", labeled.iter().map(|(scan, _)| *scan))];
        for (task, name) in labels.tasks.iter().enumerate() {
            for (group, wanted) in [("Neg", false), ("Pos", true)] {
                let members = labeled
                    .iter()
                    .filter(|(_, labels)| labels[task] == Some(wanted));
                rows.push(row(name, group, members.map(|(scan, _)| *scan)));
            }
        }
        Self {
            rows,
            patients: labels.patients().len(),
        }
    }

    /// Plain text, in the paper's layout.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let width = self
            .rows
            .iter()
            .map(|row| row.cohort.chars().count())
            .max()
            .unwrap_or(0)
            .max(6);
        let _ = writeln!(
            text,
            "{:<width$}  {:<22} {:<20} {:<20} Age (std)",
            "Cohort", "", "Male (%)", "Female (%)"
        );
        for row in &self.rows {
            let name = if row.group == "Pos" { "" } else { &row.cohort };
            let group = format!("{} (n={})", row.group, grouped(row.scans));
            let [male, female] = row.sexes();
            let _ = writeln!(
                text,
                "{name:<width$}  {group:<22} {male:<20} {female:<20} {}",
                row.age()
            );
        }
        let _ = writeln!(text, "{} patients", grouped(self.patients));
        text
    }

    /// One self-contained page: the table and bars of prevalence.
    #[must_use]
    pub fn html(&self) -> String {
        let mut body = String::new();
        for row in &self.rows {
            let [male, female] = row.sexes();
            let _ = writeln!(
                body,
                "<tr class=\"{}\"><td>{}</td><td>{} (n={})</td><td>{male}</td><td>{female}</td><td>{}</td></tr>",
                row.group,
                escape(&row.cohort),
                row.group,
                grouped(row.scans),
                row.age(),
            );
        }
        let mut bars = String::new();
        for (name, share, positive) in self.prevalence() {
            let percent = 100.0 * share;
            let _ = writeln!(
                bars,
                "<div class=\"bar\"><span>{}</span><div><i style=\"width:{percent:.2}%\"></i></div><b>{percent:.1}% (n={})</b></div>",
                escape(name),
                grouped(positive),
            );
        }
        format!(
            "{HEAD}<table><tr><th>Cohort</th><th></th><th>Male (%)</th><th>Female (%)</th><th>Age (std)</th></tr>\n{body}</table>\n<p>{} patients</p>\n<h2>Prevalence</h2>\n{bars}</body></html>\n",
            grouped(self.patients)
        )
    }

    /// Writes the rows as CSV.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_csv(&self, path: &Path) -> Result<(), CohortError> {
        write_whole(path, |writer| {
            self.rows.iter().try_for_each(|row| writer.serialize(row))
        })
    }

    /// Task, share and number of positives among the labeled.
    pub fn prevalence(&self) -> impl Iterator<Item = (&str, f64, usize)> {
        self.rows[1..].chunks_exact(2).map(|pair| {
            let labeled = (pair[0].scans + pair[1].scans).max(1);
            (
                pair[1].cohort.as_str(),
                pair[1].scans as f64 / labeled as f64,
                pair[1].scans,
            )
        })
    }
}

impl Row {
    fn sexes(&self) -> [String; 2] {
        let known = (self.male + self.female).max(1) as f64;
        [self.male, self.female]
            .map(|n| format!("{} ({:.2}%)", grouped(n), 100.0 * n as f64 / known))
    }

    fn age(&self) -> String {
        match (self.age_mean, self.age_sd) {
            (Some(mean), Some(sd)) => format!("{mean:.2} ({sd:.2})"),
            _ => "unknown".to_owned(),
        }
    }
}

fn row<'a>(cohort: &str, group: &'static str, scans: impl Iterator<Item = &'a Scan>) -> Row {
    let (mut count, mut male, mut female) = (0, 0, 0);
    let mut ages = Vec::new();
    for scan in scans {
        count += 1;
        match scan.sex.as_deref() {
            Some("M") => male += 1,
            Some("F") => female += 1,
            _ => {}
        }
        ages.extend(scan.age_years.map(f64::from));
    }
    let mean = (!ages.is_empty()).then(|| ages.iter().sum::<f64>() / ages.len() as f64);
    // The sample's deviation, as a statistics package prints it.
    let sd = mean.filter(|_| ages.len() > 1).map(|mean| {
        let squares: f64 = ages.iter().map(|age| (age - mean).powi(2)).sum();
        (squares / (ages.len() - 1) as f64).sqrt()
    });
    Row {
        cohort: cohort.to_owned(),
        group,
        scans: count,
        male,
        female,
        age_mean: mean,
        age_sd: sd,
    }
}

/// 12345 as 12,345.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const HEAD: &str = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Characteristics of the cohort</title><style>
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%}td,th{padding:.25rem .6rem;text-align:left;border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}
.Pos td{border-bottom:2px solid #bbb}.bar{display:flex;align-items:center;gap:.6rem;margin:.2rem 0}.bar span{width:10rem}.bar div{flex:1;background:#e8eef4;height:1rem}
.bar i{display:block;height:100%;background:#2b6cb0}.bar b{width:9rem;font-weight:normal;font-variant-numeric:tabular-nums}
</style></head><body><h1>Characteristics of the cohort</h1>\n";

#[cfg(test)]
mod tests {
    use super::super::table::LabelRow;
    use super::*;
    use crate::cohort::bare_scan;

    #[test]
    fn the_rows_are_those_of_the_paper() {
        let scan = |id: &str, sex: &str, age: f32| Scan {
            sex: Some(sex.into()),
            age_years: Some(age),
            ..bare_scan(id, id, None)
        };
        let scans = [
            scan("a", "M", 60.0),
            scan("b", "F", 70.0),
            scan("c", "F", 80.0),
        ];
        let labels = LabelTable {
            tasks: vec!["ICH".into()],
            rows: [("a", Some(true)), ("b", Some(true)), ("c", None)]
                .map(|(id, label)| LabelRow {
                    scan: id.into(),
                    patient: id.into(),
                    labels: vec![label],
                })
                .to_vec(),
        };
        let table = Characteristics::new(&scans, &labels);
        let positive = &table.rows[2];
        assert_eq!((positive.scans, positive.male, positive.female), (2, 1, 1));
        assert_eq!(positive.age_mean, Some(65.0));
        assert!((positive.age_sd.unwrap() - 50.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!(table.rows[1].scans, 0, "an unlabeled scan is not negative");
        assert!(table.text().contains("Pos (n=2)"), "{}", table.text());
        assert!(table.html().contains("100.0% (n=2)"));
    }

    #[test]
    fn names_are_escaped_in_html() {
        let labels = LabelTable {
            tasks: vec!["<b>".into()],
            rows: Vec::new(),
        };
        assert!(
            Characteristics::new(&[], &labels)
                .html()
                .contains("&lt;b&gt;")
        );
    }
}
