//! Records as hospitals write them: incomplete, mixed, sometimes wrong.

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn read(files: &[(&str, &str)]) -> Result<Records, CohortError> {
    let folder = folder(files);
    let format = RecordFormat::detect(folder.path(), &Mapping::default())?;
    Records::read(folder.path(), format, &Mapping::default())
}

fn count(records: &Records, trouble: Trouble) -> u64 {
    records
        .troubles()
        .get(&trouble)
        .map_or(0, |places| places.count)
}

#[test]
fn plain_records_that_cannot_be_used_are_counted_and_placed() {
    let records = read(&[(
        "diagnoses.csv",
        "patient,date,code,system\np,2024-01-01,I61.0,ICD-10-CM\np,2024-01-01,431,ICD-9-CM\n\
         p,soon,I61.0,ICD-10-CM\n,2024-01-01,I61.0,ICD-10-CM\np,2024-01-02,G912,ICD10\n",
    )])
    .unwrap();
    assert_eq!(records.of("p").len(), 2);
    assert_eq!(count(&records, Trouble::UnknownCodeSystem), 1);
    assert_eq!(count(&records, Trouble::UnparsableDate), 1);
    assert_eq!(count(&records, Trouble::NoPatient), 1);
    let place = &records.troubles()[&Trouble::UnparsableDate].first[0];
    assert!(place.contains("diagnoses.csv row 4 column date"), "{place}");
}

#[test]
fn omop_codes_are_those_of_the_source_concept() {
    let records = read(&[
        ("person.csv", "person_id,person_source_value\n1,p\n2,\n"),
        (
            "concept.csv",
            "concept_id\tconcept_name\tdomain_id\tvocabulary_id\tconcept_code\n\
             100\tIntracerebral hemorrhage\tCondition\tSNOMED\t274100004\n\
             200\tNontraumatic hemorrhage\tCondition\tICD10CM\tI61.0\n300\tmemantine\tDrug\tRxNorm\t6719\n",
        ),
        (
            "condition_occurrence.csv",
            "person_id,condition_concept_id,condition_start_date,condition_source_value,condition_source_concept_id\n\
             1,100,2024-01-01,x,200\n1,100,2024-01-02,I60.9,0\n1,100,2024-01-03,x,0\n9,100,2024-01-03,x,200\n",
        ),
        (
            "drug_exposure.csv",
            "person_id,drug_concept_id,drug_exposure_start_date,drug_source_value\n2,300,2024-01-05,\n",
        ),
    ])
    .unwrap();
    let facts: Vec<&Fact> = records.of("p").iter().map(|(_, fact)| fact).collect();
    assert_eq!(
        facts,
        [&Fact::Code("I61.0".into()), &Fact::Code("I60.9".into())]
    );
    // A person without a source value keeps its number.
    assert_eq!(records.of("2")[0].1, Fact::Medication("memantine".into()));
    assert_eq!(count(&records, Trouble::UnknownCodeSystem), 1);
    assert_eq!(count(&records, Trouble::NoPatient), 1);
}

#[test]
fn fhir_resources_of_both_releases_are_read_and_withdrawn_ones_left_out() {
    let condition = |extra: &str, system: &str, code: &str| {
        format!(
            r#"{{"resourceType":"Condition","subject":{{"reference":"Patient/p"}},{extra}"code":{{"coding":[{{"system":"{system}","code":"{code}"}}]}}}}"#
        )
    };
    let icd = "http://hl7.org/fhir/sid/icd-10-cm";
    let lines = [
        condition(r#""onsetDateTime":"2024-01-01T10:00:00Z","#, icd, "I61.0"),
        condition(r#""recordedDate":"2024-01-02","#, icd, "G912"),
        condition(r#""recordedDate":"2024-01-02","#, "http://snomed.info/sct", "274100004"),
        condition(r#""recordedDate":"2024-01-02","verificationStatus":{"coding":[{"code":"refuted"}]},"#, icd, "I61.0"),
        condition("", icd, "I61.0"),
        r#"{"resourceType":"MedicationRequest","subject":{"reference":"Patient/p"},"authoredOn":"2024-01-03","medication":{"concept":{"text":"Aricept (donepezil)"}}}"#.to_owned(),
        r#"{"resourceType":"MedicationStatement","subject":{"reference":"Patient/p"},"effectivePeriod":{"start":"2024-01-04"},"medicationCodeableConcept":{"coding":[{"display":"memantine 10 mg"}]}}"#.to_owned(),
    ];
    let records = read(&[("all.ndjson", &lines.join("\n"))]).unwrap();
    assert_eq!(records.of("p").len(), 4);
    assert_eq!(count(&records, Trouble::UnknownCodeSystem), 1);
    assert_eq!(count(&records, Trouble::Withdrawn), 1);
    assert_eq!(count(&records, Trouble::UnparsableDate), 1);
}

#[test]
fn broken_files_are_refused_with_row_and_column() {
    for (files, words) in [
        (
            &[("diagnoses.csv", "")][..],
            "row 1 column 1: the file is empty",
        ),
        (
            &[("diagnoses.csv", "patient,day,code\n")][..],
            "no column \"date\"",
        ),
        (
            &[(
                "diagnoses.csv",
                "patient,date,code\np,2024-01-01,I10\np,01/02/2024,I10\n",
            )][..],
            "row 3 column date",
        ),
        (&[("all.ndjson", "{}\n{\n")][..], "all.ndjson row 2 column"),
        (&[("notes.txt", "")][..], "no health records"),
    ] {
        let error = read(files).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_link_renames_patients_and_refuses_a_name_of_two() {
    let mut records = read(&[(
        "diagnoses.csv",
        "patient,date,code\nMRN1,2024-01-01,I61.0\n",
    )])
    .unwrap();
    let links = folder(&[
        // As an import writes it: a row for each scan.
        (
            "mrn.csv",
            "patient,mrn,scan,source\npseudo,MRN1,s1,a\npseudo,MRN1,s2,b\n",
        ),
        ("bad.csv", "patient,record\na,MRN1\nb,MRN1\n"),
    ]);
    records.link(&links.path().join("mrn.csv")).unwrap();
    assert_eq!(records.of("pseudo").len(), 1);
    assert!(records.of("MRN1").is_empty());
    let error = records
        .link(&links.path().join("bad.csv"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("row 3 column record"), "{error}");
}
