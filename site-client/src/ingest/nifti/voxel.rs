use bytemuck::Pod;

/// A type in which voxels are stored.
pub(super) trait Voxel: Pod + Send + Sync {
    fn to_f64(self) -> f64;
}

/// Runs an expression with the Rust type of a [`super::Datatype`] for its name.
macro_rules! with_type {
    ($datatype:expr, $name:ident => $body:expr) => {
        with_type!(@ $datatype, $name, $body,
            F32 f32, F64 f64, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64)
    };
    (@ $datatype:expr, $name:ident, $body:expr, $($variant:ident $rust:ty),+) => {
        match $datatype {
            $($crate::ingest::nifti::Datatype::$variant => {
                type $name = $rust;
                $body
            })+
        }
    };
}

macro_rules! voxels {
    ($($rust:ty),+) => {
        $(impl Voxel for $rust {
            fn to_f64(self) -> f64 {
                self as f64
            }
        })+
    };
}

voxels!(f32, f64, i8, i16, i32, i64, u8, u16, u32, u64);
