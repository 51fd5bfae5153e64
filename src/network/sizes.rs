//! Shapes as experiment files and traces write them.

use super::{Image, NetworkError, Shape};

impl Shape {
    /// From the form of experiment files and traces: `[features]` or `[channels, height, width]`.
    pub fn from_sizes(sizes: &[usize]) -> Result<Self, NetworkError> {
        let refused = || NetworkError::InputShape { sizes: sizes.to_vec() };
        let product = sizes.iter().try_fold(1usize, |a, b| a.checked_mul(*b));
        if product.is_none_or(|product| product == 0 || product >= 1 << 40) {
            return Err(refused());
        }
        match *sizes {
            [features] => Ok(Shape::Features(features)),
            [channels, height, width] => Ok(Shape::Image(Image { channels, height, width })),
            _ => Err(refused()),
        }
    }

    /// The inverse of [`Shape::from_sizes`].
    pub fn sizes(&self) -> Vec<usize> {
        match *self {
            Shape::Features(features) => vec![features],
            Shape::Image(Image { channels, height, width }) => vec![channels, height, width],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_make_no_shape_are_refused() {
        for sizes in [&[][..], &[0], &[2, 3], &[1, 0, 3], &[1 << 30, 1 << 30, 4], &[1, 2, 3, 4]] {
            assert!(Shape::from_sizes(sizes).is_err(), "{sizes:?}");
        }
        assert_eq!(Shape::from_sizes(&[3, 4, 5]).unwrap().sizes(), [3, 4, 5]);
    }
}
