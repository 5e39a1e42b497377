//! The row of `scans.csv` that describes a scan.

use jiff::civil::{Date, DateTime, Time};

use super::dicom::{Assembled, Flag, Slice};
use super::nifti::Voxels;
use super::pseudonym::Pseudonyms;
use crate::scans::Scan;

/// For a DICOM series.
pub(super) fn scan(
    pseudonyms: &Pseudonyms,
    series: &str,
    slice: &Slice,
    volume: &Assembled,
) -> Scan {
    // Without an identifier each series is a patient of its own.
    let identifier = if slice.patient.id.is_empty() {
        series
    } else {
        &slice.patient.id
    };
    let tags = &slice.acquisition;
    Scan {
        patient: pseudonyms.patient(identifier),
        study_time: study_time(tags.study_date.as_deref(), tags.study_time.as_deref()),
        age_years: slice.patient.age.as_deref().and_then(age_years),
        sex: slice
            .patient
            .sex
            .clone()
            .filter(|sex| ["F", "M", "O"].contains(&sex.as_str())),
        manufacturer: tags.manufacturer.clone(),
        model: tags.model.clone(),
        kernel: tags.kernel.clone(),
        kvp: tags.kvp,
        thickness_mm: slice.thickness_mm.map(|mm| mm as f32),
        body_part: tags.body_part.clone(),
        contrast: Some(tags.contrast),
        ..geometry(pseudonyms.scan(series), volume)
    }
}

/// For a NIfTI file, which says nothing but its geometry.
pub(super) fn nifti_scan(
    pseudonyms: &Pseudonyms,
    name: &str,
    patient: &str,
    volume: &Assembled,
) -> Scan {
    Scan {
        patient: pseudonyms.patient(patient),
        ..geometry(pseudonyms.scan(name), volume)
    }
}

fn geometry(scan: String, volume: &Assembled) -> Scan {
    let spacing = volume.affine.spacing().map(|mm| mm as f32);
    Scan {
        file: format!("nifti/{scan}.nii.gz").into(),
        scan,
        patient: String::new(),
        study_time: None,
        age_years: None,
        sex: None,
        manufacturer: None,
        model: None,
        kernel: None,
        kvp: None,
        thickness_mm: None,
        spacing_x_mm: spacing[0],
        spacing_y_mm: spacing[1],
        spacing_z_mm: spacing[2],
        rows: volume.shape[1],
        columns: volume.shape[0],
        slices: volume.shape[2],
        body_part: None,
        contrast: None,
        flags: volume
            .flags
            .iter()
            .map(|flag: &Flag| flag.name())
            .collect::<Vec<_>>()
            .join(";"),
        digest: digest(volume),
    }
}

fn digest(volume: &Assembled) -> String {
    let mut hasher = blake3::Hasher::new();
    for value in volume.affine.rows().as_flattened() {
        hasher.update(&value.to_le_bytes());
    }
    match &volume.voxels {
        Voxels::I16(hu) => hasher.update(bytemuck::cast_slice(hu)),
        Voxels::F32(hu) => hasher.update(bytemuck::cast_slice(hu)),
    };
    hasher.finalize().to_hex().to_string()
}

/// DICOM's `YYYYMMDD` and `HHMMSS.ffffff`.
fn study_time(date: Option<&str>, time: Option<&str>) -> Option<DateTime> {
    let number = |text: &str, at: usize, len: usize| text.get(at..at + len)?.parse::<i16>().ok();
    let date = date?;
    let short = |text: &str, at: usize| i8::try_from(number(text, at, 2)?).ok();
    let date = Date::new(number(date, 0, 4)?, short(date, 4)?, short(date, 6)?).ok()?;
    let time = time.and_then(|time| {
        let part = |at| short(time, at).unwrap_or(0);
        Time::new(part(0), part(2), part(4), 0).ok()
    });
    Some(date.to_datetime(time.unwrap_or(Time::midnight())))
}

/// DICOM's `nnnY`, `nnnM`, `nnnW`, `nnnD`.
fn age_years(age: &str) -> Option<f32> {
    let (number, unit) = age.split_at_checked(3)?;
    let number: f32 = number.parse().ok()?;
    let per_year = match unit {
        "Y" => 1.0,
        "M" => 12.0,
        "W" => 52.18,
        "D" => 365.25,
        _ => return None,
    };
    Some(number / per_year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dicom_ages_and_times_are_read_and_nonsense_is_none() {
        assert_eq!(age_years("060Y"), Some(60.0));
        assert_eq!(age_years("018M"), Some(1.5));
        assert_eq!(age_years("60"), None);
        let time = study_time(Some("20150206"), Some("092815.672")).unwrap();
        assert_eq!(time.to_string(), "2015-02-06T09:28:15");
        assert_eq!(study_time(Some("20151340"), None), None);
    }
}
