//! Rows of inputs with their labels, and the checks that arrays from users must pass.

use thiserror::Error;

/// One part (training or test) of a dataset: rows of inputs, each with a label.
///
/// It comes only from [`Split::new`], so whoever holds one knows that its inputs are finite, its
/// sizes agree and it is not empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// `[len, features]`, row-major.
    pub inputs: Vec<f32>,
    /// `[len]`, the class of each row, `0..classes`.
    pub labels: Vec<u32>,
    features: usize,
}

impl Split {
    /// Takes `inputs: [rows, features]`, row-major, and `labels: [rows]` after checking them.
    ///
    /// # Errors
    ///
    /// If there are no rows, if `inputs` does not divide into rows, if an input is not finite
    /// (with its row and column), if there is not one label for each row, or if a label is not
    /// below `classes`.
    pub fn new(inputs: Vec<f32>, features: usize, labels: Vec<u32>, classes: usize) -> Result<Self, ArrayError> {
        let rows = check_inputs(&inputs, features)?;
        if labels.len() != rows {
            return Err(ArrayError::LabelCount { rows, labels: labels.len() });
        }
        let outside = |&label: &u32| usize::try_from(label).map_or(true, |label| label >= classes);
        if let Some(row) = labels.iter().position(outside) {
            return Err(ArrayError::LabelRange { row, label: labels[row], classes });
        }
        Ok(Self { inputs, labels, features })
    }

    /// The number of rows, at least 1.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no rows, which [`Split::new`] does not allow.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The number of inputs in a row, at least 1.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Takes the rows from `first` on off this split. `None`, and nothing is taken, if either part would have no rows.
    pub fn split_off(&mut self, first: usize) -> Option<Self> {
        if first == 0 || first >= self.len() {
            return None;
        }
        let (inputs, labels) = (self.inputs.split_off(first * self.features), self.labels.split_off(first));
        Some(Self { inputs, labels, features: self.features })
    }

    /// The inputs of row `index`, counted from 0.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len), like the indexing of a slice.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.inputs[index * self.features..][..self.features]
    }
}

/// Checks `inputs: [rows, features]`, row-major, and gives the number of rows.
///
/// A single NaN or infinity would spread through every weight in the first round of training, and
/// the run would report it far from its cause; so it is refused here, with its place.
///
/// # Errors
///
/// If there are no rows or no features, if `inputs` does not divide into rows, or if a value is
/// not finite.
pub fn check_inputs(inputs: &[f32], features: usize) -> Result<usize, ArrayError> {
    if features == 0 {
        return Err(ArrayError::NoFeatures);
    }
    if inputs.is_empty() {
        return Err(ArrayError::NoRows);
    }
    if !inputs.len().is_multiple_of(features) {
        return Err(ArrayError::Ragged { values: inputs.len(), features });
    }
    if let Some(at) = inputs.iter().position(|value| !value.is_finite()) {
        return Err(ArrayError::NotFinite { row: at / features, column: at % features, value: inputs[at] });
    }
    Ok(inputs.len() / features)
}

/// Why arrays of inputs and labels were refused. Rows and columns are counted from 0.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ArrayError {
    /// Rows without inputs.
    #[error("the inputs have no features; give at least one column")]
    NoFeatures,
    /// No rows at all.
    #[error("the inputs have no rows; give at least one")]
    NoRows,
    /// The values do not fill whole rows.
    #[error("{values} input values do not divide into rows of {features}; check the shape")]
    Ragged {
        /// The number of values.
        values: usize,
        /// The length of a row.
        features: usize,
    },
    /// A NaN or an infinity.
    #[error(
        "the input at row {row}, column {column} (counted from 0) is {value}; \
         remove or replace values that are not finite"
    )]
    NotFinite {
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
        /// The value itself.
        value: f32,
    },
    /// Not one label for each row.
    #[error("{rows} rows of inputs but {labels} labels; give one label for each row")]
    LabelCount {
        /// The number of rows.
        rows: usize,
        /// The number of labels.
        labels: usize,
    },
    /// A label that names no class.
    #[error(
        "the label of row {row} (counted from 0) is {label}, but there are {classes} classes; \
         labels count from 0 and stay below the number of classes"
    )]
    LabelRange {
        /// Its row.
        row: usize,
        /// The label.
        label: u32,
        /// The number of classes.
        classes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_slices_of_the_row_major_array() {
        let split = Split::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, vec![1, 0], 2).unwrap();
        assert_eq!((split.len(), split.features()), (2, 3));
        assert!(!split.is_empty());
        assert_eq!(split.row(0), [1.0, 2.0, 3.0]);
        assert_eq!(split.row(1), [4.0, 5.0, 6.0]);
    }

    #[test]
    fn values_that_are_not_finite_are_refused_with_their_place() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut inputs = vec![0.0; 12];
            inputs[7] = bad;
            let error = Split::new(inputs, 4, vec![0; 3], 1).unwrap_err();
            assert!(matches!(error, ArrayError::NotFinite { row: 1, column: 3, .. }), "{error}");
            assert!(error.to_string().contains("row 1, column 3"), "{error}");
            assert!(error.to_string().contains(&bad.to_string()), "{error}");
        }
    }

    #[test]
    fn subnormal_and_extreme_finite_values_are_accepted() {
        let inputs = [f32::MAX, f32::MIN, f32::MIN_POSITIVE / 2.0, -0.0];
        assert_eq!(check_inputs(&inputs, 2), Ok(2));
    }

    #[test]
    fn arrays_without_rows_or_columns_are_refused() {
        assert_eq!(check_inputs(&[], 3), Err(ArrayError::NoRows));
        assert_eq!(check_inputs(&[], 0), Err(ArrayError::NoFeatures));
        assert_eq!(check_inputs(&[1.0], 0), Err(ArrayError::NoFeatures));
    }

    #[test]
    fn a_broken_last_row_is_refused() {
        assert_eq!(check_inputs(&[0.0; 7], 3), Err(ArrayError::Ragged { values: 7, features: 3 }));
    }

    #[test]
    fn each_row_needs_one_label() {
        for labels in [vec![0], vec![0; 3]] {
            let count = labels.len();
            assert_eq!(Split::new(vec![0.0; 4], 2, labels, 1), Err(ArrayError::LabelCount { rows: 2, labels: count }));
        }
    }

    #[test]
    fn labels_stay_below_the_number_of_classes() {
        assert!(Split::new(vec![0.0; 2], 1, vec![0, 2], 3).is_ok());
        assert_eq!(
            Split::new(vec![0.0; 2], 1, vec![0, 3], 3),
            Err(ArrayError::LabelRange { row: 1, label: 3, classes: 3 })
        );
        assert!(Split::new(vec![0.0], 1, vec![u32::MAX], 10).is_err());
    }
}
