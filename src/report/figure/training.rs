//! Training curves: the minibatch loss of each round, and losses and accuracies of each epoch.

use super::{Figure, Series, WIDTH, lacking, series_entries, sources};
use crate::{
    report::draw::prelude::*,
    study::{
        numbers::{count, number},
        results::mean,
        tables::EpochRow,
    },
};

/// A loss this many times the largest first loss is outside the frame: a diverged run must not flatten the rest.
const CEILING: f64 = 2.0;
/// A loss axis is logarithmic when the curves span more than this ratio.
const LOG_RATIO: f64 = 5.0;

/// Draws the training curves of the series.
pub fn draw(series: &[Series]) -> Figure {
    let with_epochs = series.iter().any(|s| !s.tables.epochs.is_empty());
    let files: &[&'static str] = if with_epochs { &["rounds.csv", "epochs.csv"] } else { &["rounds.csv"] };
    let mut notes: Vec<String> = files.iter().filter_map(|file| lacking(series, file)).collect();
    let most_rounds = series.iter().map(|s| s.tables.rounds.len()).max().unwrap_or(0);
    let window = window(most_rounds);
    let svg = if most_rounds == 0 {
        Err("no optimizer has rows in rounds.csv".to_string())
    } else {
        Ok(picture(series, window, &mut notes))
    };
    let smoothing = match window {
        1 => "each round's loss as it is".to_string(),
        w => format!("each round's loss (faint) and its running mean over {} rounds (strong)", count(w as u64)),
    };
    let right = match (with_epochs, has_accuracy(series)) {
        (false, _) => "",
        (true, false) => {
            " Right: loss over the whole training set (filled) and test set (open, dashed) after each epoch."
        }
        (true, true) => {
            " Right: loss over the whole training set (filled) and test set (open, dashed) after each epoch, and the \
             accuracies below."
        }
    };
    let caption = format!(
        "Training. {} loss before each round's update, {smoothing}.{right} These are measured values; nothing is \
         estimated.",
        if with_epochs { "Left: minibatch" } else { "Minibatch" }
    );
    let mut files = sources(series, "rounds.csv");
    files.extend(sources(series, "epochs.csv"));
    Figure { id: "training", heading: "Training curves", svg, caption, notes, sources: files }
}

/// Rounds of the running mean: a fortieth of the run, and odd so that it is centred.
fn window(rounds: usize) -> usize {
    (rounds / 40).clamp(0, 250) | 1
}

fn has_accuracy(series: &[Series]) -> bool {
    series.iter().flat_map(|s| &s.tables.epochs).any(|row| row.train_accuracy.or(row.test_accuracy).is_some())
}

/// The finite losses after epochs, on both sets.
fn epoch_losses(series: &[Series]) -> impl Iterator<Item = f64> {
    let rows = series.iter().flat_map(|s| &s.tables.epochs);
    rows.flat_map(|row| [row.train_loss, row.test_loss]).filter(|loss| loss.is_finite())
}

/// The axis of losses and its highest value, which cuts off a training that diverges; notes say what is left out.
fn loss_axis(series: &[Series], notes: &mut Vec<String>) -> (Axis, f64) {
    let losses =
        || series.iter().flat_map(|s| s.tables.rounds.iter().map(|row| row.loss)).filter(|loss| loss.is_finite());
    let first =
        series.iter().filter_map(|s| s.tables.rounds.first()).map(|row| row.loss).filter(|loss| loss.is_finite());
    let ceiling = CEILING * first.fold(0.0, f64::max);
    let highest = losses().chain(epoch_losses(series)).fold(0.0, f64::max);
    let (top_loss, cut) = if ceiling > 0.0 && highest > ceiling { (ceiling, true) } else { (highest, false) };
    let lowest = losses().chain(epoch_losses(series)).fold(f64::INFINITY, f64::min);
    if cut {
        notes.push(format!(
            "Losses up to {} lie above the frame, which is cut at about {CEILING} times the largest first loss.",
            number(highest)
        ));
    }
    for s in series {
        let broken = s.tables.rounds.iter().filter(|row| !row.loss.is_finite()).count();
        if broken > 0 {
            notes.push(format!("{}: {} rounds without a finite loss are left out.", s.name, count(broken as u64)));
        }
    }
    let axis = if lowest > 0.0 && top_loss / lowest > LOG_RATIO {
        Axis::log(lowest * 0.9, top_loss * 1.1)
    } else {
        Axis::from_zero(top_loss)
    };
    (axis, top_loss)
}

/// Height of the panel of rounds.
const HEIGHT: f64 = 260.0;

fn picture(series: &[Series], window: usize, notes: &mut Vec<String>) -> Drawing {
    let mut entries = series_entries(series);
    let with_epochs = series.iter().any(|s| !s.tables.epochs.is_empty());
    if with_epochs {
        entries.push(Entry::new(Sample::Filled, "training set"));
        entries.push(Entry::new(Sample::Open, "test set (dashed)"));
    }
    let top = legend::height(&entries, WIDTH - 20.0) + 34.0;
    let mut svg = Svg::new("training", WIDTH, top + HEIGHT + 42.0);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    let (y, top_loss) = loss_axis(series, notes);
    let width = if with_epochs { 392.0 } else { WIDTH - 74.0 };
    rounds_panel(&mut svg, series, Rect::new(62.0, top, width, HEIGHT), y, window);
    if !with_epochs {
        return svg.finish("Training curves: minibatch loss against round, one line per optimizer");
    }
    epoch_panels(&mut svg, series, top, y, top_loss);
    svg.finish("Training curves: minibatch loss against round, and loss per epoch, one line per optimizer")
}

/// ` (log axis)` for the label of a logarithmic axis.
fn scale_of(axis: &Axis) -> &'static str {
    if axis.log { " (log axis)" } else { "" }
}

/// The losses of rounds, smoothed over a window on top of the raw ones.
fn rounds_panel(svg: &mut Svg, series: &[Series], frame: Rect, y: Axis, window: usize) {
    let last_round = series.iter().filter_map(|s| s.tables.rounds.last()).map(|row| row.round).max().unwrap_or(1);
    let main = Panel::new(frame, Axis::linear(0.0, last_round as f64), y);
    let label = format!("loss per round{}", scale_of(&y));
    main.draw(svg, Labels { title: "minibatch loss", x: "rounds n", y: &label, ..Labels::default() });
    for s in series {
        svg.series(&s.name, |svg| {
            main.inside(svg, |svg| {
                if window > 1 {
                    main.curve(svg, &raw(s, 260), s.style.stroke(0.7).dashed("").faded(0.3));
                }
                main.curve(svg, &smooth(s, window, 260), s.style.stroke(2.0));
            });
            if let [row] = &s.tables.rounds[..] {
                s.style.mark(svg, main.at(row.round as f64, row.loss), 3.4, true);
            }
        });
    }
    answers(svg, series, &main, window);
}

/// The losses after epochs and, of classifiers, the accuracies below them.
fn epoch_panels(svg: &mut Svg, series: &[Series], top: f64, rounds: Axis, top_loss: f64) {
    let accuracy = has_accuracy(series);
    let height = if accuracy { 105.0 } else { HEIGHT };
    // Epochs have their own range: the first rounds' losses are far above it.
    let largest = epoch_losses(series).filter(|loss| *loss <= top_loss).fold(0.0, f64::max);
    let least = epoch_losses(series).fold(largest, f64::min);
    let axis = match (largest > 0.0, rounds.log) {
        (false, _) => rounds,
        (true, true) => Axis::log(least * 0.9, largest * 1.1),
        (true, false) => Axis::from_zero(largest),
    };
    let frame = Rect::new(526.0, top, 202.0, height);
    let title = format!("loss after each epoch{}", scale_of(&rounds));
    epochs(svg, series, frame, axis, &title, !accuracy, |row| [Some(row.train_loss), Some(row.test_loss)]);
    if accuracy {
        let frame = Rect::new(526.0, top + HEIGHT - height, 202.0, height);
        let values =
            series.iter().flat_map(|s| &s.tables.epochs).flat_map(|row| [row.train_accuracy, row.test_accuracy]);
        let lowest = values.flatten().fold(1.0, f64::min);
        let y = Axis::linear((100.0 * lowest / 10.0).floor().min(9.0) * 10.0, 100.0);
        epochs(svg, series, frame, y, "accuracy after each epoch (%)", true, |row| {
            [row.train_accuracy.map(|a| 100.0 * a), row.test_accuracy.map(|a| 100.0 * a)]
        });
    }
}

/// A panel of two values per epoch: training set (filled) and test set (open).
fn epochs(
    svg: &mut Svg,
    series: &[Series],
    frame: Rect,
    y: Axis,
    title: &str,
    label_x: bool,
    values: impl Fn(&EpochRow) -> [Option<f64>; 2],
) {
    let last = series.iter().filter_map(|s| s.tables.epochs.last()).map(|row| row.epoch).max().unwrap_or(1);
    let panel = Panel::new(frame, Axis::linear(0.5, last as f64 + 0.5).whole(), y);
    let x = if label_x { "epochs" } else { "" };
    panel.draw(svg, Labels { title, x, ..Labels::default() });
    let every = last.div_ceil(6).max(1);
    // Side by side, where there is room: both losses are often equal.
    let aside = if last <= 12 { 0.13 } else { 0.0 };
    for s in series {
        svg.series(&s.name, |svg| {
            panel.inside(svg, |svg| {
                for (set, name) in [(1, "test set"), (0, "training set")] {
                    let shift = if set == 0 { -aside } else { aside };
                    let points: Vec<(f64, f64)> = s
                        .tables
                        .epochs
                        .iter()
                        .filter_map(|row| values(row)[set].filter(|v| v.is_finite()).map(|v| (row.epoch as f64, v)))
                        .map(|(epoch, value)| (epoch + shift, value))
                        .collect();
                    let stroke = s.style.stroke(if set == 0 { 1.6 } else { 1.0 });
                    panel.curve(svg, &points, stroke.dashed(if set == 0 { "" } else { "3 2" }));
                    for (i, point) in points.iter().enumerate() {
                        if i % every == 0 || i + 1 == points.len() {
                            let (x, value) = (panel.at(point.0, point.1), number(point.1));
                            let epoch = (point.0 - shift).round();
                            let title = format!("{}, epoch {epoch}, {name}: {value}", s.name);
                            svg.titled(&title, |svg| s.style.mark(svg, x, 3.0, set == 0));
                        }
                    }
                }
            });
        });
    }
}

/// Upright strips that say the losses of all series at a round.
fn answers(svg: &mut Svg, series: &[Series], panel: &Panel, window: usize) {
    const STRIPS: usize = 64;
    let lines: Vec<Vec<(f64, f64)>> = series.iter().map(|s| smooth(s, window, usize::MAX)).collect();
    let last = lines.iter().flatten().map(|p| p.0).fold(1.0, f64::max);
    let strips = (last as usize).clamp(1, STRIPS);
    let width = panel.frame.width / strips as f64;
    svg.unseen(|svg| {
        for i in 0..strips {
            let round = (last * (i as f64 + 0.5) / strips as f64).max(1.0).round();
            let at = |line: &Vec<(f64, f64)>| {
                line.binary_search_by(|p| p.0.total_cmp(&round)).ok().map(|found| number(line[found].1))
            };
            let texts: Vec<String> = lines
                .iter()
                .zip(series)
                .filter_map(|(line, s)| at(line).map(|loss| format!("{} {loss}", s.name)))
                .collect();
            if !texts.is_empty() {
                let frame = Rect::new(panel.frame.x + i as f64 * width, panel.frame.y, width, panel.frame.height);
                svg.hit_rect(frame, &format!("round {}: {}", count(round as u64), texts.join(", ")));
            }
        }
    });
}

/// The losses of a series; of long runs the least and largest of each of `buckets` stretches, so that no spike is lost.
fn raw(series: &Series, buckets: usize) -> Vec<(f64, f64)> {
    let rows: Vec<(f64, f64)> = finite(series);
    if rows.len() <= 2 * buckets {
        return rows;
    }
    let size = rows.len().div_ceil(buckets);
    rows.chunks(size)
        .flat_map(|chunk| {
            let least = chunk.iter().min_by(|a, b| a.1.total_cmp(&b.1)).copied();
            let largest = chunk.iter().max_by(|a, b| a.1.total_cmp(&b.1)).copied();
            let mut both: Vec<(f64, f64)> = least.into_iter().chain(largest).collect();
            both.sort_by(|a, b| a.0.total_cmp(&b.0));
            both
        })
        .collect()
}

/// The centred running mean, at most about `points` points; towards both ends over fewer rounds, so that it begins at
/// the first loss.
fn smooth(series: &Series, window: usize, points: usize) -> Vec<(f64, f64)> {
    let rows = finite(series);
    let half = window / 2;
    let step = rows.len().div_ceil(points).max(1);
    let centers = (0..rows.len()).filter(|i| i % step == 0 || i + 1 == rows.len());
    centers
        .filter_map(|i| {
            let half = half.min(i).min(rows.len() - 1 - i);
            let around = &rows[i - half..=i + half];
            mean(around.iter().map(|row| row.1)).map(|loss| (rows[i].0, loss))
        })
        .collect()
}

fn finite(series: &Series) -> Vec<(f64, f64)> {
    let rows = series.tables.rounds.iter().filter(|row| row.loss.is_finite());
    rows.map(|row| (row.round as f64, row.loss)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::{
            figure::Context,
            sample::{self, Kind},
        },
        study::results::RunTables,
    };

    #[test]
    fn the_running_mean_begins_at_the_first_loss() {
        let dir = tempfile::tempdir().unwrap();
        sample::write(dir.path(), Kind::Autoencoder);
        let run = RunTables::read(dir.path()).unwrap();
        let context = Context::of(&run);
        let series = &context.series[0];
        let mean = smooth(series, 23, 260);
        assert_eq!(mean[0].1, series.tables.rounds[0].loss);
        assert_ne!(mean[40].1, series.tables.rounds[40].loss, "further on it is a mean");
    }

    #[test]
    fn without_epochs_there_is_no_panel_for_them() {
        let dir = tempfile::tempdir().unwrap();
        sample::write(dir.path(), Kind::Autoencoder);
        for optimizer in ["sgd", "rmsprop", "adam"] {
            std::fs::remove_file(dir.path().join(optimizer).join("epochs.csv")).unwrap();
        }
        let run = RunTables::read(dir.path()).unwrap();
        let figure = draw(&Context::of(&run).series);
        assert!(!figure.svg.unwrap().contains("after each epoch") && !figure.caption.contains("epoch"));
        assert!(figure.notes.is_empty(), "{:?}", figure.notes);
    }
}
