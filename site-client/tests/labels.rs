//! From phantom patients to a described cohort, as a user runs the commands: DICOM files are
//! imported as a hospital's are, labels derived from the records, patients split.

#![expect(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use assert_cmd::Command;
use jiff::ToSpan as _;
use site_client::cohort::{LabelTable, Part, Split};
use site_client::scans;
use tempfile::TempDir;

/// Runs in a folder; returns what was printed.
fn succeed(folder: &Path, line: &str) -> String {
    let output = command(folder, line).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn fail(folder: &Path, line: &str) -> String {
    let output = command(folder, line).output().unwrap();
    assert!(!output.status.success(), "{line} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fmct-site"));
    command.current_dir(folder).args(line.split_whitespace());
    command
}

/// A cohort of a site whose records say the truth: phantoms in DICOM, then imported.
fn imported() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let profile = succeed(folder.path(), "phantom --site langone --show-site");
    let truthful: String = profile
        .lines()
        .map(|line| match line.split_once(" = ") {
            Some((name @ ("missed" | "delayed" | "unlisted"), _)) => format!("{name} = 0.0\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert_ne!(truthful, profile, "langone's records err");
    fs::write(folder.path().join("site.toml"), truthful).unwrap();
    succeed(
        folder.path(),
        "phantom --site site.toml --patients 24 --seed 5 --at-least 0.25 --format dicom --matrix 32 \
         --ehr plain,omop,fhir --out phantoms",
    );
    succeed(
        folder.path(),
        "import phantoms/dicom --out cohort --keep-mrn",
    );
    folder
}

/// Each imported scan's name among the phantoms: the folder it came from.
fn origins(folder: &Path) -> BTreeMap<String, String> {
    let mut table = csv::Reader::from_path(folder.join("cohort/mrn.csv")).unwrap();
    table
        .records()
        .map(|row| {
            let row = row.unwrap();
            let origin = Path::new(&row[3]).parent().unwrap().file_name().unwrap();
            (row[2].to_owned(), origin.to_str().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn phantoms_in_dicom_become_a_labeled_split_and_described_cohort() {
    let cohort = imported();
    let folder = cohort.path();
    // The paper's filter knows kernels of Siemens; one of the site's scanners is another's.
    let mut table = csv::Reader::from_path(folder.join("cohort/rejected.csv")).unwrap();
    let rejected: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert!(
        rejected
            .iter()
            .all(|row| &row[2] == "kernel" && row[3].contains("FC21")),
        "{rejected:?}"
    );

    // Three forms of the records, one table of labels, which is the truth.
    let tables = ["plain", "omop", "fhir"].map(|form| {
        succeed(
            folder,
            &format!(
                "labels --scans cohort/scans.csv --ehr phantoms/ehr/{form} --link cohort/mrn.csv \
                 --out {form}.csv"
            ),
        );
        LabelTable::read(&folder.join(format!("{form}.csv"))).unwrap()
    });
    assert_eq!(tables[0], tables[1]);
    assert_eq!(tables[0], tables[2]);
    let labels = &tables[0];
    let truth = LabelTable::read(&folder.join("phantoms/truth/labels.csv")).unwrap();
    assert_eq!(labels.rows.len() + rejected.len(), truth.rows.len());
    assert!(labels.rows.len() > 2 * rejected.len());
    let origins = origins(folder);
    for (task, name) in labels.tasks.iter().enumerate() {
        let (found, expected) = (
            labels.by_scan(task),
            truth.by_scan(truth.task(name).unwrap()),
        );
        for (scan, label) in found {
            assert_eq!(label, expected[origins[scan].as_str()], "{scan} {name}");
        }
    }
    let report = fs::read_to_string(folder.join("plain.report.json")).unwrap();
    assert!(report.contains("\"window\": \"from-scan\""), "{report}");

    succeed(
        folder,
        "split --table plain.csv --stratify --key k --out split.csv",
    );
    let split = Split::read(&folder.join("split.csv")).unwrap();
    let patients: usize = Part::ALL.iter().map(|&part| split.count(part)).sum();
    assert_eq!(patients, labels.patients().len());
    assert!(Part::ALL.iter().all(|&part| split.count(part) > 0));
    let checked = succeed(folder, "split --table plain.csv --check split.csv");
    assert!(checked.contains("no patient is in two parts"), "{checked}");

    let text = succeed(
        folder,
        "describe --scans cohort/scans.csv --labels plain.csv --csv d.csv --html d.html",
    );
    let [csv, html] =
        ["d.csv", "d.html"].map(|file| fs::read_to_string(folder.join(file)).unwrap());
    for (task, name) in labels.tasks.iter().enumerate() {
        let positive = labels.by_scan(task).values().filter(|is| **is).count();
        let group = format!("Pos (n={positive})");
        assert!(text.contains(&group) && html.contains(&group), "{name}");
        assert!(csv.contains(&format!("{name},Pos,{positive},")), "{csv}");
    }
    assert!(text.contains(&format!("All (n={})", labels.rows.len())));
}

#[test]
fn the_window_is_a_choice_and_stands_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(
        folder,
        "phantom --site longisland --patients 1 --grid 8 --out c",
    );
    let scan = &scans::read(&folder.join("c/scans.csv")).unwrap()[0];
    let day = scan.study_time.unwrap().date();
    fs::create_dir(folder.join("ehr")).unwrap();
    let label = |days_after: i32, window: &str| {
        let record = day.saturating_add(days_after.days());
        let records = format!("patient,date,code\n{},{record},G91.2\n", scan.patient);
        fs::write(folder.join("ehr/diagnoses.csv"), records).unwrap();
        let command = format!("labels --scans c/scans.csv --ehr ehr --window {window} --out l.csv");
        succeed(folder, &command);
        let report = fs::read_to_string(folder.join("l.report.json")).unwrap();
        assert!(report.contains(&format!("\"window\": \"{window}\"")));
        let table = LabelTable::read(&folder.join("l.csv")).unwrap();
        table.rows[0].labels[table.task("HCP").unwrap()]
    };
    assert_eq!(label(60, "from-scan"), Some(true));
    assert_eq!(label(60, "centered"), None);
    assert_eq!(label(-30, "from-scan"), None);
    assert_eq!(label(-30, "centered"), Some(true));
}

#[test]
fn bad_tables_are_refused_with_row_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(
        folder,
        "phantom --site langone --patients 3 --seed 1 --grid 8 --out c",
    );
    let scans = fs::read_to_string(folder.join("c/scans.csv")).unwrap();
    let put = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();

    put("empty.csv", "");
    let describe = |scans: &str, labels: &str| {
        fail(
            folder,
            &format!("describe --scans {scans} --labels {labels}"),
        )
    };
    put("labels.csv", "scan,patient,ICH\nelsewhere-0,elsewhere,1\n");
    let other = describe("c/scans.csv", "labels.csv");
    let empty_scans = describe("empty.csv", "labels.csv");
    let empty_labels = describe("c/scans.csv", "empty.csv");
    let first = scans.lines().nth(1).unwrap();
    put("twice.csv", &format!("{scans}{first}\n"));
    let twice = describe("twice.csv", "labels.csv");

    fs::create_dir(folder.join("ehr")).unwrap();
    put(
        "ehr/diagnoses.csv",
        "\u{feff}patient,date,code\nlangone-000000,2012-01-31,I61.0\nlangone-000000,01/02/2012,I61.0\n",
    );
    let dates = fail(
        folder,
        "labels --scans c/scans.csv --ehr ehr --out never.csv",
    );
    put(
        "leak.csv",
        "scan,patient,part\ns1,p1,train\ns2,p2,test\ns3,p1,test\n",
    );
    let leak = fail(folder, "split --table c/scans.csv --check leak.csv");

    let last = scans.lines().count() + 1;
    for (error, place) in [
        (&other, "labels.csv row 2 column scan"),
        (&empty_scans, "empty.csv row 1 column 1: the file is empty"),
        (
            &empty_labels,
            "empty.csv: row 1 column 1: the file is empty",
        ),
        (&twice, &format!("twice.csv row {last} column scan")),
        (&dates, "diagnoses.csv row 3 column date"),
        (&leak, "leak.csv row 4 column patient"),
    ] {
        assert!(error.contains(place), "expected {place}: {error}");
    }
    assert!(!folder.join("never.csv").exists());
}
