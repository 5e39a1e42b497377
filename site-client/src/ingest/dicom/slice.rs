use std::path::{Path, PathBuf};

use dicom_object::{DefaultDicomObject, InMemDicomObject, Tag};

use super::open::{Origin, Part, open};
use super::{Reason, tags};

/// One picture of a CT series: a file, or a frame of a multi-frame object.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The file.
    pub path: PathBuf,
    /// The frame within the file, from 0.
    pub frame: u32,
    /// SeriesInstanceUID; identifies the patient in a PACS, so it is only ever hashed.
    pub series: String,
    /// Center of the first voxel, mm in LPS.
    pub position: [f64; 3],
    /// Directions along a row and down a column, unit vectors in LPS.
    pub directions: [[f64; 3]; 2],
    /// Between the columns and between the rows, mm.
    pub spacing: [f64; 2],
    /// Rows and columns.
    pub size: [usize; 2],
    /// HU = slope · stored + intercept.
    pub slope: f64,
    /// See `slope`.
    pub intercept: f64,
    /// How stored values are coded.
    pub coding: Coding,
    /// Thickness in mm.
    pub thickness_mm: Option<f64>,
    /// InstanceNumber: orders duplicates only.
    pub number: i32,
    /// How the scan was made.
    pub acquisition: Acquisition,
    /// Whose it is.
    pub patient: Patient,
}

/// How stored values are coded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coding {
    /// Bits Allocated (0028,0100).
    pub bits_allocated: u16,
    /// Bits Stored (0028,0101).
    pub bits_stored: u16,
    /// Whether Pixel Representation (0028,0103) is two's complement.
    pub signed: bool,
    /// Pixel Padding Value (0028,0120).
    pub padding: Option<i32>,
    /// Pixel Padding Range Limit (0028,0121).
    pub padding_limit: Option<i32>,
}

/// How a scan was made: the tags of filters and `scans.csv`.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "the columns of scans.csv")]
pub struct Acquisition {
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub kernel: Option<String>,
    pub kvp: Option<f32>,
    pub body_part: Option<String>,
    pub contrast: bool,
    pub study_date: Option<String>,
    pub study_time: Option<String>,
}

/// Whose scan it is; the identifier leaves only as a keyed hash.
#[derive(Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "the attributes of PS3.3 C.7.1.1")]
pub struct Patient {
    pub id: String,
    pub sex: Option<String>,
    pub age: Option<String>,
}

/// Never shows the identifier.
impl std::fmt::Debug for Patient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Patient(..)")
    }
}

/// The slices of one file, without their pixels.
///
/// # Errors
/// Why the file holds none.
pub fn read_slices(path: &Path) -> Result<Vec<Slice>, Reason> {
    slices(path, &open(Origin::File(path), Part::Description)?)
}

/// The slices of one file's bytes, named by `path`.
///
/// # Errors
/// As [`read_slices`].
pub fn read_bytes(path: &Path, bytes: &[u8]) -> Result<Vec<Slice>, Reason> {
    slices(path, &open(Origin::Bytes(bytes), Part::Description)?)
}

fn slices(path: &Path, object: &DefaultDicomObject) -> Result<Vec<Slice>, Reason> {
    let class = text(object, tags::SOP_CLASS_UID)
        .unwrap_or_else(|| object.meta().media_storage_sop_class_uid().to_owned());
    let class = class.trim_end_matches('\0');
    if class == MEDIA_DIRECTORY {
        return Err(Reason::NotImage {
            found: "a directory of files (DICOMDIR)",
        });
    }
    let modality = text(object, tags::MODALITY).unwrap_or_default();
    if modality != "CT" {
        return Err(Reason::Modality { found: modality });
    }
    let Some(rows) = integer(object, tags::ROWS) else {
        return Err(Reason::NotImage {
            found: "an object without rows",
        });
    };
    let columns = required(integer(object, tags::COLUMNS), "Columns")?;
    let samples = integer(object, tags::SAMPLES_PER_PIXEL).unwrap_or(1);
    if samples != 1 {
        return Err(Reason::Color {
            found: samples.try_into().unwrap_or(u16::MAX),
        });
    }
    let size = [rows, columns].map(|n| usize::try_from(n).unwrap_or(0));
    if size.contains(&0) {
        let found = format!("{rows}x{columns}");
        return Err(Reason::Invalid {
            attribute: "Rows, Columns",
            found,
            expected: "above 0",
        });
    }
    refuse_derived(&text(object, tags::IMAGE_TYPE).unwrap_or_default())?;

    let frames = integer(object, tags::NUMBER_OF_FRAMES).unwrap_or(1);
    let coding = coding(object)?;
    let acquisition = acquisition(object);
    let patient = Patient {
        id: text(object, tags::PATIENT_ID).unwrap_or_default(),
        sex: text(object, tags::PATIENT_SEX),
        age: text(object, tags::PATIENT_AGE),
    };
    let series = required(text(object, tags::SERIES_INSTANCE_UID), "SeriesInstanceUID")?;
    let number = integer(object, tags::INSTANCE_NUMBER).unwrap_or(0);
    let slice = |groups: &Groups<'_>, frame: u32| -> Result<Slice, Reason> {
        let position = groups.numbers(
            tags::PLANE_POSITION_SEQUENCE,
            tags::IMAGE_POSITION_PATIENT,
            "ImagePositionPatient",
        )?;
        let [rx, ry, rz, cx, cy, cz] = groups.numbers(
            tags::PLANE_ORIENTATION_SEQUENCE,
            tags::IMAGE_ORIENTATION_PATIENT,
            "ImageOrientationPatient",
        )?;
        let [between_rows, between_columns] = groups.numbers(
            tags::PIXEL_MEASURES_SEQUENCE,
            tags::PIXEL_SPACING,
            "PixelSpacing",
        )?;
        if !(between_rows > 0.0 && between_columns > 0.0) {
            let found = format!("{between_rows}, {between_columns}");
            let attribute = "PixelSpacing";
            return Err(Reason::Invalid {
                attribute,
                found,
                expected: "above 0 mm",
            });
        }
        let rescale = tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE;
        let slope = groups.number(rescale, tags::RESCALE_SLOPE, "RescaleSlope")?;
        let slope = slope.unwrap_or(1.0);
        if slope == 0.0 {
            return Err(Reason::Invalid {
                attribute: "RescaleSlope",
                found: slope.to_string(),
                expected: "other than 0",
            });
        }
        let intercept = groups.number(rescale, tags::RESCALE_INTERCEPT, "RescaleIntercept")?;
        let intercept = required(intercept, "RescaleIntercept")?;
        let thickness_mm = groups.number(
            tags::PIXEL_MEASURES_SEQUENCE,
            tags::SLICE_THICKNESS,
            "SliceThickness",
        )?;
        let directions = [unit([rx, ry, rz])?, unit([cx, cy, cz])?];
        Ok(Slice {
            path: path.to_owned(),
            frame,
            series: series.clone(),
            position,
            directions,
            spacing: [between_columns, between_rows],
            size,
            slope,
            intercept,
            coding,
            thickness_mm,
            number: number.saturating_add(i32::try_from(frame).unwrap_or(i32::MAX)),
            acquisition: acquisition.clone(),
            patient: patient.clone(),
        })
    };
    let per_frame = items(object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    let shared = items(object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).first();
    if per_frame.is_empty() {
        if frames != 1 {
            let found = frames.to_string();
            let expected = "1 without functional groups";
            return Err(Reason::Invalid {
                attribute: "NumberOfFrames",
                found,
                expected,
            });
        }
        return Ok(vec![slice(
            &Groups {
                frame: None,
                shared,
                object,
            },
            0,
        )?]);
    }
    if usize::try_from(frames).ok() != Some(per_frame.len()) {
        let attribute = "NumberOfFrames, PerFrameFunctionalGroupsSequence";
        return Err(Reason::Inconsistent { attribute });
    }
    per_frame
        .iter()
        .zip(0..)
        .map(|(frame, index)| {
            let kind = frame.get(tags::CT_IMAGE_FRAME_TYPE_SEQUENCE);
            let kind = kind.and_then(|sequence| sequence.items()?.first());
            let kind = kind.and_then(|item| item.get(Tag(0x0008, 0x9007)));
            if let Some(kind) = kind.and_then(|element| element.to_str().ok()) {
                refuse_derived(&kind)?;
            }
            slice(
                &Groups {
                    frame: Some(frame),
                    shared,
                    object,
                },
                index,
            )
        })
        .collect()
}

/// Where an attribute may stand: the frame's groups, the shared groups, the object itself.
struct Groups<'a> {
    frame: Option<&'a InMemDicomObject>,
    shared: Option<&'a InMemDicomObject>,
    object: &'a InMemDicomObject,
}

impl Groups<'_> {
    /// The numbers of an attribute; none if it is absent or empty.
    fn values(
        &self,
        sequence: Tag,
        tag: Tag,
        attribute: &'static str,
    ) -> Result<Option<Vec<f64>>, Reason> {
        let grouped = [self.frame, self.shared]
            .into_iter()
            .flatten()
            .find_map(|group| group.get(sequence)?.items()?.first()?.get(tag));
        let Some(element) = grouped.or_else(|| self.object.get(tag)) else {
            return Ok(None);
        };
        let values = element.to_multi_float64().map_err(|_| Reason::Invalid {
            attribute,
            found: "no number".to_owned(),
            expected: "numbers",
        })?;
        Ok((!values.is_empty()).then_some(values))
    }

    fn number(
        &self,
        sequence: Tag,
        tag: Tag,
        attribute: &'static str,
    ) -> Result<Option<f64>, Reason> {
        match self.values(sequence, tag, attribute)?.as_deref() {
            Some(&[number, ..]) if !number.is_finite() => Err(Reason::Invalid {
                attribute,
                found: number.to_string(),
                expected: "a finite number",
            }),
            Some(&[number, ..]) => Ok(Some(number)),
            _ => Ok(None),
        }
    }

    fn numbers<const N: usize>(
        &self,
        sequence: Tag,
        tag: Tag,
        attribute: &'static str,
    ) -> Result<[f64; N], Reason> {
        let values = required(self.values(sequence, tag, attribute)?, attribute)?;
        <[f64; N]>::try_from(values.as_slice())
            .ok()
            .filter(|values| values.iter().all(|x| x.is_finite()))
            .ok_or_else(|| {
                let expected = "finite numbers, as many as the standard has";
                Reason::Invalid {
                    attribute,
                    found: format!("{values:?}"),
                    expected,
                }
            })
    }
}

fn coding(object: &InMemDicomObject) -> Result<Coding, Reason> {
    let field = |tag, attribute| required(integer(object, tag), attribute);
    let bits_allocated = field(tags::BITS_ALLOCATED, "BitsAllocated")?;
    let bits_stored = field(tags::BITS_STORED, "BitsStored")?;
    if !matches!(bits_allocated, 8 | 16) || !(1..=bits_allocated).contains(&bits_stored) {
        let found = format!("{bits_stored} of {bits_allocated}");
        let attribute = "BitsStored, BitsAllocated";
        return Err(Reason::Invalid {
            attribute,
            found,
            expected: "at most 8 or 16 bits",
        });
    }
    let signed = field(tags::PIXEL_REPRESENTATION, "PixelRepresentation")? == 1;
    let as_coded = |value: i32| {
        if signed {
            i32::from(value as i16)
        } else {
            value & 0xFFFF
        }
    };
    Ok(Coding {
        bits_allocated: bits_allocated as u16,
        bits_stored: bits_stored as u16,
        signed,
        padding: integer(object, tags::PIXEL_PADDING_VALUE).map(as_coded),
        padding_limit: integer(object, tags::PIXEL_PADDING_RANGE_LIMIT).map(as_coded),
    })
}

fn acquisition(object: &InMemDicomObject) -> Acquisition {
    Acquisition {
        manufacturer: text(object, tags::MANUFACTURER),
        model: text(object, tags::MANUFACTURER_MODEL_NAME),
        // Siemens writes two values ("Hr38\\3"); the first names the kernel.
        kernel: text(object, tags::CONVOLUTION_KERNEL)
            .map(|kernel| kernel.split('\\').next().unwrap_or_default().to_owned()),
        kvp: text(object, tags::KVP).and_then(|kvp| kvp.parse().ok()),
        body_part: text(object, tags::BODY_PART_EXAMINED),
        contrast: text(object, tags::CONTRAST_BOLUS_AGENT).is_some(),
        study_date: text(object, tags::STUDY_DATE),
        study_time: text(object, tags::STUDY_TIME),
    }
}

fn refuse_derived(image_type: &str) -> Result<(), Reason> {
    let is = |kind: &str| image_type.split('\\').any(|value| value.trim() == kind);
    if is("LOCALIZER") || is("SCOUT") {
        return Err(Reason::Localizer {
            found: image_type.to_owned(),
        });
    }
    Ok(())
}

fn unit(direction: [f64; 3]) -> Result<[f64; 3], Reason> {
    let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
    if (length - 1.0).abs() < 1e-3 {
        return Ok(direction.map(|x| x / length));
    }
    let (attribute, found) = ("ImageOrientationPatient", format!("{direction:?}"));
    Err(Reason::Invalid {
        attribute,
        found,
        expected: "a unit vector",
    })
}

/// The trimmed text of an attribute, if there is any.
fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = object.get(tag)?.to_str().ok()?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

fn integer(object: &InMemDicomObject, tag: Tag) -> Option<i32> {
    object.get(tag)?.to_int().ok()
}

fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object
        .get(tag)
        .and_then(|element| element.items())
        .unwrap_or_default()
}

fn required<T>(value: Option<T>, attribute: &'static str) -> Result<T, Reason> {
    value.ok_or(Reason::Missing { attribute })
}

const MEDIA_DIRECTORY: &str = "1.2.840.10008.1.3.10";
