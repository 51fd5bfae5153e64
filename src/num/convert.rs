//! Conversions between element types.

use super::{ByType, Real};
use std::borrow::Cow;

/// Converts a slice between element types (through `f64`, exactly when the target is wider).
pub fn convert<S: Real, T: Real>(values: &[S]) -> Vec<T> {
    values.iter().map(|v| T::from_f64(v.to_f64())).collect()
}

/// The same, without a copy where the type is the same.
pub fn converted<T: Real>(values: &[f32]) -> Cow<'_, [T]> {
    struct Converted;

    impl ByType for Converted {
        type Input<'a, T: Real> = &'a [f32];
        type Output<'a, T: Real> = Cow<'a, [T]>;

        fn single(values: Self::Input<'_, f32>) -> Self::Output<'_, f32> {
            Cow::Borrowed(values)
        }

        fn double(values: Self::Input<'_, f64>) -> Self::Output<'_, f64> {
            Cow::Owned(convert(values))
        }
    }
    T::by_type::<Converted>(values)
}

/// [`convert`] into a buffer, whose contents it replaces.
pub fn convert_into<S: Real, T: Real>(values: &[S], out: &mut Vec<T>) {
    out.clear();
    out.extend(values.iter().map(|v| T::from_f64(v.to_f64())));
}
