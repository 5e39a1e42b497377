//! A small CT series, to be changed and broken.

use std::io::Write;
use std::path::{Path, PathBuf};

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use site_client::ingest::dicom::Filter;
use site_client::ingest::import::{Import, Rejected, dicom_tree};

pub(super) const PIXEL_DATA: Tag = Tag(0x7fe0, 0x0010);
pub(super) const ROWS: Tag = Tag(0x0028, 0x0010);
pub(super) const SLOPE: Tag = Tag(0x0028, 0x1053);

/// Pixels a side.
pub(super) const SIDE: usize = 32;

/// A cube of air as a CT series.
pub(super) struct Series(pub(super) tempfile::TempDir);

impl Series {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn write(&self, slices: usize, change: impl Fn(usize, &mut InMemDicomObject)) {
        for slice in 0..slices {
            let mut object = slice_object(slice);
            change(slice, &mut object);
            let meta = FileMetaTableBuilder::new()
                .transfer_syntax("1.2.840.10008.1.2.1")
                .media_storage_sop_class_uid("1.2.840.10008.5.1.4.1.1.2")
                .media_storage_sop_instance_uid(format!("1.2.3.{slice}"));
            let file = object.with_meta(meta).unwrap();
            file.write_to_file(self.path(&format!("{slice:02}.dcm")))
                .unwrap();
        }
    }

    pub(super) fn rejected(&self) -> Vec<Rejected> {
        let cohort = tempfile::tempdir().unwrap();
        let import = Import {
            filter: Filter {
                min_slices: 10,
                ..Filter::none()
            },
            ..Import::default()
        };
        let summary = dicom_tree(self.0.path(), cohort.path(), &import, |_| {}).unwrap();
        assert!(summary.scans.is_empty());
        summary.rejected
    }

    /// Why the broken slice, or the series with it, was refused.
    pub(super) fn refusal(&self) -> Rejected {
        self.rejected().swap_remove(0)
    }

    pub(super) fn refused_file(&self, name: &str) -> Rejected {
        let mut rows = self.rejected().into_iter();
        rows.find(|row| row.source == Path::new(name)).unwrap()
    }
}

fn slice_object(slice: usize) -> InMemDicomObject {
    let mut object = InMemDicomObject::new_empty();
    for (group, element, vr, value) in [
        (
            0x0008,
            0x0016,
            VR::UI,
            "1.2.840.10008.5.1.4.1.1.2".to_owned(),
        ),
        (0x0008, 0x0060, VR::CS, "CT".to_owned()),
        (0x0010, 0x0020, VR::LO, "somebody".to_owned()),
        (0x0018, 0x0050, VR::DS, "5".to_owned()),
        (0x0020, 0x000e, VR::UI, "1.2.3".to_owned()),
        (0x0020, 0x0013, VR::IS, slice.to_string()),
        (0x0020, 0x0032, VR::DS, format!("0\\0\\{}", 5 * slice)),
        (0x0020, 0x0037, VR::DS, "1\\0\\0\\0\\1\\0".to_owned()),
        (0x0028, 0x0030, VR::DS, "0.9\\0.9".to_owned()),
        (0x0028, 0x1052, VR::DS, "-1024".to_owned()),
        (0x0028, 0x1053, VR::DS, "1".to_owned()),
    ] {
        let value = PrimitiveValue::from(value);
        object.put(DataElement::new(Tag(group, element), vr, value));
    }
    for (element, value) in [
        (0x0002, 1),
        (0x0010, SIDE as u16),
        (0x0011, SIDE as u16),
        (0x0100, 16),
        (0x0101, 16),
        (0x0103, 0),
    ] {
        let value = PrimitiveValue::from(value);
        object.put(DataElement::new(Tag(0x0028, element), VR::US, value));
    }
    let words = PrimitiveValue::U16(vec![24; SIDE * SIDE].into());
    object.put(DataElement::new(PIXEL_DATA, VR::OW, words));
    object
}

/// The same file with another data set.
pub(super) fn with_data_set(file: &[u8], change: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    // Preamble and magic, then (0002,0000) with the length of the rest of the meta group.
    let length = u32::from_le_bytes(file[140..144].try_into().unwrap());
    let (meta, data) = file.split_at(144 + length as usize);
    [meta, &change(data)].concat()
}

/// The same file with `before` in front of its elements, deflated.
pub(super) fn deflated(file: &[u8], before: &[u8]) -> Vec<u8> {
    let explicit = b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0";
    let at = file
        .windows(28)
        .position(|bytes| bytes == explicit)
        .unwrap();
    let mut file = with_data_set(file, |data| {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(before).unwrap();
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    });
    let syntax = *b"\x02\0\x10\0UI\x16\x001.2.840.10008.1.2.1.99";
    file.splice(at..at + 28, syntax);
    let length = u32::from_le_bytes(file[140..144].try_into().unwrap()) + 2;
    file[140..144].copy_from_slice(&length.to_le_bytes());
    file
}
