//! A phantom's scan as a DICOM series: one CT image per slice, as a scanner stores them.

use std::error::Error;
use std::path::Path;

use core_model::phantom::{Acquisition, Grid};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

use super::{Chart, Visit, sex};

const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";
const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// HU of a stored zero.
const INTERCEPT: f32 = -1024.0;

/// One scan to be stored.
pub(super) struct Series<'a> {
    pub(super) chart: &'a Chart,
    pub(super) visit: &'a Visit,
    pub(super) acquisition: &'a Acquisition,
    pub(super) grid: &'a Grid,
}

impl Series<'_> {
    /// Writes `0001.dcm` and so on, from the feet upward.
    pub(super) fn write(
        &self,
        folder: &Path,
        voxels_hu: &[f32],
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let slices = self.grid.shape()[2];
        for slice in 0..slices {
            let instance = self.uid(&format!("image {slice}"));
            let mut object = self.header(&instance, slice);
            let words: Vec<u16> = self.pixels(slice, voxels_hu).collect();
            object.put(DataElement::new(
                Tag(0x7fe0, 0x0010),
                VR::OW,
                PrimitiveValue::U16(words.into()),
            ));
            let meta = FileMetaTableBuilder::new()
                .transfer_syntax(EXPLICIT_LITTLE_ENDIAN)
                .media_storage_sop_class_uid(CT_IMAGE_STORAGE)
                .media_storage_sop_instance_uid(&instance);
            let file = object.with_meta(meta)?;
            file.write_to_file(folder.join(format!("{:04}.dcm", slice + 1)))?;
        }
        Ok(())
    }

    fn header(&self, instance: &str, slice: usize) -> InMemDicomObject {
        let Self {
            chart,
            visit,
            acquisition,
            grid,
        } = self;
        let machine = &acquisition.machine;
        let [columns, rows, _] = grid.shape();
        let [across, down, along] = grid.spacing_mm();
        let affine = grid.affine();
        // DICOM's x grows to the left and y to the back; a row runs from the patient's right, the
        // last index of axis 0, and rows from the front, the last of axis 1.
        let lps = |v: [f64; 3]| [-v[0], -v[1], v[2]];
        let column = |axis: usize| [affine[0][axis], affine[1][axis], affine[2][axis]];
        let scaled = |v: [f64; 3], factor: f64| v.map(|x| x * factor);
        let first = [columns as f64 - 1.0, rows as f64 - 1.0, slice as f64];
        let position = lps([0, 1, 2].map(|axis: usize| {
            let row = affine[axis];
            row[0] * first[0] + row[1] * first[1] + row[2] * first[2] + row[3]
        }));
        let row_direction = lps(scaled(column(0), -1.0 / f64::from(across)));
        let column_direction = lps(scaled(column(1), -1.0 / f64::from(down)));
        let orientation = [row_direction, column_direction].concat();
        let date = visit.time.strftime("%Y%m%d").to_string();
        let time = visit.time.strftime("%H%M%S").to_string();

        let mut object = InMemDicomObject::new_empty();
        let mut text = |group: u16, element: u16, vr: VR, value: String| {
            object.put(DataElement::new(
                Tag(group, element),
                vr,
                PrimitiveValue::from(value),
            ));
        };
        text(0x0008, 0x0008, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL".into());
        text(0x0008, 0x0016, VR::UI, CT_IMAGE_STORAGE.into());
        text(0x0008, 0x0018, VR::UI, instance.into());
        text(0x0008, 0x0020, VR::DA, date.clone());
        text(0x0008, 0x0022, VR::DA, date);
        text(0x0008, 0x0030, VR::TM, time.clone());
        text(0x0008, 0x0032, VR::TM, time);
        text(0x0008, 0x0060, VR::CS, "CT".into());
        text(0x0008, 0x0070, VR::LO, machine.manufacturer.clone());
        text(
            0x0008,
            0x1030,
            VR::LO,
            "CT HEAD WO CONTRAST (SIMULATED)".into(),
        );
        text(
            0x0008,
            0x103e,
            VR::LO,
            format!("HEAD {} {}", along, machine.kernel),
        );
        text(0x0008, 0x1090, VR::LO, machine.model.clone());
        text(0x0010, 0x0010, VR::PN, format!("PHANTOM^{}", chart.name));
        text(0x0010, 0x0020, VR::LO, chart.name.clone());
        text(0x0010, 0x0040, VR::CS, sex(chart.patient.sex()).into());
        text(
            0x0010,
            0x1010,
            VR::AS,
            format!("{:03}Y", chart.patient.age()),
        );
        text(0x0018, 0x0015, VR::CS, "HEAD".into());
        text(
            0x0018,
            0x0050,
            VR::DS,
            number(f64::from(acquisition.thickness_mm)),
        );
        text(0x0018, 0x0060, VR::DS, machine.kvp.to_string());
        text(
            0x0018,
            0x1120,
            VR::DS,
            number(f64::from(acquisition.tilt_deg)),
        );
        text(0x0018, 0x1210, VR::SH, machine.kernel.clone());
        text(0x0018, 0x5100, VR::CS, "HFS".into());
        text(0x0020, 0x000d, VR::UI, self.uid("study"));
        text(0x0020, 0x000e, VR::UI, self.uid("series"));
        text(0x0020, 0x0010, VR::SH, visit.number.to_string());
        text(0x0020, 0x0011, VR::IS, "2".into());
        text(0x0020, 0x0013, VR::IS, (slice + 1).to_string());
        text(0x0020, 0x0032, VR::DS, numbers(&position));
        text(0x0020, 0x0037, VR::DS, numbers(&orientation));
        text(0x0020, 0x0052, VR::UI, self.uid("frame of reference"));
        text(0x0028, 0x0004, VR::CS, "MONOCHROME2".into());
        text(
            0x0028,
            0x0030,
            VR::DS,
            numbers(&[f64::from(down), f64::from(across)]),
        );
        text(0x0028, 0x1050, VR::DS, "40".into());
        text(0x0028, 0x1051, VR::DS, "80".into());
        text(0x0028, 0x1052, VR::DS, number(f64::from(INTERCEPT)));
        text(0x0028, 0x1053, VR::DS, "1".into());
        text(0x0028, 0x1054, VR::LO, "HU".into());
        let sizes = [rows, columns].map(|n| u16::try_from(n).unwrap_or(u16::MAX));
        for (element, value) in [
            (0x0002, 1),
            (0x0010, sizes[0]),
            (0x0011, sizes[1]),
            (0x0100, 16),
            (0x0101, 12),
            (0x0102, 11),
            (0x0103, 0),
        ] {
            object.put(DataElement::new(
                Tag(0x0028, element),
                VR::US,
                PrimitiveValue::from(value),
            ));
        }
        object
    }

    /// Stored values, rows from the front, columns from the patient's right.
    fn pixels(&self, slice: usize, voxels_hu: &[f32]) -> impl Iterator<Item = u16> {
        let [columns, rows, slices] = self.grid.shape();
        (0..rows).rev().flat_map(move |j| {
            (0..columns).rev().map(move |i| {
                let hu = voxels_hu[(i * rows + j) * slices + slice];
                // Twelve bits, as the header says.
                (hu - INTERCEPT).round().clamp(0.0, 4095.0) as u16
            })
        })
    }

    /// A UID under 2.25, from the scan's name: the same for the same scan.
    fn uid(&self, what: &str) -> String {
        let digest = blake3::hash(format!("{}/{what}", self.visit.scan).as_bytes());
        let mut low = [0; 16];
        low.copy_from_slice(&digest.as_bytes()[..16]);
        format!("2.25.{}", u128::from_le_bytes(low))
    }
}

/// A decimal string of at most 16 characters.
fn number(value: f64) -> String {
    let text = format!("{value:.8}");
    text.trim_end_matches('0')
        .trim_end_matches('.')
        .chars()
        .take(16)
        .collect()
}

fn numbers(values: &[f64]) -> String {
    values
        .iter()
        .map(|&value| number(value))
        .collect::<Vec<_>>()
        .join("\\")
}
