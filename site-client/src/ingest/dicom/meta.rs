use std::io::{self, Cursor, Read};

/// The stream of a DICOM file, its meta group mended where widespread software breaks a rule that
/// the parser insists on: application titles longer than 16 bytes are left out.
///
/// Returns nothing if the stream does not begin as a DICOM file does.
pub(super) fn mended<R: Read>(mut file: R) -> io::Result<Option<impl Read>> {
    let mut start = Vec::new();
    file.by_ref()
        .take(GROUP_START as u64)
        .read_to_end(&mut start)?;
    if start.get(PREAMBLE..PREAMBLE + 4) != Some(b"DICM") {
        return Ok(None);
    }
    let length = match start.get(GROUP_START - 4..) {
        Some(&[a, b, c, d]) if start[PREAMBLE + 4..].starts_with(&GROUP_LENGTH) => {
            u32::from_le_bytes([a, b, c, d]).min(MAX_GROUP)
        }
        _ => 0,
    };
    let mut group = Vec::new();
    file.by_ref().take(length.into()).read_to_end(&mut group)?;
    if group.len() == length as usize && length > 0 {
        group = without_long_titles(&group);
        start[GROUP_START - 4..].copy_from_slice(&(group.len() as u32).to_le_bytes());
    }
    Ok(Some(
        Cursor::new(start).chain(Cursor::new(group)).chain(file),
    ))
}

/// Drops the application titles (0002,0016) to (0002,0018) that are too long; whatever cannot be
/// walked stays as it is, for the parser to refuse.
fn without_long_titles(group: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(group.len());
    let mut rest = group;
    while let &[g0, g1, e0, e1, v0, v1, l0, l1, ..] = rest {
        let long_form = [b"OB", b"UN", b"OW", b"SQ", b"UT"].contains(&&[v0, v1]);
        let size = if long_form {
            let Some(&[a, b, c, d]) = rest.get(8..12) else {
                break;
            };
            12_usize.saturating_add(u32::from_le_bytes([a, b, c, d]) as usize)
        } else {
            8 + usize::from(u16::from_le_bytes([l0, l1]))
        };
        let Some(element) = rest.get(..size) else {
            break;
        };
        let title = [g0, g1] == [2, 0] && matches!([e0, e1], [0x16..=0x18, 0]);
        if !(title && size > 8 + LONGEST_TITLE) {
            kept.extend_from_slice(element);
        }
        rest = &rest[size..];
    }
    kept.extend_from_slice(rest);
    kept
}

/// Bytes before the letters DICM.
const PREAMBLE: usize = 128;

/// After the letters: (0002,0000) UL of 4 bytes, then its value.
const GROUP_LENGTH: [u8; 8] = [2, 0, 0, 0, b'U', b'L', 4, 0];
const GROUP_START: usize = PREAMBLE + 4 + GROUP_LENGTH.len() + 4;

/// No meta group is larger; one that says so is left to the parser.
const MAX_GROUP: u32 = 1 << 16;

/// Of a value representation AE (PS3.5 6.2).
const LONGEST_TITLE: usize = 16;
