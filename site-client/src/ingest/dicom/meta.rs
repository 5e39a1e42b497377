use std::io::{self, Cursor, Read};

use super::guard::Inflate;

/// The stream of a DICOM file, its meta group mended where widespread software breaks a rule that
/// the parser insists on: application titles longer than 16 bytes are left out. A deflated data set
/// is inflated within limits, and its group says so.
///
/// Returns nothing if the stream does not begin as a DICOM file does.
pub(super) fn mended<'a>(mut file: impl Read + 'a) -> io::Result<Option<Box<dyn Read + 'a>>> {
    let mut start = Vec::new();
    file.by_ref()
        .take(GROUP_START as u64)
        .read_to_end(&mut start)?;
    if start.get(PREAMBLE..PREAMBLE + 4) != Some(b"DICM") {
        return Ok(None);
    }
    let mut group = Vec::new();
    let mut deflated = false;
    if let Some(&[a, b, c, d]) = start.get(GROUP_START - 4..)
        && start[PREAMBLE + 4..].starts_with(&GROUP_LENGTH)
    {
        let length = u32::from_le_bytes([a, b, c, d]).min(MAX_GROUP);
        file.by_ref().take(length.into()).read_to_end(&mut group)?;
        // The parser would reserve whatever length an element claims.
        let walked = rewritten(&group).filter(|_| group.len() == length as usize);
        (group, deflated) = walked.ok_or_else(|| {
            let rule = "meta group: its elements do not fill its length";
            io::Error::new(io::ErrorKind::InvalidData, rule)
        })?;
        start[GROUP_START - 4..].copy_from_slice(&(group.len() as u32).to_le_bytes());
    }
    let head = Cursor::new(start).chain(Cursor::new(group));
    let whole: Box<dyn Read + 'a> = if deflated {
        Box::new(head.chain(Inflate::new(file)))
    } else {
        Box::new(head.chain(file))
    };
    Ok(Some(whole))
}

/// Drops the application titles (0002,0016) to (0002,0018) that are too long, and replaces the
/// deflated transfer syntax (0002,0010) by the plain one. Returns whether the data set is deflated,
/// or nothing if the group ends within an element.
fn rewritten(group: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut kept = Vec::with_capacity(group.len());
    let mut deflated = false;
    let mut rest = group;
    while let &[g0, g1, e0, e1, v0, v1, l0, l1, ..] = rest {
        let long_form = LONG_FORM.contains(&&[v0, v1]);
        let size = if long_form {
            let &[a, b, c, d] = rest.get(8..12)? else {
                return None;
            };
            12_usize.saturating_add(u32::from_le_bytes([a, b, c, d]) as usize)
        } else {
            8 + usize::from(u16::from_le_bytes([l0, l1]))
        };
        let element = rest.get(..size)?;
        let title = [g0, g1] == [2, 0] && matches!([e0, e1], [0x16..=0x18, 0]);
        if element == DEFLATED {
            deflated = true;
            kept.extend_from_slice(&INFLATED);
        } else if !(title && size > 8 + LONGEST_TITLE) {
            kept.extend_from_slice(element);
        }
        rest = &rest[size..];
    }
    rest.is_empty().then_some((kept, deflated))
}

/// Bytes before the letters DICM.
const PREAMBLE: usize = 128;

/// After the letters: (0002,0000) UL of 4 bytes, then its value.
const GROUP_LENGTH: [u8; 8] = [2, 0, 0, 0, b'U', b'L', 4, 0];
const GROUP_START: usize = PREAMBLE + 4 + GROUP_LENGTH.len() + 4;

/// Value representations with a length of four bytes (PS3.5 7.1.2).
const LONG_FORM: [&[u8; 2]; 13] = [
    b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV",
];

/// No meta group is larger.
const MAX_GROUP: u32 = 1 << 16;

/// The transfer syntax of a deflated data set, and of the same inflated: explicit, little endian.
const DEFLATED: [u8; 30] = *b"\x02\0\x10\0UI\x16\x001.2.840.10008.1.2.1.99";
const INFLATED: [u8; 28] = *b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0";

/// Of a value representation AE (PS3.5 6.2).
const LONGEST_TITLE: usize = 16;
