//! What is repaired on the way to HU, and flagged where it should be known.

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_object::InMemDicomObject;
use site_client::ingest::dicom::{Flag, assemble};
use site_client::ingest::nifti::Voxels;

use super::series::{PIXEL_DATA, SIDE, SLOPE, Series};
use super::{MAX_VOXELS, slices};

const INTERCEPT: Tag = Tag(0x0028, 0x1052);
const BITS_STORED: Tag = Tag(0x0028, 0x0101);
const PADDING: Tag = Tag(0x0028, 0x0120);

#[test]
fn wrapped_12_bit_values_are_unwrapped_and_flagged() {
    // Air, brain and bone in turn; in the wrapped series air of −1000 HU has become 3096.
    let hu = |pixel: usize| [-1000, 35, 1200][pixel % 3];
    let series = Series::new();
    series.write(12, |_, object| {
        let wrapped = |pixel: usize| (hu(pixel) + 4096_i32) as u16 % 4096;
        pixels(object, wrapped);
        number(object, BITS_STORED, 12);
        text(object, INTERCEPT, "0");
    });
    let (voxels, flags) = assembled(&series);
    assert_eq!(flags, [Flag::Wrapped]);
    for (pixel, found) in voxels.iter().enumerate() {
        assert_eq!(i32::from(*found), hu(pixel % (SIDE * SIDE)));
    }
}

#[test]
fn padding_and_what_lies_below_air_become_minus_1024_hu() {
    let series = Series::new();
    series.write(12, |_, object| {
        // Stored 60000 is padding, 0 with an intercept of −2000 is below any air.
        pixels(object, |pixel| [60_000, 0, 2040][pixel % 3]);
        number(object, PADDING, 60_000);
        text(object, INTERCEPT, "-2000");
    });
    let (voxels, flags) = assembled(&series);
    assert_eq!(flags, []);
    assert_eq!(voxels[..3], [-1024, -1024, 40]);
}

#[test]
fn every_slice_has_its_own_rescaling() {
    let series = Series::new();
    series.write(12, |slice, object| {
        pixels(object, |_| 100);
        text(object, SLOPE, if slice < 6 { "1" } else { "2" });
        text(object, INTERCEPT, &format!("{slice}"));
    });
    let (voxels, _) = assembled(&series);
    for (slice, plane) in voxels.chunks(SIDE * SIDE).enumerate() {
        let expected = if slice < 6 { 100 } else { 200 } + slice as i16;
        assert!(plane.iter().all(|hu| *hu == expected), "slice {slice}");
    }
}

fn assembled(series: &Series) -> (Vec<i16>, Vec<Flag>) {
    let found = assemble(slices(series.0.path()), 10, MAX_VOXELS, false).unwrap();
    match found.voxels {
        Voxels::I16(voxels) => (voxels, found.flags),
        Voxels::F32(_) => panic!("these HU are whole"),
    }
}

fn pixels(object: &mut InMemDicomObject, stored: impl Fn(usize) -> u16) {
    let words: Vec<u16> = (0..SIDE * SIDE).map(stored).collect();
    let words = PrimitiveValue::U16(words.into());
    object.put(DataElement::new(PIXEL_DATA, VR::OW, words));
}

fn number(object: &mut InMemDicomObject, tag: Tag, value: u16) {
    object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
}

fn text(object: &mut InMemDicomObject, tag: Tag, value: &str) {
    object.put(DataElement::new(tag, VR::DS, PrimitiveValue::from(value)));
}
