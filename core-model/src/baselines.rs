//! What the paper compares with.

pub mod resnet;
