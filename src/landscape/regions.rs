//! The linear regions of a network on a plane: convex polygons, cut layer by layer.
//!
//! On a plane of inputs, or of one layer's weights, every unit is affine on each region of the layers below it, and its kink is
//! a straight line there. Each layer cuts the regions of the one below, so the regions are polygons, found without sampling.

use super::{
    Ended, Limits,
    affine::Affine,
    pool::{mean, sources},
    propagation::{MERGE, in_network_order},
};
use crate::network::{Network, Pool, Pooling, Rectifier};

/// A point `(u, v)` of the plane.
pub type Vertex = [f64; 2];

/// What moves with the plane's coordinates: two directions in the inputs, or in the flat weights of one layer.
#[derive(Clone, Copy, Debug)]
pub enum Directions<'a> {
    Inputs([&'a [f64]; 2]),
    Weights([&'a [f64]; 2]),
}

/// A rectangle of the plane `base + u d_1 + v d_2`.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// Flat weights at `(0, 0)`.
    pub weights: &'a [f64],
    /// Input at `(0, 0)`.
    pub input: &'a [f64],
    pub directions: Directions<'a>,
    pub u: (f64, f64),
    pub v: (f64, f64),
}

/// A polygon on which the network is affine.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Corners in order, counterclockwise.
    pub polygon: Vec<Vertex>,
    /// The outputs `f_k = c_k + g_k u + h_k v` as `[c, g, h]`, each `[outputs]`.
    pub outputs: [Vec<f64>; 3],
}

impl Region {
    /// The area, by the shoelace formula.
    pub fn area(&self) -> f64 {
        area(&self.polygon)
    }

    /// The mean of the corners.
    pub fn middle(&self) -> Vertex {
        middle(&self.polygon)
    }

    /// The outputs at a point.
    pub fn at(&self, [u, v]: Vertex) -> Vec<f64> {
        let [c, g, h] = &self.outputs;
        c.iter().zip(g).zip(h).map(|((c, g), h)| c + g * u + h * v).collect()
    }
}

/// A plane on which the network is not piecewise linear.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    #[error("the weights of several layers move, so the regions are not polygons; choose directions within one layer")]
    SeveralLayers,
    #[error("there are more than {most} regions; choose a smaller range")]
    TooMany { most: usize },
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// Regions of one layer: polygons with every unit as an affine function on each.
struct Layer {
    polygons: Vec<Vec<Vertex>>,
    width: usize,
    /// Constants, slopes in `u` and slopes in `v`: `[polygons, width]`.
    planes: [Vec<f64>; 3],
}

impl Layer {
    fn row(&self, plane: usize, p: usize) -> &[f64] {
        &self.planes[plane][p * self.width..(p + 1) * self.width]
    }

    /// A unit on a polygon.
    fn unit(&self, p: usize, unit: usize) -> [f64; 3] {
        [0, 1, 2].map(|plane| self.row(plane, p)[unit])
    }

    fn empty(width: usize) -> Self {
        Self { polygons: Vec::new(), width, planes: [Vec::new(), Vec::new(), Vec::new()] }
    }

    /// The polygons `from..to` alone.
    fn part(&self, from: usize, to: usize) -> Self {
        let plane = |k: usize| self.planes[k][from * self.width..to * self.width].to_vec();
        Self { polygons: self.polygons[from..to].to_vec(), width: self.width, planes: [0, 1, 2].map(plane) }
    }
}

/// What a layer does to polygons.
enum Stage<'a> {
    /// With the weights' own two directions, if they move.
    Affine(Affine<'a>, Option<[Affine<'a>; 2]>),
    Rectify(Rectifier),
    MaxPool(&'a Pool),
    AveragePool(&'a Pool),
}

/// What is the same for all layers.
struct Search<'a> {
    /// Points nearer than this are one.
    near: f64,
    /// Regions at most.
    most: usize,
    limits: &'a Limits<'a>,
    found: Vec<Region>,
}

/// Bytes that are counted for a region in addition to its numbers: its corners, its rows in the tables and in the figures.
const REGION_BYTES: usize = 2000;

impl Search<'_> {
    /// Polygons of this many units that go through a layer together.
    fn at_once(&self, width: usize) -> usize {
        (self.limits.batch_values() / width).max(1)
    }

    /// Fails if a polygon alone has too many parts.
    fn check(&self, parts: usize) -> Result<(), RegionError> {
        self.limits.go_on()?;
        // Every part becomes a region, or several.
        self.limits.has_room(parts * REGION_BYTES)?;
        if self.found.len() + parts > self.most { Err(RegionError::TooMany { most: self.most }) } else { Ok(()) }
    }

    /// Takes polygons through the layers that are left, some of them at a time: their parts come out in the same order.
    fn advance(&mut self, stages: &[Stage], layer: Layer) -> Result<(), RegionError> {
        let Some((stage, rest)) = stages.split_first() else { return self.keep(layer) };
        let (count, at_once) = (layer.polygons.len(), self.at_once(layer.width));
        if count <= at_once {
            return self.apply(stage, rest, layer);
        }
        for from in (0..count).step_by(at_once) {
            self.apply(stage, rest, layer.part(from, count.min(from + at_once)))?;
        }
        Ok(())
    }

    fn apply(&mut self, stage: &Stage, rest: &[Stage], layer: Layer) -> Result<(), RegionError> {
        self.limits.go_on()?;
        match stage {
            Stage::Affine(affine, moving) => {
                let count = layer.polygons.len();
                let mut planes = [0, 1, 2].map(|k| affine.linear(&layer.planes[k], count, k == 0));
                for (k, step) in moving.iter().flatten().enumerate() {
                    planes[k + 1] = step.linear(&layer.planes[0], count, true);
                }
                self.advance(rest, Layer { polygons: layer.polygons, width: affine.width(), planes })
            }
            Stage::AveragePool(pool) => {
                let (sources, places) = (sources(pool), pool.places());
                let planes = layer.planes.map(|plane| mean(&plane, layer.width, &sources, places));
                self.advance(rest, Layer { polygons: layer.polygons, width: pool.output.len(), planes })
            }
            Stage::Rectify(rectifier) => self.rectify(rest, &layer, *rectifier),
            Stage::MaxPool(pool) => self.max_pool(rest, &layer, pool),
        }
    }

    /// Hands a full batch on.
    fn hand_on(&mut self, rest: &[Stage], out: &mut Layer) -> Result<(), RegionError> {
        let full = std::mem::replace(out, Layer::empty(out.width));
        if full.polygons.is_empty() { Ok(()) } else { self.advance(rest, full) }
    }

    fn keep(&mut self, layer: Layer) -> Result<(), RegionError> {
        self.check(layer.polygons.len())?;
        self.limits.take(layer.polygons.len() * (3 * layer.width * size_of::<f64>() + REGION_BYTES))?;
        let outputs = |p: usize| [0, 1, 2].map(|k| layer.row(k, p).to_vec());
        let regions = layer.polygons.iter().enumerate();
        self.found.extend(regions.map(|(p, polygon)| Region { polygon: polygon.clone(), outputs: outputs(p) }));
        Ok(())
    }
}

/// All regions of the network on a rectangle of the plane, at most `most` of them.
///
/// # Errors
/// If weights of several layers move, there are more regions, the limits are reached, or the network is not a chain.
///
/// # Panics
/// If a vector does not have the network's length.
pub fn regions(network: &Network, plane: &Plane, most: usize, limits: &Limits) -> Result<Vec<Region>, RegionError> {
    if !network.is_chain() {
        return Err(Ended::NotAChain.into());
    }
    let (steps, moving) = match plane.directions {
        Directions::Inputs(_) => ([None, None], 0),
        Directions::Weights(steps) => (steps.map(Some), moving_block(network, steps)?),
    };
    let ((u0, u1), (v0, v1)) = (plane.u, plane.v);
    let near = MERGE * (u1 - u0).abs().max((v1 - v0).abs());
    let still = vec![0.0; plane.input.len()];
    let planes = match plane.directions {
        Directions::Inputs([d, e]) => [plane.input, d, e],
        Directions::Weights(_) => [plane.input, &still, &still],
    };
    let planes = planes.map(|data| in_network_order(network, data));
    let corners = vec![[u0, v0], [u1, v0], [u1, v1], [u0, v1]];
    let layer = Layer { polygons: vec![corners], width: network.inputs(), planes };
    let mut stages = Vec::new();
    for (l, block) in network.blocks().iter().enumerate() {
        let moves = (l == moving).then(|| Some([steps[0]?, steps[1]?])).flatten();
        let directions = moves.map(|steps| steps.map(|step| Affine::new(block, step, None)));
        stages.push(Stage::Affine(Affine::new(block, plane.weights, None), directions));
        stages.extend(block.rectifier.map(Stage::Rectify));
        stages.extend(block.pool.as_ref().map(|pool| match pool.pooling {
            Pooling::Max => Stage::MaxPool(pool),
            Pooling::Average => Stage::AveragePool(pool),
        }));
    }
    let mut search = Search { near, most, limits, found: Vec::new() };
    search.advance(&stages, layer)?;
    Ok(search.found)
}

/// The one block whose weights move.
fn moving_block(network: &Network, steps: [&[f64]; 2]) -> Result<usize, RegionError> {
    let moves = |range: std::ops::Range<usize>| steps.iter().any(|step| step[range.clone()].iter().any(|v| *v != 0.0));
    let mut moving = network.blocks().iter().enumerate().filter(|(_, block)| moves(block.range())).map(|(l, _)| l);
    let first = moving.next().unwrap_or_default();
    if moving.next().is_some() { Err(RegionError::SeveralLayers) } else { Ok(first) }
}

impl Search<'_> {
    /// Cuts every polygon along the kinks of all units, and rectifies them.
    fn rectify(&mut self, rest: &[Stage], layer: &Layer, rectifier: Rectifier) -> Result<(), RegionError> {
        let (mut out, at_once, near) = (Layer::empty(layer.width), self.at_once(layer.width), self.near);
        for (p, polygon) in layer.polygons.iter().enumerate() {
            let mut parts = vec![polygon.clone()];
            for unit in 0..layer.width {
                let line = layer.unit(p, unit);
                if crosses(polygon, line, near) {
                    parts = parts.into_iter().flat_map(|part| cut(part, line, near)).collect();
                    self.check(parts.len())?;
                }
            }
            for part in parts {
                let inside = middle(&part);
                let slopes: Vec<f64> =
                    (0..layer.width).map(|unit| rectifier.derivative(value(layer.unit(p, unit), inside))).collect();
                for (k, plane) in out.planes.iter_mut().enumerate() {
                    plane.extend(layer.row(k, p).iter().zip(&slopes).map(|(v, slope)| v * slope));
                }
                out.polygons.push(part);
                if out.polygons.len() >= at_once {
                    self.hand_on(rest, &mut out)?;
                }
            }
        }
        self.hand_on(rest, &mut out)
    }

    /// Cuts every polygon where two places of a window share its largest value, and keeps the largest.
    fn max_pool(&mut self, rest: &[Stage], layer: &Layer, pool: &Pool) -> Result<(), RegionError> {
        let (sources, places, width) = (sources(pool), pool.places(), pool.output.len());
        let (mut out, at_once, near) = (Layer::empty(width), self.at_once(layer.width), self.near);
        for (p, polygon) in layer.polygons.iter().enumerate() {
            let lines =
                |window: &[usize]| -> Vec<[f64; 3]> { window.iter().map(|unit| layer.unit(p, *unit)).collect() };
            let mut parts = vec![polygon.clone()];
            for window in sources.chunks_exact(places) {
                let lines = lines(window);
                parts = parts.into_iter().flat_map(|part| envelope(part, &lines, near)).collect();
                self.check(parts.len())?;
            }
            for part in parts {
                let inside = middle(&part);
                for window in sources.chunks_exact(places) {
                    let winner = window[highest(&lines(window), inside)];
                    for (plane, v) in out.planes.iter_mut().zip(layer.unit(p, winner)) {
                        plane.push(v);
                    }
                }
                out.polygons.push(part);
                if out.polygons.len() >= at_once {
                    self.hand_on(rest, &mut out)?;
                }
            }
        }
        self.hand_on(rest, &mut out)
    }
}

/// The first of the lines that are highest at a point.
fn highest(lines: &[[f64; 3]], point: Vertex) -> usize {
    (1..lines.len()).fold(0, |best, j| if value(lines[j], point) > value(lines[best], point) { j } else { best })
}

/// The parts of a convex polygon on which one line is highest.
fn envelope(polygon: Vec<Vertex>, lines: &[[f64; 3]], near: f64) -> Vec<Vec<Vertex>> {
    let best = highest(lines, middle(&polygon));
    let above = |line: &[f64; 3]| [0, 1, 2].map(|k| line[k] - lines[best][k]);
    match lines.iter().map(above).find(|difference| crosses(&polygon, *difference, near)) {
        Some(difference) => {
            cut(polygon, difference, near).into_iter().flat_map(|part| envelope(part, lines, near)).collect()
        }
        None => vec![polygon],
    }
}

fn value([c, g, h]: [f64; 3], [u, v]: Vertex) -> f64 {
    c + g * u + h * v
}

/// On which side of the line a point lies: -1, 1, or 0 if it is nearer than `near` to it.
fn side(line: [f64; 3], point: Vertex, near: f64) -> i8 {
    let [_, g, h] = line;
    let v = value(line, point);
    let margin = near * g.hypot(h);
    if v > margin {
        1
    } else if v < -margin {
        -1
    } else {
        0
    }
}

fn crosses(polygon: &[Vertex], line: [f64; 3], near: f64) -> bool {
    let sides = || polygon.iter().map(|point| side(line, *point, near));
    sides().any(|s| s > 0) && sides().any(|s| s < 0)
}

/// The parts of a convex polygon on both sides of a line; the polygon itself if the line does not cross it.
fn cut(polygon: Vec<Vertex>, line: [f64; 3], near: f64) -> Vec<Vec<Vertex>> {
    if !crosses(&polygon, line, near) {
        return vec![polygon];
    }
    let (mut above, mut below) = (Vec::new(), Vec::new());
    for (i, &here) in polygon.iter().enumerate() {
        let next = polygon[(i + 1) % polygon.len()];
        let (s, t) = (side(line, here, near), side(line, next, near));
        if s >= 0 {
            above.push(here);
        }
        if s <= 0 {
            below.push(here);
        }
        if s * t < 0 {
            let (a, b) = (value(line, here), value(line, next));
            let share = a / (a - b);
            let point = [0, 1].map(|k| here[k] + share * (next[k] - here[k]));
            above.push(point);
            below.push(point);
        }
    }
    vec![above, below]
}

fn middle(polygon: &[Vertex]) -> Vertex {
    [0, 1].map(|k| polygon.iter().map(|point| point[k]).sum::<f64>() / polygon.len() as f64)
}

fn area(polygon: &[Vertex]) -> f64 {
    let cross = |(i, a): (usize, &Vertex)| {
        let b = polygon[(i + 1) % polygon.len()];
        a[0] * b[1] - a[1] * b[0]
    };
    0.5 * polygon.iter().enumerate().map(cross).sum::<f64>()
}
