use thiserror::Error;

/// Why a file or a series is not a scan to train on. [`Reason::code`] is for machines, the message
/// for people; neither names a patient.
#[derive(Debug, Clone, PartialEq, Error)]
#[expect(missing_docs, reason = "the messages say what the variants mean")]
pub enum Reason {
    #[error("body part is {found:?}, expected one of {expected:?}")]
    BodyPart {
        found: String,
        expected: Vec<String>,
    },
    #[error("{found} samples per pixel: a color picture, expected gray CT")]
    Color { found: u16 },
    #[error("contrast agent was given, expected a plain scan")]
    Contrast,
    #[error("pixel data: {problem}")]
    Decode { problem: String },
    #[error(
        "step of {found_mm:.2} mm between slices where {usual_mm:.2} mm is usual: a slice is missing (--allow-gaps accepts it)"
    )]
    Gap { found_mm: f64, usual_mm: f64 },
    #[error("{attribute} differs between the slices of the series")]
    Inconsistent { attribute: &'static str },
    #[error("kernel is {found:?}, outside the families of the filter")]
    Kernel { found: String },
    #[error("{what} is {found}, expected {low} to {high}")]
    OutOfRange {
        what: &'static str,
        found: f32,
        low: f32,
        high: f32,
    },
    #[error("image type is {found}: a localizer, not a volume")]
    Localizer { found: String },
    #[error("manufacturer is {found:?}, outside the list of the filter")]
    Manufacturer { found: String },
    #[error("attribute {attribute} is missing")]
    Missing { attribute: &'static str },
    #[error("attribute {attribute} is {found:?}, expected {expected}")]
    Invalid {
        attribute: &'static str,
        found: String,
        expected: &'static str,
    },
    #[error("modality is {found}, expected CT")]
    Modality { found: String },
    #[error("not a DICOM file")]
    NotDicom,
    #[error("no picture inside: {found}")]
    NotImage { found: &'static str },
    #[error("{what}: {found}, expected {expected}: not a head CT, whatever its tags say")]
    NotHead {
        what: &'static str,
        found: String,
        expected: &'static str,
    },
    #[error("{found} slices, expected at least {limit}")]
    TooFewSlices { found: usize, limit: usize },
    #[error("{found} voxels, expected at most {limit}")]
    TooLarge { found: u128, limit: usize },
    #[error("slices do not lie on a line: slice {slice} is {off_mm:.2} mm beside it")]
    Scattered { slice: usize, off_mm: f64 },
    #[error("transfer syntax {name} ({uid}) is not decoded here")]
    TransferSyntax { name: &'static str, uid: String },
    #[error("cannot be read: {problem}")]
    Unreadable { problem: String },
}

impl Reason {
    /// For `rejected.csv`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BodyPart { .. } => "body_part",
            Self::Color { .. } => "color",
            Self::Contrast => "contrast",
            Self::Decode { .. } => "decode",
            Self::Gap { .. } => "gap",
            Self::Inconsistent { .. } => "inconsistent",
            Self::Invalid { .. } => "invalid_attribute",
            Self::Kernel { .. } => "kernel",
            Self::Localizer { .. } => "localizer",
            Self::Manufacturer { .. } => "manufacturer",
            Self::Missing { .. } => "missing_attribute",
            Self::Modality { .. } => "modality",
            Self::NotDicom => "not_dicom",
            Self::NotHead { .. } => "not_head",
            Self::NotImage { .. } => "not_image",
            Self::OutOfRange { .. } => "out_of_range",
            Self::Scattered { .. } => "scattered",
            Self::TooFewSlices { .. } => "too_few_slices",
            Self::TooLarge { .. } => "too_large",
            Self::TransferSyntax { .. } => "transfer_syntax",
            Self::Unreadable { .. } => "unreadable",
        }
    }
}
