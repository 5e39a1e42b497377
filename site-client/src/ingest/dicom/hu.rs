use super::Slice;

/// Turns stored values into HU: rescaling, then −1024 for padding and whatever lies below air.
pub(super) fn to_hu(stored: Vec<i32>, slice: &Slice) -> Vec<f32> {
    let rescale = |value: i32| (slice.slope * f64::from(value) + slice.intercept) as f32;
    let padding = slice.coding.padding.map(|value| {
        let limit = slice.coding.padding_limit.unwrap_or(value);
        value.min(limit)..=value.max(limit)
    });
    let hu = |value: i32| {
        if padding
            .as_ref()
            .is_some_and(|padding| padding.contains(&value))
        {
            OUTSIDE_HU
        } else {
            rescale(value).max(OUTSIDE_HU)
        }
    };
    stored.into_iter().map(hu).collect()
}

/// Repairs the known class of 12-bit slices whose air has wrapped to the top: written unsigned with
/// an intercept near 0, so that −1000 became 3096. Returns whether the slice was one.
pub(super) fn unwrap_12_bit(stored: &mut [i32], slice: &mut Slice) -> bool {
    let suspect = slice.coding.bits_stored == 12
        && !slice.coding.signed
        && slice.slope == 1.0
        && slice.intercept > WRAPPED_INTERCEPT;
    let wrapped = stored
        .iter()
        .filter(|&&value| value >= WRAP - SHIFT)
        .count();
    if !suspect || wrapped * WRAPPED_SHARE < stored.len() {
        return false;
    }
    for value in stored {
        *value = (*value + SHIFT) % WRAP;
    }
    slice.intercept = f64::from(-SHIFT);
    true
}

/// Air, and everything that was not measured.
pub(super) const OUTSIDE_HU: f32 = -1024.0;

const WRAPPED_INTERCEPT: f64 = -100.0;
const WRAP: i32 = 4096;
const SHIFT: i32 = 1000;

/// One in this many voxels must be wrapped air: any head CT has more, no bone reaches so far.
const WRAPPED_SHARE: usize = 50;
