//! Labels: from health records, from RSNA 2019, from CQ500.

mod cq500;
mod ehr;
mod rsna;

pub use cq500::{Cq500Options, LeftOut, from_cq500};
pub use ehr::{EhrReport, LabelWindow, from_records};
pub use rsna::{RsnaReport, SliceMap, from_rsna};
