//! Lines as areas: the polygons that a line of some width covers.

use super::mark::{Contour, Join, Line, Point, steps_of_arc};
use std::f64::consts::PI;

/// How many widths a pointed join may reach (SVG's default).
const MITER_LIMIT: f64 = 4.0;

/// The area of a line along the contours: polygons that overlap, all turning the same way, so that their union is what
/// turns around.
pub fn covered(contours: &[Contour], line: &Line) -> Vec<Contour> {
    let mut polygons = Vec::new();
    for contour in contours {
        if line.dash.iter().sum::<f64>() > 0.0 {
            dashes(contour, &line.dash).iter().for_each(|dash| cover(dash, line, &mut polygons));
        } else {
            cover(contour, line, &mut polygons);
        }
    }
    polygons
}

/// The contour without its steps of no length.
fn distinct(contour: &Contour) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::with_capacity(contour.points.len() + 1);
    for &point in contour.points.iter().chain(contour.closed.then_some(&contour.points[0])) {
        if points.last() != Some(&point) {
            points.push(point);
        }
    }
    points
}

fn cover(contour: &Contour, line: &Line, polygons: &mut Vec<Contour>) {
    let points = distinct(contour);
    let half = line.width / 2.0;
    let directions: Vec<Point> = points.windows(2).map(|pair| direction(pair[0], pair[1])).collect();
    for (pair, (dx, dy)) in points.windows(2).zip(&directions) {
        let (nx, ny) = (-dy * half, dx * half);
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        push(polygons, vec![(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)]);
    }
    let mut join = |at: Point, from: Point, to: Point| match line.join {
        Join::Round => round(at, from, to, half, polygons),
        Join::Miter => miter(at, from, to, half, polygons),
    };
    for (i, pair) in directions.windows(2).enumerate() {
        join(points[i + 1], pair[0], pair[1]);
    }
    if let (true, [first, .., last]) = (contour.closed, &directions[..]) {
        join(points[0], *last, *first);
    }
}

fn direction(from: Point, to: Point) -> Point {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = dx.hypot(dy);
    (dx / length, dy / length)
}

/// Adds a convex polygon, turned so that its signed area is positive.
fn push(polygons: &mut Vec<Contour>, mut points: Vec<Point>) {
    let area: f64 = (0..points.len())
        .map(|i| (points[i], points[(i + 1) % points.len()]))
        .map(|(a, b)| a.0 * b.1 - b.0 * a.1)
        .sum();
    if area < 0.0 {
        points.reverse();
    }
    polygons.push(Contour { points, closed: true });
}

/// On which side the corner is outside: 1 for the normals `(-dy, dx)`, -1 for the opposite ones.
fn outside(from: Point, to: Point) -> f64 {
    if from.0 * to.1 - from.1 * to.0 > 0.0 { -1.0 } else { 1.0 }
}

/// The sector between the ends of two segments.
fn round(at: Point, from: Point, to: Point, half: f64, polygons: &mut Vec<Contour>) {
    let side = outside(from, to);
    let angle = |(dx, dy): Point| (side * dx).atan2(-side * dy);
    let start = angle(from);
    let turn = (angle(to) - start + PI).rem_euclid(2.0 * PI) - PI;
    let steps = steps_of_arc(half, turn);
    let rim = (0..=steps).map(|i| {
        let (sin, cos) = (start + turn * i as f64 / steps as f64).sin_cos();
        (at.0 + half * cos, at.1 + half * sin)
    });
    push(polygons, [at].into_iter().chain(rim).collect());
}

fn miter(at: Point, from: Point, to: Point, half: f64, polygons: &mut Vec<Contour>) {
    let reach = half * outside(from, to);
    let normal = |(dx, dy): Point| (-dy * reach, dx * reach);
    let (a, b) = (normal(from), normal(to));
    let mut corner = vec![at, (at.0 + a.0, at.1 + a.1)];
    // The tip is the sum of the normals times 1 / (1 + cos of the turn); its distance in half-widths is the reciprocal
    // of the sine of half the angle between the segments.
    let cosine = from.0 * to.0 + from.1 * to.1;
    if 2.0 <= MITER_LIMIT * MITER_LIMIT * (1.0 + cosine) {
        let scale = 1.0 / (1.0 + cosine);
        corner.push((at.0 + (a.0 + b.0) * scale, at.1 + (a.1 + b.1) * scale));
    }
    corner.push((at.0 + b.0, at.1 + b.1));
    push(polygons, corner);
}

/// The pieces of a contour that a dash pattern leaves.
fn dashes(contour: &Contour, pattern: &[f64]) -> Vec<Contour> {
    let points = distinct(contour);
    let mut pieces = Vec::new();
    let mut phase = 0;
    let mut left = pattern[0];
    let mut piece = vec![points[0]];
    for pair in points.windows(2) {
        let ((mut x, mut y), (dx, dy)) = (pair[0], direction(pair[0], pair[1]));
        let mut length = (pair[1].0 - x).hypot(pair[1].1 - y);
        while length > left {
            (x, y, length) = (x + left * dx, y + left * dy, length - left);
            if phase % 2 == 0 {
                piece.push((x, y));
                pieces.push(Contour { points: std::mem::take(&mut piece), closed: false });
            }
            phase += 1;
            left = pattern[phase % pattern.len()];
            piece = vec![(x, y)];
        }
        left -= length;
        if phase % 2 == 0 {
            piece.push(pair[1]);
        }
    }
    if phase % 2 == 0 {
        pieces.push(Contour { points: piece, closed: false });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(points: &[Point]) -> Contour {
        Contour { points: points.to_vec(), closed: false }
    }

    #[test]
    fn dashes_go_around_corners() {
        let corner = open(&[(0.0, 0.0), (4.0, 0.0), (4.0, 9.0)]);
        let pieces = dashes(&corner, &[6.0, 2.0]);
        assert_eq!(pieces[0], open(&[(0.0, 0.0), (4.0, 0.0), (4.0, 2.0)]));
        assert_eq!(pieces[1], open(&[(4.0, 4.0), (4.0, 9.0)]));
        assert_eq!(pieces.len(), 2);
    }

    #[test]
    fn corners_are_pointed_up_to_the_limit() {
        let tip = |turn: f64| {
            let mut polygons = Vec::new();
            miter((0.0, 0.0), (1.0, 0.0), (turn.cos(), turn.sin()), 1.0, &mut polygons);
            polygons[0].points.iter().map(|(x, y)| x.hypot(*y)).fold(0.0, f64::max)
        };
        assert!((tip(PI / 2.0) - 2f64.sqrt()).abs() < 1e-12);
        // An angle of 29 degrees between the segments is the last that SVG draws pointed.
        assert!((tip((180.0 - 29.1f64).to_radians()) - 1.0 / (14.55f64.to_radians().sin())).abs() < 1e-9);
        assert!((tip((180.0 - 28.8f64).to_radians()) - 1.0).abs() < 1e-9);
        // A line that turns back has no tip.
        assert!((tip(PI) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn lines_without_length_cover_nothing() {
        let line = Line { color: [0; 3], opacity: 1.0, width: 2.0, dash: vec![], join: Join::Round };
        assert!(covered(&[open(&[(1.0, 1.0), (1.0, 1.0)])], &line).is_empty());
        assert!(covered(&[open(&[(1.0, 1.0)])], &Line { dash: vec![2.0, 1.0], ..line }).is_empty());
    }
}
