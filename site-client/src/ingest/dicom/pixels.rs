use std::borrow::Cow;
use std::path::Path;

use dicom_object::DefaultDicomObject;
use dicom_pixeldata::PixelDecoder;
use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

use super::open::{Origin, Part, first_line, open};
use super::{Reason, Slice, tags};

/// Decodes the stored values of some slices of one file, in the order given. The file may hold
/// `max_voxels`.
pub(super) fn decode_file(
    path: &Path,
    slices: &[&Slice],
    max_voxels: usize,
) -> Result<Vec<Vec<i32>>, Reason> {
    let object = open(Origin::File(path), Part::Whole { max_voxels })?;
    slices.iter().map(|slice| decode(&object, slice)).collect()
}

fn decode(object: &DefaultDicomObject, slice: &Slice) -> Result<Vec<i32>, Reason> {
    let uid = object.meta().transfer_syntax().trim_end_matches('\0');
    let words = match uid {
        IMPLICIT_LE | EXPLICIT_LE | EXPLICIT_BE => native(object, slice)?,
        "1.2.840.10008.1.2.4.57" | "1.2.840.10008.1.2.4.70" => {
            refuse_restart_markers(&coded(object, slice.frame)?)?;
            library(object, slice)?
        }
        RLE | "1.2.840.10008.1.2.4.50" | "1.2.840.10008.1.2.4.51" => library(object, slice)?,
        "1.2.840.10008.1.2.4.90" | "1.2.840.10008.1.2.4.91" => {
            return jpeg_2000(&coded(object, slice.frame)?, slice);
        }
        _ => {
            return Err(Reason::TransferSyntax {
                name: transfer_syntax_name(uid),
                uid: uid.to_owned(),
            });
        }
    };
    Ok(words.into_iter().map(|word| value(word, slice)).collect())
}

/// Uncompressed words; the parser has brought them to native byte order.
fn native(object: &DefaultDicomObject, slice: &Slice) -> Result<Vec<u16>, Reason> {
    let element = object.get(tags::PIXEL_DATA).ok_or(Reason::Missing {
        attribute: "PixelData",
    })?;
    let pixels = slice.size[0] * slice.size[1];
    let first = pixels * slice.frame as usize;
    let too_short = |found: usize| Reason::Decode {
        problem: format!("{found} values, expected at least {}", first + pixels),
    };
    let primitive = element.value().primitive().ok_or_else(|| Reason::Decode {
        problem: "fragments in an uncompressed object".into(),
    })?;
    if slice.coding.bits_allocated == 8 {
        let bytes = primitive.to_bytes();
        let frame = bytes
            .get(first..first + pixels)
            .ok_or_else(|| too_short(bytes.len()))?;
        return Ok(frame.iter().map(|&b| b.into()).collect());
    }
    if let Ok(words) = primitive.uint16_slice() {
        let frame = words
            .get(first..first + pixels)
            .ok_or_else(|| too_short(words.len()))?;
        return Ok(frame.to_vec());
    }
    let bytes = primitive.to_bytes();
    let frame = bytes
        .get(2 * first..2 * (first + pixels))
        .ok_or_else(|| too_short(bytes.len() / 2))?;
    Ok(frame
        .chunks_exact(2)
        .map(|b| u16::from_le_bytes([b[0], b[1]]))
        .collect())
}

/// RLE and JPEG by dicom-rs.
fn library(object: &DefaultDicomObject, slice: &Slice) -> Result<Vec<u16>, Reason> {
    refuse_other_size(&coded(object, slice.frame)?, slice)?;
    let decoded = object
        .decode_pixel_data_frame(slice.frame)
        .map_err(|error| Reason::Decode {
            problem: first_line(&error),
        })?;
    let pixels = slice.size[0] * slice.size[1];
    let data = decoded.data();
    let words: Vec<u16> = if data.len() == pixels {
        data.iter().map(|&b| b.into()).collect()
    } else {
        data.chunks_exact(2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]))
            .collect()
    };
    if words.len() == pixels {
        return Ok(words);
    }
    let problem = format!("{} bytes decoded for {pixels} pixels", data.len());
    Err(Reason::Decode { problem })
}

fn jpeg_2000(codestream: &[u8], slice: &Slice) -> Result<Vec<i32>, Reason> {
    let problem = |problem: String| Reason::Decode { problem };
    let image = Image::new(codestream, &DecodeSettings::default())
        .map_err(|error| problem(format!("JPEG 2000: {error:?}")))?;
    let found = [image.height() as usize, image.width() as usize];
    if found != slice.size {
        return Err(problem(format!(
            "{found:?} pixels in the picture, {:?} promised",
            slice.size
        )));
    }
    let mut context = DecoderContext::default();
    let decoded = image
        .decode(&mut context)
        .map_err(|error| problem(format!("JPEG 2000: {error:?}")))?;
    let [component] = decoded.components() else {
        return Err(problem("JPEG 2000: more than one component".into()));
    };
    let shift = wrong_level_shift(codestream)?;
    Ok(component
        .samples()
        .iter()
        .take(found[0] * found[1])
        .map(|&x| value((x.round() as i32 - shift) as u16, slice))
        .collect())
}

/// What the decoder adds to signed components although T.800 (Annex G.1) shifts unsigned ones only.
fn wrong_level_shift(codestream: &[u8]) -> Result<i32, Reason> {
    match (
        codestream.starts_with(&CODESTREAM),
        codestream.get(COMPONENT_PRECISION),
    ) {
        (true, Some(&precision)) if precision & SIGNED != 0 => Ok(1 << (precision & 0x1F)),
        (true, Some(_)) => Ok(0),
        _ => Err(Reason::Decode {
            problem: "JPEG 2000: not a plain codestream".into(),
        }),
    }
}

/// Keeps the stored bits and their sign.
fn value(word: u16, slice: &Slice) -> i32 {
    let unused = 16 - u32::from(slice.coding.bits_stored);
    if slice.coding.signed {
        i32::from((word << unused).cast_signed() >> unused)
    } else {
        i32::from((word << unused) >> unused)
    }
}

/// The compressed bytes of a frame: all fragments of a single one, else one fragment for each.
fn coded(object: &DefaultDicomObject, frame: u32) -> Result<Cow<'_, [u8]>, Reason> {
    let fragments = object
        .get(tags::PIXEL_DATA)
        .ok_or(Reason::Missing {
            attribute: "PixelData",
        })?
        .value()
        .fragments()
        .ok_or_else(|| Reason::Decode {
            problem: "no fragments in a compressed object".into(),
        })?;
    let frames = object.get(tags::NUMBER_OF_FRAMES);
    let frames = frames.and_then(|frames| frames.to_int::<usize>().ok());
    match (frames.unwrap_or(1), fragments) {
        (1, [single]) => Ok(Cow::Borrowed(single)),
        (1, [_, ..]) => Ok(Cow::Owned(fragments.concat())),
        (frames, _) => match fragments.get(frame as usize) {
            Some(fragment) if frames == fragments.len() => Ok(Cow::Borrowed(fragment)),
            _ => Err(Reason::Decode {
                problem: format!("{} fragments for {frames} frames", fragments.len()),
            }),
        },
    }
}

/// The JPEG decoder forgets to reset its predictor at restart markers and would band the picture.
fn refuse_restart_markers(jpeg: &[u8]) -> Result<(), Reason> {
    match segments(jpeg).find(|(marker, _)| *marker == DRI) {
        Some((_, payload)) if payload.iter().any(|&b| b != 0) => Err(Reason::TransferSyntax {
            name: "JPEG lossless with restart markers",
            uid: "1.2.840.10008.1.2.4.57".into(),
        }),
        _ => Ok(()),
    }
}

/// A stream larger than its header promises would be decoded into memory before we could look.
fn refuse_other_size(jpeg: &[u8], slice: &Slice) -> Result<(), Reason> {
    let Some((_, frame)) = segments(jpeg).find(|(marker, _)| is_frame_header(*marker)) else {
        return Ok(());
    };
    let &[precision, h1, h0, w1, w0, components, ..] = frame else {
        return Err(Reason::Decode {
            problem: "the frame header ends early".into(),
        });
    };
    let found = [u16::from_be_bytes([h1, h0]), u16::from_be_bytes([w1, w0])].map(usize::from);
    if found != slice.size || components != 1 {
        let problem = format!(
            "{found:?} pixels of {components} components in the picture, {:?} of 1 promised",
            slice.size
        );
        return Err(Reason::Decode { problem });
    }
    if precision == 12 && !segments(jpeg).any(|(marker, _)| marker == LOSSLESS_FRAME) {
        let uid = "1.2.840.10008.1.2.4.51".to_owned();
        return Err(Reason::TransferSyntax {
            name: "JPEG extended, 12 bits",
            uid,
        });
    }
    Ok(())
}

/// The marker segments before the first scan: marker and payload.
fn segments(jpeg: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = jpeg.strip_prefix(&[0xFF, 0xD8]).unwrap_or_default();
    std::iter::from_fn(move || {
        let &[0xFF, marker, high, low, ..] = rest else {
            return None;
        };
        if marker == START_OF_SCAN {
            return None;
        }
        let len = usize::from(u16::from_be_bytes([high, low]));
        let payload = rest.get(4..2 + len)?;
        rest = &rest[2 + len..];
        Some((marker, payload))
    })
}

const fn is_frame_header(marker: u8) -> bool {
    matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC)
}

/// What a transfer syntax we do not decode is called.
pub(super) fn transfer_syntax_name(uid: &str) -> &'static str {
    match uid {
        "1.2.840.10008.1.2.4.53" => "JPEG spectral selection",
        "1.2.840.10008.1.2.4.55" => "JPEG full progression",
        "1.2.840.10008.1.2.4.80" => "JPEG-LS lossless",
        "1.2.840.10008.1.2.4.81" => "JPEG-LS near-lossless",
        "1.2.840.10008.1.2.4.201" | "1.2.840.10008.1.2.4.202" | "1.2.840.10008.1.2.4.203" => {
            "High-Throughput JPEG 2000"
        }
        _ => "unknown",
    }
}

const IMPLICIT_LE: &str = "1.2.840.10008.1.2";
const EXPLICIT_LE: &str = "1.2.840.10008.1.2.1";
const EXPLICIT_BE: &str = "1.2.840.10008.1.2.2";
const RLE: &str = "1.2.840.10008.1.2.5";

/// SOC and SIZ, with which a JPEG 2000 codestream begins.
const CODESTREAM: [u8; 4] = [0xFF, 0x4F, 0xFF, 0x51];

/// Ssiz of the first component: its bits less one, and in the highest bit whether it is signed.
const COMPONENT_PRECISION: usize = 42;
const SIGNED: u8 = 0x80;

const DRI: u8 = 0xDD;
const LOSSLESS_FRAME: u8 = 0xC3;
const START_OF_SCAN: u8 = 0xDA;
