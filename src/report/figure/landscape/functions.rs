//! Example functions with their gradients: constructed and random networks of growing depth.

use super::roomy;
use crate::{
    report::{
        draw::{
            palette::{BLUE, VERMILION},
            prelude::*,
        },
        figure::{Figure, WIDTH},
    },
    study::{
        landscape::{
            LandscapeTables,
            rows::{FunctionRow, Origin},
        },
        numbers::counted,
    },
};

/// Draws a column for each network: the function above, its gradient below.
pub fn draw(tables: &LandscapeTables) -> Figure {
    let examples: Vec<&[FunctionRow]> =
        tables.functions.chunk_by(|a, b| (&a.network, a.depth, a.width) == (&b.network, b.depth, b.width)).collect();
    let texts: Vec<String> = examples
        .iter()
        .map(|rows| {
            let (what, noun) = match rows[0].network {
                Origin::Tent => ("tent map composed", "time"),
                Origin::Random => ("random network", "hidden layer"),
            };
            format!("{what}, {}: {}", counted(rows[0].depth, noun), counted(rows.len(), "piece"))
        })
        .collect();
    let caption = format!(
        "Piecewise linear functions of rectifier networks (top) and their gradients (bottom), exact. From the left: \
         {}. Random networks have {} a layer, He-uniform weights and zero biases; the segment joins two datapoints, \
         and the first of their outputs is shown.",
        texts.join("; "),
        counted(examples.last().map_or(0, |rows| rows[0].width), "unit")
    );
    Figure {
        id: "functions",
        heading: "Shattered gradients",
        svg: Ok(picture(&examples)),
        caption,
        notes: Vec::new(),
        sources: vec!["functions.csv".to_owned()],
    }
}

fn picture(examples: &[&[FunctionRow]]) -> Drawing {
    let (left, gap, top) = (52.0, 48.0, 26.0);
    let cell = (WIDTH - left - 12.0 - gap * (examples.len() as f64 - 1.0)) / examples.len() as f64;
    let (function, gradient) = (140.0, 110.0);
    let mut svg = Svg::new("functions", WIDTH, top + function + 16.0 + gradient + 42.0);
    for (i, rows) in examples.iter().enumerate() {
        let x = left + i as f64 * (cell + gap);
        let title = format!("{}, {}", rows[0].network, counted(rows[0].depth, "layer"));
        let axis = Axis::linear(rows[0].from, rows[rows.len() - 1].to);
        let values: Vec<(f64, f64)> = rows.iter().flat_map(|r| [(r.from, r.value), (r.to, r.value_end)]).collect();
        let slopes: Vec<(f64, f64)> = rows.iter().flat_map(|r| [(r.from, r.slope), (r.to, r.slope)]).collect();
        let panels = [(top, function, &values), (top + function + 16.0, gradient, &slopes)];
        for (row, (y, height, points)) in panels.into_iter().enumerate() {
            let panel = Panel::new(Rect::new(x, y, cell, height), axis, roomy(points.iter().map(|p| p.1), 0.08));
            panel.draw(
                &mut svg,
                Labels {
                    title: if row == 0 { &title } else { "" },
                    x: if row == 1 { "t" } else { "" },
                    y: match (i, row) {
                        (0, 0) => "function",
                        (0, _) => "gradient",
                        _ => "",
                    },
                    hide_x: row == 0,
                    hide_y: false,
                },
            );
            let stroke = if row == 0 { Stroke::solid(BLUE, 1.6) } else { Stroke::solid(VERMILION, 1.1) };
            panel.inside(&mut svg, |svg| panel.curve(svg, points, stroke));
        }
    }
    svg.finish("Functions of tent and random networks and their gradients along a segment")
}
