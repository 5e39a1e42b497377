use core_model::ct::Affine;
use nifti::NiftiHeader;

use super::NiftiError;

/// What a checked header says about its voxels.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Voxels along each axis.
    pub shape: [usize; 3],
    /// How a voxel is stored.
    pub datatype: Datatype,
    /// Byte order of the voxels.
    pub big_endian: bool,
    /// Where the voxels begin, in bytes.
    pub offset: u64,
    /// HU = slope · stored + intercept.
    pub slope: f64,
    /// See `slope`.
    pub intercept: f64,
    /// Voxel index to mm: sform, else qform, else the voxel sizes.
    pub affine: Affine,
    /// The voxels lie in a separate `.img` file.
    pub separate_image: bool,
}

impl Header {
    /// Bytes a header may take.
    pub(super) const MAX_BYTES: usize = 540;

    /// Checks the first bytes of a file, decompressed.
    ///
    /// # Errors
    /// The first rule of the format that they break, or more than `max_voxels` voxels.
    pub fn parse(bytes: &[u8], max_voxels: usize) -> Result<Self, NiftiError> {
        let raw = RawHeader::parse(bytes)?;
        let shape = raw.shape(max_voxels)?;
        let datatype = raw.datatype()?;
        let (slope, intercept) = raw.scaling()?;
        Ok(Self {
            shape,
            datatype,
            big_endian: raw.big_endian,
            offset: raw.offset()?,
            slope,
            intercept,
            affine: raw.affine(shape)?,
            separate_image: raw.separate_image,
        })
    }

    /// Number of voxels.
    #[must_use]
    pub fn voxels(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Storage types a scan may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of Rust's own types")]
pub enum Datatype {
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

impl Datatype {
    /// Bytes a voxel takes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    fn from_code(code: i16) -> Option<Self> {
        Some(match code {
            2 => Self::U8,
            4 => Self::I16,
            8 => Self::I32,
            16 => Self::F32,
            64 => Self::F64,
            256 => Self::I8,
            512 => Self::U16,
            768 => Self::U32,
            1024 => Self::I64,
            1280 => Self::U64,
            _ => return None,
        })
    }
}

/// The fields we use, common to both versions of the format.
struct RawHeader {
    big_endian: bool,
    separate_image: bool,
    first_offset: u64,
    dim: [i64; 8],
    datatype: i16,
    bitpix: i16,
    pixdim: [f64; 8],
    vox_offset: f64,
    scl_slope: f64,
    scl_inter: f64,
    qform_code: i32,
    sform_code: i32,
    quatern: [f64; 3],
    qoffset: [f64; 3],
    srow: [[f64; 4]; 3],
}

impl RawHeader {
    fn parse(bytes: &[u8]) -> Result<Self, NiftiError> {
        let first: [u8; 4] =
            bytes
                .get(..4)
                .and_then(|b| b.try_into().ok())
                .ok_or(NiftiError::Truncated {
                    part: "header",
                    expected: NIFTI_1_BYTES as u64,
                })?;
        match (i32::from_le_bytes(first), i32::from_be_bytes(first)) {
            (348, _) | (_, 348) => Self::parse_1(bytes),
            (540, _) => Self::parse_2(bytes, false),
            (_, 540) => Self::parse_2(bytes, true),
            (found, _) => Err(NiftiError::NotNifti { found }),
        }
    }

    fn parse_1(bytes: &[u8]) -> Result<Self, NiftiError> {
        let truncated = || NiftiError::Truncated {
            part: "header",
            expected: NIFTI_1_BYTES as u64,
        };
        let bytes = bytes.get(..NIFTI_1_BYTES).ok_or_else(truncated)?;
        let magic = &bytes[NIFTI_1_BYTES - 4..];
        let header = NiftiHeader::from_reader(bytes)
            .map_err(|_| NiftiError::field("magic", magic.escape_ascii(), "n+1 or ni1"))?;
        // The crate tells byte order by dim[0]; the size must agree.
        if header.sizeof_hdr != NIFTI_1_BYTES as i32 {
            return Err(NiftiError::field("dim[0]", header.dim[0], "1 to 7"));
        }
        Ok(Self {
            big_endian: matches!(header.endianness, nifti::Endianness::Big),
            separate_image: magic.starts_with(b"ni1"),
            first_offset: NIFTI_1_FIRST_VOXEL,
            dim: header.dim.map(|n| i64::from(n.cast_signed())),
            datatype: header.datatype,
            bitpix: header.bitpix,
            pixdim: header.pixdim.map(f64::from),
            vox_offset: f64::from(header.vox_offset),
            scl_slope: f64::from(header.scl_slope),
            scl_inter: f64::from(header.scl_inter),
            qform_code: header.qform_code.into(),
            sform_code: header.sform_code.into(),
            quatern: [header.quatern_b, header.quatern_c, header.quatern_d].map(f64::from),
            qoffset: [header.quatern_x, header.quatern_y, header.quatern_z].map(f64::from),
            srow: [header.srow_x, header.srow_y, header.srow_z].map(|row| row.map(f64::from)),
        })
    }

    /// NIfTI-2, by the byte offsets of its standard.
    fn parse_2(bytes: &[u8], big_endian: bool) -> Result<Self, NiftiError> {
        let expected = Header::MAX_BYTES as u64;
        let bytes = bytes
            .get(..Header::MAX_BYTES)
            .ok_or(NiftiError::Truncated {
                part: "header",
                expected,
            })?;
        let magic = &bytes[4..12];
        if !matches!(magic, b"n+2\0\r\n\x1a\n" | b"ni2\0\r\n\x1a\n") {
            return Err(NiftiError::field(
                "magic",
                magic.escape_ascii(),
                "n+2 or ni2",
            ));
        }
        let fields = Fields { bytes, big_endian };
        Ok(Self {
            big_endian,
            separate_image: magic.starts_with(b"ni2"),
            first_offset: NIFTI_2_FIRST_VOXEL,
            dim: [0, 1, 2, 3, 4, 5, 6, 7].map(|i| i64::from_ne_bytes(fields.at(16 + 8 * i))),
            datatype: i16::from_ne_bytes(fields.at(12)),
            bitpix: i16::from_ne_bytes(fields.at(14)),
            pixdim: [0, 1, 2, 3, 4, 5, 6, 7].map(|i| fields.double(104 + 8 * i)),
            // Beyond 2^53 bytes no file exists, so the conversion is exact where it matters.
            vox_offset: i64::from_ne_bytes(fields.at(168)) as f64,
            scl_slope: fields.double(176),
            scl_inter: fields.double(184),
            qform_code: i32::from_ne_bytes(fields.at(344)),
            sform_code: i32::from_ne_bytes(fields.at(348)),
            quatern: [352, 360, 368].map(|at| fields.double(at)),
            qoffset: [376, 384, 392].map(|at| fields.double(at)),
            srow: [400, 432, 464].map(|row| [0, 8, 16, 24].map(|c| fields.double(row + c))),
        })
    }

    fn shape(&self, max_voxels: usize) -> Result<[usize; 3], NiftiError> {
        let rank = self.dim[0];
        if !(2..=7).contains(&rank) {
            return Err(NiftiError::field("dim[0]", rank, "2 to 7 axes, one frame"));
        }
        let mut shape = [1_usize; 3];
        for (axis, &n) in self.dim[1..=rank as usize].iter().enumerate() {
            let field = DIM_FIELDS[axis];
            match shape.get_mut(axis) {
                Some(len) => {
                    *len = usize::try_from(n)
                        .ok()
                        .filter(|&n| n > 0)
                        .ok_or_else(|| NiftiError::field(field, n, "at least 1 voxel"))?;
                }
                None if n == 1 => {}
                None => return Err(NiftiError::field(field, n, "1: a single frame")),
            }
        }
        let found = shape
            .iter()
            .try_fold(1_u128, |all, &n| all.checked_mul(n as u128));
        match found {
            Some(found) if found <= max_voxels as u128 => Ok(shape),
            found => Err(NiftiError::TooLarge {
                found: found.unwrap_or(u128::MAX),
                limit: max_voxels,
            }),
        }
    }

    fn datatype(&self) -> Result<Datatype, NiftiError> {
        let datatype = Datatype::from_code(self.datatype).ok_or_else(|| {
            NiftiError::field("datatype", self.datatype, "a real number type, as CT has")
        })?;
        if usize::try_from(self.bitpix).ok() == Some(8 * datatype.bytes()) {
            Ok(datatype)
        } else {
            let found = format!("{} with datatype {}", self.bitpix, self.datatype);
            Err(NiftiError::field("bitpix", found, "the datatype's bits"))
        }
    }

    fn offset(&self) -> Result<u64, NiftiError> {
        let first = if self.separate_image {
            0
        } else {
            self.first_offset
        };
        let offset = self.vox_offset;
        if offset.is_finite() && offset >= first as f64 && offset < MAX_OFFSET {
            Ok(offset as u64)
        } else {
            Err(NiftiError::field(
                "vox_offset",
                offset,
                "behind the header, below 1 GiB",
            ))
        }
    }

    /// A slope of 0 means that voxels are stored unscaled.
    fn scaling(&self) -> Result<(f64, f64), NiftiError> {
        if self.scl_slope == 0.0 {
            return Ok((1.0, 0.0));
        }
        for (field, value) in [("scl_slope", self.scl_slope), ("scl_inter", self.scl_inter)] {
            if !value.is_finite() {
                return Err(NiftiError::field(field, value, "a finite number"));
            }
        }
        Ok((self.scl_slope, self.scl_inter))
    }

    fn affine(&self, shape: [usize; 3]) -> Result<Affine, NiftiError> {
        if self.sform_code > 0 {
            let error = |source| NiftiError::Affine {
                form: "sform",
                source,
            };
            return Affine::new(self.srow).map_err(error);
        }
        let sizes = [self.pixdim[1], self.pixdim[2], self.pixdim[3]];
        for (axis, size) in sizes.into_iter().enumerate() {
            if !(size > 0.0 && size.is_finite()) {
                return Err(NiftiError::field(PIXDIM_FIELDS[axis], size, "above 0 mm"));
            }
        }
        if self.qform_code > 0 {
            let error = |source| NiftiError::Affine {
                form: "qform",
                source,
            };
            return Affine::from_parts(self.qform(sizes)?, self.qoffset).map_err(error);
        }
        // No transform at all: nibabel's convention, x to the left and the center at 0.
        let error = |source| NiftiError::Affine {
            form: "pixdim",
            source,
        };
        let steps = [-sizes[0], sizes[1], sizes[2]];
        let origin = [0, 1, 2].map(|a| -steps[a] * (shape[a] - 1) as f64 / 2.0);
        Affine::scaled(steps, origin).map_err(error)
    }

    fn qform(&self, sizes: [f64; 3]) -> Result<[[f64; 3]; 3], NiftiError> {
        // The standard reads a qfac of 0 as 1; nibabel does too.
        let qfac = match self.pixdim[0] {
            0.0 | 1.0 => 1.0,
            -1.0 => -1.0,
            found => return Err(NiftiError::field("pixdim[0] (qfac)", found, "-1, 0 or 1")),
        };
        let [b, c, d] = self.quatern;
        let rest = 1.0 - (b * b + c * c + d * d);
        if rest.is_nan() || rest < -QUATERNION_TOLERANCE {
            let found = format!("({b}, {c}, {d})");
            return Err(NiftiError::field(
                "quatern_b, c, d",
                found,
                "a norm of at most 1",
            ));
        }
        let a = rest.max(0.0).sqrt();
        let rotation = [
            [
                a * a + b * b - c * c - d * d,
                2.0 * (b * c - a * d),
                2.0 * (b * d + a * c),
            ],
            [
                2.0 * (b * c + a * d),
                a * a + c * c - b * b - d * d,
                2.0 * (c * d - a * b),
            ],
            [
                2.0 * (b * d - a * c),
                2.0 * (c * d + a * b),
                a * a + d * d - b * b - c * c,
            ],
        ];
        let [x, y, z] = [sizes[0], sizes[1], sizes[2] * qfac];
        Ok(rotation.map(|row| [row[0] * x, row[1] * y, row[2] * z]))
    }
}

struct Fields<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Fields<'_> {
    /// The bytes of a field, in native order; offsets are constants within the checked length.
    fn at<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.bytes[at..at + N]);
        if self.big_endian != cfg!(target_endian = "big") {
            field.reverse();
        }
        field
    }

    fn double(&self, at: usize) -> f64 {
        f64::from_ne_bytes(self.at(at))
    }
}

const NIFTI_1_BYTES: usize = 348;

/// First byte a voxel may take in one file: header and the four bytes of the extender.
const NIFTI_1_FIRST_VOXEL: u64 = 352;
const NIFTI_2_FIRST_VOXEL: u64 = 544;

/// Extensions larger than 1 GiB do not occur.
const MAX_OFFSET: f64 = (1_u64 << 30) as f64;

/// Three steps of float32, as nibabel tolerates.
const QUATERNION_TOLERANCE: f64 = 3.0 * f32::EPSILON as f64;

const DIM_FIELDS: [&str; 7] = [
    "dim[1]", "dim[2]", "dim[3]", "dim[4]", "dim[5]", "dim[6]", "dim[7]",
];
const PIXDIM_FIELDS: [&str; 3] = ["pixdim[1]", "pixdim[2]", "pixdim[3]"];
