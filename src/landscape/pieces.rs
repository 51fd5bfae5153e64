//! Consecutive pieces of a segment, with one layer's units as polynomials on each.

use super::Ended;

/// Gets pieces of a layer, those of a segment in order.
pub type Next<'a> = &'a mut dyn FnMut(Pieces) -> Result<(), Ended>;

/// Consecutive intervals of the segment's parameter `t`, and on each of them every unit of a layer as a polynomial.
///
/// On piece `p` unit `u` is `sum_k plane(k)[p, u] (t - bounds[p])^k`: the polynomials are anchored at the left ends of
/// their pieces, so that values stay of the size that the network has there, however steep it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Pieces {
    /// The ends of the pieces, increasing; one more than there are pieces.
    bounds: Vec<f64>,
    /// Units of the layer.
    width: usize,
    /// Per power of `t`: `[pieces, width]`. All have the same length.
    planes: Vec<Vec<f64>>,
}

impl Pieces {
    /// One piece from `from` to `to`; `planes[k]: [width]` are the coefficients of `(t - from)^k`.
    pub fn whole(from: f64, to: f64, planes: Vec<Vec<f64>>) -> Self {
        Self { bounds: vec![from, to], width: planes[0].len(), planes }
    }

    /// No pieces yet, beginning at `from`.
    pub fn empty(from: f64, width: usize, degree: usize) -> Self {
        Self { bounds: vec![from], width, planes: vec![Vec::new(); degree + 1] }
    }

    /// Makes room for this many more pieces.
    pub fn reserve(&mut self, pieces: usize) {
        self.bounds.reserve(pieces);
        self.planes.iter_mut().for_each(|plane| plane.reserve(pieces * self.width));
    }

    /// The same pieces with other units.
    ///
    /// # Panics
    /// If a plane is not `[pieces, width]`.
    pub fn with_planes(&self, width: usize, planes: Vec<Vec<f64>>) -> Self {
        assert!(planes.iter().all(|plane| plane.len() == self.len() * width), "a plane has another shape");
        Self { bounds: self.bounds.clone(), width, planes }
    }

    /// Number of pieces.
    pub fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// Numbers in a plane.
    pub fn values(&self) -> usize {
        self.len() * self.width
    }

    /// Bytes of all numbers.
    pub fn bytes(&self) -> usize {
        (self.values() * self.planes.len() + self.bounds.len()) * size_of::<f64>()
    }

    /// Takes the pieces out; more may follow where they end.
    pub fn take(&mut self) -> Pieces {
        let rest = Pieces::empty(self.bounds[self.len()], self.width, self.degree());
        std::mem::replace(self, rest)
    }

    /// The largest power of `t`.
    pub fn degree(&self) -> usize {
        self.planes.len() - 1
    }

    /// The ends of the pieces, one more than there are pieces.
    pub fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    /// The coefficients of `(t - left end)^k`, `[pieces, width]`.
    pub fn plane(&self, k: usize) -> &[f64] {
        &self.planes[k]
    }

    pub fn planes(&self) -> &[Vec<f64>] {
        &self.planes
    }

    /// The coefficients of power `k` on piece `p`, `[width]`.
    pub fn row(&self, k: usize, p: usize) -> &[f64] {
        &self.planes[k][p * self.width..(p + 1) * self.width]
    }

    /// Makes a unit zero on a piece.
    pub fn clear_unit(&mut self, p: usize, unit: usize) {
        for plane in &mut self.planes {
            plane[p * self.width + unit] = 0.0;
        }
    }

    /// Appends the part of piece `p` of `source` that begins at `from`, as a piece that ends at `to`, every unit times its
    /// scale.
    pub fn push_scaled(&mut self, source: &Pieces, p: usize, from: f64, to: f64, scales: &[f64]) {
        let start = self.len() * self.width;
        let by = from - source.bounds[p];
        if let [values, slopes] = &mut self.planes[..] {
            // Lines, by far the most frequent: anchor and scale in one pass.
            crate::num::vectorized(
                #[inline(always)]
                || {
                    let lines = source.row(0, p).iter().zip(source.row(1, p)).zip(scales);
                    values.extend(lines.map(|((value, slope), scale)| (value + by * slope) * scale));
                    slopes.extend(source.row(1, p).iter().zip(scales).map(|(slope, scale)| slope * scale));
                },
            );
        } else {
            for (k, plane) in self.planes.iter_mut().enumerate() {
                plane.extend_from_slice(source.row(k, p));
            }
            self.shift_last(start, by);
            for plane in &mut self.planes {
                plane[start..].iter_mut().zip(scales).for_each(|(v, scale)| *v *= scale);
            }
        }
        self.bounds.push(to);
    }

    /// Appends a piece that ends at `to`; `row` gets where it begins, a power of `t` and the plane, and appends the row.
    pub fn push_rows(&mut self, to: f64, mut row: impl FnMut(f64, usize, &mut Vec<f64>)) {
        let left = self.bounds[self.len()];
        self.planes.iter_mut().enumerate().for_each(|(k, plane)| row(left, k, plane));
        self.bounds.push(to);
    }

    /// Appends a part with other units: the chosen ones of `source`, one for each of ours.
    pub fn push_selected(
        &mut self,
        source: &Pieces,
        p: usize,
        from: f64,
        to: f64,
        chosen: impl Iterator<Item = usize> + Clone,
    ) {
        let start = self.len() * self.width;
        for (k, plane) in self.planes.iter_mut().enumerate() {
            let row = source.row(k, p);
            plane.extend(chosen.clone().map(|unit| row[unit]));
        }
        self.shift_last(start, from - source.bounds[p]);
        self.bounds.push(to);
    }

    /// Anchors the polynomials behind `start` at `by` (Horner's scheme, repeated).
    fn shift_last(&mut self, start: usize, by: f64) {
        if by == 0.0 {
            return;
        }
        let degree = self.degree();
        for lowest in 0..degree {
            for k in (lowest..degree).rev() {
                let (lower, upper) = self.planes.split_at_mut(k + 1);
                for (low, high) in lower[k][start..].iter_mut().zip(&upper[0][start..]) {
                    *low += by * high;
                }
            }
        }
    }

    /// The pieces `from..to` alone.
    pub fn part(&self, from: usize, to: usize) -> Pieces {
        let planes = self.planes.iter().map(|plane| plane[from * self.width..to * self.width].to_vec()).collect();
        Pieces { bounds: self.bounds[from..=to].to_vec(), width: self.width, planes }
    }

    /// Appends the pieces of `next`, which begins where these end.
    pub fn append(&mut self, next: &Pieces) {
        self.bounds.extend_from_slice(&next.bounds[1..]);
        for (plane, more) in self.planes.iter_mut().zip(&next.planes) {
            plane.extend_from_slice(more);
        }
    }

    /// The piece that `t` lies on, the right one at a boundary; the nearest one outside.
    pub fn find(&self, t: f64) -> usize {
        self.bounds.partition_point(|bound| *bound <= t).clamp(1, self.len()) - 1
    }

    /// The units' values on piece `p` at `t`, and their derivatives, appended to nothing: both are overwritten.
    pub fn evaluate(&self, p: usize, t: f64, value: &mut Vec<f64>, slope: &mut Vec<f64>) {
        let by = t - self.bounds[p];
        value.clear();
        slope.clear();
        value.resize(self.width, 0.0);
        slope.resize(self.width, 0.0);
        for k in (0..self.planes.len()).rev() {
            for ((value, slope), coefficient) in value.iter_mut().zip(slope.iter_mut()).zip(self.row(k, p)) {
                *slope = *slope * by + *value;
                *value = *value * by + coefficient;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_same_polynomial_from_another_anchor() {
        // 1 + 2 t - t^3 and 4, from t = 1 on.
        let whole = Pieces::whole(1.0, 5.0, vec![vec![1.0, 4.0], vec![2.0, 0.0], vec![0.0, 0.0], vec![-1.0, 0.0]]);
        let mut part = Pieces::empty(2.5, 2, 3);
        part.push_scaled(&whole, 0, 2.5, 4.0, &[1.0, 1.0]);
        let (mut a, mut b, mut da, mut db) = (vec![], vec![], vec![], vec![]);
        for t in [2.5, 3.0, 4.0] {
            whole.evaluate(0, t, &mut a, &mut da);
            part.evaluate(0, t, &mut b, &mut db);
            for (x, y) in a.iter().zip(&b).chain(da.iter().zip(&db)) {
                assert!((x - y).abs() < 1e-13, "{x} {y}");
            }
            let u = t - 1.0;
            assert!((a[0] - (1.0 + 2.0 * u - u * u * u)).abs() < 1e-12 && (da[0] - (2.0 - 3.0 * u * u)).abs() < 1e-12);
        }
    }

    #[test]
    fn points_find_their_piece() {
        let mut pieces = Pieces::whole(0.0, 1.0, vec![vec![0.0]]);
        pieces.append(&Pieces::whole(1.0, 3.0, vec![vec![0.0]]));
        assert_eq!([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 9.0].map(|t| pieces.find(t)), [0, 0, 0, 1, 1, 1, 1]);
    }
}
