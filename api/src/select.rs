//! Selectors: which objects of a list or a watch a client wants.
//!
//! [`LabelSelector`] compares labels, [`FieldSelector`] the few fields that each kind allows. Both are parsed once per
//! request and then asked per object. An absent field is equal to empty, as the reference's conversion functions print it.

mod field;
mod label;

pub use field::FieldSelector;
pub use label::{LabelSelector, Operator, Requirement};
