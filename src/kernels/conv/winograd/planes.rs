//! The values of windows and filters at the pairs of points: a matrix for each, and the ways there and back.

use super::{
    super::types::at_least,
    transform::{Direction, Form, PLANES, Transform, transform},
};
use crate::{kernels::View, network::Image, num::Real};

/// Elements between planes, so that the same place of all planes does not fall on the same lines of a cache.
const GAP: usize = 16;

/// A matrix `[rows, channels]` for each pair of points.
pub(super) struct Planes<'a, T> {
    pub data: &'a mut [T],
    pub rows: usize,
    pub channels: usize,
}

impl<'a, T: Real> Planes<'a, T> {
    pub fn new(buffer: &'a mut Vec<T>, rows: usize, channels: usize) -> Self {
        Self { data: at_least(buffer, PLANES * (rows * channels + GAP)), rows, channels }
    }

    /// From the start of a plane to that of the next.
    fn stride(&self) -> usize {
        self.rows * self.channels + GAP
    }

    pub fn plane(&self, at: usize) -> View<'_, T> {
        View::new(&self.data[at * self.stride()..][..self.rows * self.channels], self.rows, self.channels)
    }

    pub fn plane_mut(&mut self, at: usize) -> &mut [T] {
        let (start, size) = (at * self.stride(), self.rows * self.channels);
        &mut self.data[start..start + size]
    }

    /// Writes the transform of a window of an image to a row of every plane; `zeros` stand for what lies outside.
    pub fn gather(&mut self, row: usize, form: Form, image: &[T], frame: Frame, origin: (isize, isize), zeros: &[T]) {
        let (channels, stride) = (self.channels, self.stride());
        frame.check(image.len(), zeros.len(), channels);
        // Read only.
        let outside = zeros.as_ptr().cast_mut();
        let places = frame.window(image.as_ptr().cast_mut(), outside, origin, form.side());
        assert!(row < self.rows, "a row of the planes");
        let planes = self.data[row * channels..].as_mut_ptr();
        transform(Transform { direction: Direction::Gather, form, places, planes, stride, channels });
    }

    /// Adds the adjoint transform of a row of every plane to a window of an image; what lies outside goes to `discarded`.
    pub fn scatter(
        &self,
        row: usize,
        form: Form,
        image: &mut [T],
        frame: Frame,
        origin: (isize, isize),
        discarded: &mut [T],
    ) {
        let (channels, stride) = (self.channels, self.stride());
        frame.check(image.len(), discarded.len(), channels);
        let places = frame.window(image.as_mut_ptr(), discarded.as_mut_ptr(), origin, form.side());
        assert!(row < self.rows, "a row of the planes");
        // Read only.
        let planes = self.data[row * channels..].as_ptr().cast_mut();
        transform(Transform { direction: Direction::Scatter, form, places, planes, stride, channels });
    }
}

/// Where the values of an image or a filter are: those of a place's channels side by side, places `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub height: usize,
    pub width: usize,
    pub stride: usize,
}

impl Frame {
    /// # Panics
    /// If an image of `size` elements, or what stands for the outside, is too small.
    fn check(&self, size: usize, outside: usize, channels: usize) {
        assert!((self.height * self.width - 1) * self.stride + channels <= size, "the image is too small");
        assert!(channels <= outside, "there is too little outside");
    }

    /// Where the places of a window `side x side` are, row by row: in the image, or `outside`.
    fn window<T>(&self, image: *mut T, outside: *mut T, origin: (isize, isize), side: usize) -> [*mut T; PLANES] {
        let mut places = [outside; PLANES];
        for (i, row) in places.chunks_exact_mut(side).enumerate().take(side) {
            let y = origin.0 + i as isize;
            if y < 0 || y as usize >= self.height {
                continue;
            }
            let first = y as usize * self.width;
            for (j, place) in row.iter_mut().enumerate() {
                let x = origin.1 + j as isize;
                if x >= 0 && (x as usize) < self.width {
                    *place = image.wrapping_add((first + x as usize) * self.stride);
                }
            }
        }
        places
    }
}

/// The frame of images of `channels` channels.
pub(super) fn frame(image: &Image) -> Frame {
    Frame { height: image.height, width: image.width, stride: image.channels }
}
