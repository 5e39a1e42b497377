//! Broken and hostile DICOM: each file or series is refused with a reason that names attribute, rule
//! and finding; nothing panics, nothing grows.

use std::fs;

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_object::InMemDicomObject;
use site_client::ingest::dicom;

use super::series::{PIXEL_DATA, ROWS, SIDE, SLOPE, Series, deflated, with_data_set};
use super::{MAX_VOXELS, shared};

#[test]
fn a_broken_series_is_refused_with_attribute_rule_and_finding() {
    let last = |change: &dyn Fn(&mut InMemDicomObject)| {
        let series = Series::new();
        series.write(12, |slice, object| {
            if slice == 11 {
                change(object);
            }
        });
        series.refusal()
    };
    let text = |tag, vr, value: &'static str| {
        move |object: &mut InMemDicomObject| {
            object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
        }
    };
    let pixels = |count: usize| {
        move |object: &mut InMemDicomObject| {
            let words = PrimitiveValue::U16(vec![1024; count].into());
            object.put(DataElement::new(PIXEL_DATA, VR::OW, words));
        }
    };
    for (found, code, words) in [
        (
            last(&|object| {
                object.remove_element(PIXEL_DATA);
            }),
            "missing_attribute",
            "PixelData is missing",
        ),
        (
            last(&pixels(SIDE * SIDE - 1)),
            "decode",
            "1023 values, expected at least 1024",
        ),
        (
            last(&|object| {
                object.put(DataElement::new(ROWS, VR::US, PrimitiveValue::from(31_u16)));
            }),
            "inconsistent",
            "Rows, Columns differs between the slices",
        ),
        (
            last(&text(Tag(0x0028, 0x0030), VR::DS, "0\\0.9")),
            "invalid_attribute",
            "PixelSpacing is \"0, 0.9\", expected above 0 mm",
        ),
        (
            last(&text(SLOPE, VR::DS, "nan")),
            "invalid_attribute",
            "RescaleSlope is \"NaN\", expected a finite number",
        ),
        (
            last(&text(SLOPE, VR::DS, "one")),
            "invalid_attribute",
            "RescaleSlope is \"no number\", expected numbers",
        ),
        (
            last(&text(SLOPE, VR::DS, "0")),
            "invalid_attribute",
            "RescaleSlope is \"0\", expected other than 0",
        ),
        (
            last(&text(Tag(0x0020, 0x0032), VR::DS, "1\\2")),
            "invalid_attribute",
            "ImagePositionPatient is \"[1.0, 2.0]\", expected finite numbers",
        ),
        (
            last(&text(Tag(0x0020, 0x0037), VR::DS, "1\\1\\0\\0\\1\\0")),
            "invalid_attribute",
            "ImageOrientationPatient is \"[1.0, 1.0, 0.0]\", expected a unit vector",
        ),
        (
            last(&|object| {
                let bits = PrimitiveValue::from(17_u16);
                object.put(DataElement::new(Tag(0x0028, 0x0101), VR::US, bits));
            }),
            "invalid_attribute",
            "BitsStored, BitsAllocated is \"17 of 16\"",
        ),
    ] {
        assert_eq!(found.reason, code, "{found:?}");
        assert!(found.message.contains(words), "{found:?}");
        assert!(
            found.source.ends_with("11.dcm") || found.files == 12,
            "{found:?}"
        );
    }
    let two = Series::new();
    two.write(2, |_, _| {});
    let refusal = two.refusal();
    assert_eq!(refusal.reason, "too_few_slices");
    assert!(refusal.message.contains("2 slices, expected at least 10"));
}

#[test]
fn a_series_larger_than_the_cap_is_refused_before_a_pixel_is_decoded() {
    let series = Series::new();
    series.write(12, |_, object| {
        for tag in [ROWS, Tag(0x0028, 0x0011)] {
            object.put(DataElement::new(
                tag,
                VR::US,
                PrimitiveValue::from(65_535_u16),
            ));
        }
    });
    let refusal = series.refusal();
    assert_eq!(refusal.reason, "too_large");
    assert!(
        refusal.message.contains("expected at most 1073741824"),
        "{refusal:?}"
    );
}

#[test]
fn a_deflated_bomb_is_refused_and_a_deflated_slice_is_not() {
    let series = Series::new();
    series.write(12, |_, _| {});
    let path = series.path("11.dcm");
    let plain = fs::read(&path).unwrap();
    fs::write(&path, deflated(&plain, &[])).unwrap();
    let whole = series.rejected();
    assert!(
        whole.iter().all(|row| row.reason != "unreadable"),
        "the series is a cube, no head, but it is read: {whole:?}"
    );

    // 64 MiB of zeros in a private element in front of the pixels.
    let bomb = [
        &[0x09, 0, 0x10, 0x10][..],
        b"OB\0\0",
        &(64_u32 << 20).to_le_bytes(),
        &vec![0; 64 << 20],
    ]
    .concat();
    fs::write(&path, deflated(&plain, &bomb)).unwrap();
    let refusal = series.refused_file("11.dcm");
    assert_eq!(refusal.reason, "unreadable");
    assert!(
        refusal.message.contains("grows more than 100-fold"),
        "{refusal:?}"
    );
}

#[test]
fn sequences_in_sequences_without_end_are_refused() {
    let series = Series::new();
    series.write(12, |_, _| {});
    let path = series.path("11.dcm");
    let plain = fs::read(&path).unwrap();
    // (0008,1140) of undefined length, holding one item of undefined length, holding …
    let level = [
        &[8, 0, 0x40, 0x11][..],
        b"SQ\0\0",
        &[0xFF; 4],
        &[0xFE, 0xFF, 0, 0xE0],
        &[0xFF; 4],
    ];
    for depth in [20, 40, 1_000_000] {
        let nested = level.concat().repeat(depth);
        fs::write(&path, with_data_set(&plain, |_| nested)).unwrap();
        let refusal = series.refused_file("11.dcm");
        assert_eq!(refusal.reason, "unreadable", "{depth}: {refusal:?}");
        let limited = refusal.message.contains("nested more than 32 deep");
        assert_eq!(limited, depth > 32, "{depth}: {refusal:?}");
    }
}

#[test]
fn a_value_is_believed_only_if_its_bytes_are_there() {
    let series = Series::new();
    series.write(12, |_, _| {});
    let path = series.path("11.dcm");
    let plain = fs::read(&path).unwrap();
    let private =
        |length: u32| [&[9, 0, 0x10, 0x10][..], b"OB\0\0", &length.to_le_bytes()].concat();
    for length in [4_000, u32::MAX - 1] {
        let broken = with_data_set(&plain, |_| [private(length), vec![0; 100]].concat());
        fs::write(&path, broken).unwrap();
        let refusal = series.refused_file("11.dcm");
        assert_eq!(refusal.reason, "unreadable", "{refusal:?}");
        let said = match length {
            4_000 => "(0009,1010): 4000 bytes promised, 100 found",
            _ => "values of more than 67108864 bytes",
        };
        assert!(refusal.message.contains(said), "{refusal:?}");
    }
}

#[test]
fn a_description_of_endless_elements_is_refused() {
    let series = Series::new();
    series.write(12, |_, _| {});
    let path = series.path("11.dcm");
    let plain = fs::read(&path).unwrap();
    let empty = [&[9, 0, 0x10, 0x10][..], b"LO\0\0"].concat();
    fs::write(&path, with_data_set(&plain, |_| empty.repeat(300_000))).unwrap();
    let refusal = series.refused_file("11.dcm");
    assert_eq!(refusal.reason, "unreadable", "{refusal:?}");
    assert!(
        refusal.message.contains("more than 262144 elements"),
        "{refusal:?}"
    );
}

#[test]
fn a_lossless_jpeg_with_restart_markers_is_refused_by_name() {
    let images = "cornerstone3D/packages/dicomImageLoader/testImages";
    let name = "CTImage.dcm_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm";
    let Some(path) = shared(&format!("{images}/{name}")) else {
        return;
    };
    let mut bytes = fs::read(path).unwrap();
    // The fragment's item tag and length, then the picture's start marker.
    let is_start = |b: &[u8]| b[..4] == [0xFE, 0xFF, 0, 0xE0] && b[8..] == [0xFF, 0xD8];
    let at = bytes.windows(10).position(is_start).unwrap();
    let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) + 6;
    bytes[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
    bytes.splice(at + 10..at + 10, [0xFF, 0xDD, 0, 4, 0, 64]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slice.dcm");
    fs::write(&path, &bytes).unwrap();
    let slices = dicom::read_slices(&path).unwrap();
    // One slice is no volume: a second one above lends it a third axis.
    let mut above = slices[0].clone();
    above.position[2] += 5.0;
    let both = vec![slices[0].clone(), above];
    let refusal = dicom::assemble(both, 2, MAX_VOXELS, false).unwrap_err();
    assert_eq!(refusal.code(), "transfer_syntax");
    let said = refusal.to_string();
    assert!(
        said.contains("JPEG lossless with restart markers"),
        "{said}"
    );
}
