//! Conversions between element types.

use super::Real;
use std::borrow::Cow;

/// Converts a slice between element types (through `f64`, exactly when the target is wider).
pub fn convert<S: Real, T: Real>(values: &[S]) -> Vec<T> {
    values.iter().map(|v| T::from_f64(v.to_f64())).collect()
}

/// The same, without a copy where the type is the same.
pub fn converted<T: Real>(values: &[f32]) -> Cow<'_, [T]> {
    T::as_own(values).map_or_else(|| Cow::Owned(convert(values)), Cow::Borrowed)
}

/// [`convert`] into a buffer, whose contents it replaces.
pub fn convert_into<S: Real, T: Real>(values: &[S], out: &mut Vec<T>) {
    out.clear();
    out.extend(values.iter().map(|v| T::from_f64(v.to_f64())));
}
