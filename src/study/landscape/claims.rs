//! What figure 1 shows: kinks and memory of gradients against depth, with 95% intervals over random networks.
//!
//! Every sample is a network from its own seed on a segment of its own, so intervals are over samples. Nothing is
//! trained and no rate is chosen. The rule of verdicts is that of the exploration study.

use super::{
    LandscapeTables,
    rows::{AutocorrelationRow, GrowthRow, Origin},
};
use crate::study::{
    claims::{Claim, Verdict},
    explore::claims::{Side, verdict},
    numbers::count,
    statistics::Interval,
};

/// How the intervals of a claim give its verdict.
pub const RULE: &str = "A claim is supported if all of its intervals lie on the claimed side of zero, not supported \
                        if none does and at least one lies on the other side, and undecided otherwise. Intervals are \
                        Student's, at 95%, over random networks; they are not corrected for the number of claims.";

/// The lag, as a share of the segment, at which autocorrelations are compared.
const LAG: f64 = 0.1;

/// The claims that the tables can speak to; none without `growth.csv`.
pub fn evaluate(tables: &LandscapeTables) -> Vec<Claim> {
    [tents_double(&tables.growth), deeper_has_more_kinks(&tables.growth), deeper_forgets_sooner(tables)]
        .into_iter()
        .flatten()
        .collect()
}

/// The counts of constructed networks are exact, so there is no interval.
fn tents_double(rows: &[GrowthRow]) -> Option<Claim> {
    let tents: Vec<&GrowthRow> = rows.iter().filter(|row| row.network == Origin::Tent).collect();
    let deepest = tents.iter().map(|row| row.depth).max()?;
    let expected = |row: &GrowthRow| 2f64.powi(row.depth as i32) - 1.0;
    let wrong = tents.iter().filter(|row| row.mean_kinks != expected(row)).count();
    Some(Claim {
        id: "tents-double".into(),
        text: "The number of kinks along a segment can grow exponentially with depth: tent networks double it with \
               every layer."
            .into(),
        measured: format!(
            "Tent networks of 1 to {deepest} layers, counted exactly: {} of {} have 2^depth − 1 kinks.",
            tents.len() - wrong,
            count(tents.len() as u64)
        ),
        verdict: if wrong == 0 { Verdict::Supported } else { Verdict::NotSupported },
        source: "section 1, figure 1; Telgarsky 2016".into(),
    })
}

/// A difference of means with Student's interval, from standard errors of both over `samples` each.
fn difference(deep: (f64, f64), shallow: (f64, f64), samples: usize) -> Interval {
    Interval::of_mean(deep.0 - shallow.0, deep.1.hypot(shallow.1), samples)
}

fn conclude(
    (id, text, lead, source): (&str, &str, String, &str),
    claimed: Side,
    found: Vec<(String, Option<Interval>)>,
    samples: usize,
) -> Claim {
    let (names, cells): (Vec<String>, Vec<Option<Interval>>) = found.into_iter().unzip();
    let (verdict, reason) = verdict(&cells, &names, claimed, samples, "sample");
    let known = names.iter().zip(&cells).filter_map(|(name, cell)| Some(format!("{name} {}", cell.as_ref()?)));
    let known: Vec<String> = known.collect();
    let because = reason.map_or_else(String::new, |reason| format!(" Undecided: {reason}."));
    Claim {
        id: id.into(),
        text: text.into(),
        measured: format!(
            "{lead}: mean and 95% interval over {samples} networks of each shape, claimed {}: {}.{because}",
            claimed.words(),
            known.join(", ")
        ),
        verdict,
        source: source.into(),
    }
}

fn deeper_has_more_kinks(rows: &[GrowthRow]) -> Option<Claim> {
    let random: Vec<&GrowthRow> = rows.iter().filter(|row| row.network == Origin::Random).collect();
    let samples = random.iter().map(|row| row.samples).min()?;
    let mean = |row: &GrowthRow| Some((row.mean_kinks, row.deviation? / (row.samples as f64).sqrt()));
    let pairs = random.windows(2).filter(|pair| pair[0].width == pair[1].width && pair[0].depth < pair[1].depth);
    let found: Vec<(String, Option<Interval>)> = pairs
        .map(|pair| {
            let name = format!("width {}, {} to {} layers", pair[0].width, pair[0].depth, pair[1].depth);
            let interval = mean(pair[1]).zip(mean(pair[0])).map(|(deep, shallow)| difference(deep, shallow, samples));
            (name, interval)
        })
        .collect();
    (!found.is_empty()).then(|| {
        let wording = (
            "deeper-has-more-kinks",
            "In random networks of one width, more layers make more kinks along a segment.",
            "Kinks on a segment between datapoints, difference between neighbouring depths".to_owned(),
            "section 1, figure 1",
        );
        conclude(wording, Side::Above, found, samples)
    })
}

fn deeper_forgets_sooner(tables: &LandscapeTables) -> Option<Claim> {
    let rows = &tables.autocorrelation;
    let nearest = rows.iter().map(|row| row.lag).min_by(|a, b| (a - LAG).abs().total_cmp(&(b - LAG).abs()))?;
    let at: Vec<_> = rows.iter().filter(|row| row.lag == nearest).collect();
    let samples = tables.growth.iter().filter(|row| row.network == Origin::Random).map(|row| row.samples).min()?;
    let value = |row: &AutocorrelationRow| Some((row.autocorrelation, row.standard_error?));
    let found: Vec<(String, Option<Interval>)> = at
        .windows(2)
        .map(|pair| {
            let interval = value(pair[1]).zip(value(pair[0])).map(|(deep, shallow)| difference(deep, shallow, samples));
            (format!("{} to {} layers", pair[0].depth, pair[1].depth), interval)
        })
        .collect();
    (!found.is_empty()).then(|| {
        let wording = (
            "deeper-forgets-sooner",
            "The deeper a random network, the sooner its gradient decorrelates along a segment.",
            format!(
                "Autocorrelation of the gradient at a lag of {nearest:.2} of the segment, difference between \
                     neighbouring depths"
            ),
            "section 1, figure 1; Balduzzi et al. 2017, The shattered gradients problem",
        );
        conclude(wording, Side::Below, found, samples)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::landscape::{
        Along, What,
        growth::{GrowthSettings, find},
        results::rows,
        rows::{Kind, LandscapeSummary, SegmentSummary},
    };
    use crate::train::Examples;

    fn tables(growth: Vec<GrowthRow>, autocorrelation: Vec<AutocorrelationRow>) -> LandscapeTables {
        let summary = LandscapeSummary {
            format: 1,
            version: String::new(),
            subject: String::new(),
            dataset: String::new(),
            loss: String::new(),
            layers: Vec::new(),
            along: What::Segment(Along::Input),
            parameter: String::new(),
            from: 0.0,
            to: 1.0,
            datapoints: Vec::new(),
            pieces: 0,
            method: String::new(),
            output: 0,
            start: 0.0,
            kind: Kind::Segment(SegmentSummary { kinks: 0, degree: 1, start_slope: 0.0 }),
        };
        LandscapeTables {
            summary,
            kinks: Vec::new(),
            pieces: Vec::new(),
            steps: Vec::new(),
            updates: Vec::new(),
            regions: Vec::new(),
            growth,
            autocorrelation,
            functions: Vec::new(),
        }
    }

    fn of(claims: &[Claim], id: &str) -> Claim {
        claims.iter().find(|claim| claim.id == id).unwrap_or_else(|| panic!("no claim {id}")).clone()
    }

    #[test]
    fn figure_1_is_judged_from_its_own_tables() {
        let inputs: Vec<f64> = (0..40 * 8).map(|i| ((i * i * 7 + i) as f64).sin()).collect();
        let data = Examples::autoencoder(&inputs, 8);
        let dir = tempfile::tempdir().unwrap();
        let settings = GrowthSettings {
            tents: 5,
            depths: vec![1, 2, 4],
            widths: vec![16],
            autocorrelation_width: 16,
            shown: vec![(1, 16)],
            ..GrowthSettings::new(12, 0)
        };
        let stop = std::sync::atomic::AtomicBool::new(false);
        find(&settings, &data, usize::MAX, &stop, &mut |_| ()).unwrap().write(dir.path()).unwrap();
        let growth: Vec<GrowthRow> = rows(dir.path(), "growth.csv").unwrap();
        let autocorrelation: Vec<AutocorrelationRow> = rows(dir.path(), "autocorrelation.csv").unwrap();
        let mut tables = tables(growth, autocorrelation);
        let claims = evaluate(&tables);
        assert_eq!(claims.len(), 3);
        assert_eq!(of(&claims, "tents-double").verdict, Verdict::Supported);
        let kinks = of(&claims, "deeper-has-more-kinks");
        assert_eq!(kinks.verdict, Verdict::Supported, "{}", kinks.measured);
        assert!(kinks.measured.contains("width 16, 1 to 2 layers"), "{}", kinks.measured);
        // Spreads as large as the means leave it open, and older tables have none.
        tables.growth.iter_mut().for_each(|row| row.deviation = row.deviation.map(|_| 40.0 * row.mean_kinks));
        assert_eq!(of(&evaluate(&tables), "deeper-has-more-kinks").verdict, Verdict::Undecided);
        tables.growth.iter_mut().for_each(|row| row.deviation = None);
        let old = of(&evaluate(&tables), "deeper-has-more-kinks");
        assert!(old.verdict == Verdict::Undecided && old.measured.contains("not measured"), "{}", old.measured);
        tables.growth[2].mean_kinks += 1.0;
        assert_eq!(of(&evaluate(&tables), "tents-double").verdict, Verdict::NotSupported);
    }

    #[test]
    fn autocorrelations_that_fall_with_depth_are_told_from_those_that_rise() {
        let growth = |depth| GrowthRow {
            network: Origin::Random,
            depth,
            width: 8,
            units: 8 * depth,
            samples: 10,
            mean_kinks: 1.0,
            least_kinks: 1,
            most_kinks: 1,
            deviation: Some(0.0),
        };
        let row = |depth: usize, value: f64| AutocorrelationRow {
            depth,
            width: 8,
            lag: 0.1,
            autocorrelation: value,
            standard_error: Some(0.01),
        };
        let judged = |values: [f64; 2]| {
            let rows = vec![row(1, values[0]), row(2, values[1])];
            of(&evaluate(&tables(vec![growth(1), growth(2)], rows)), "deeper-forgets-sooner").verdict
        };
        assert_eq!(judged([0.5, 0.4]), Verdict::Supported);
        assert_eq!(judged([0.4, 0.5]), Verdict::NotSupported);
        assert_eq!(judged([0.5, 0.49]), Verdict::Undecided);
    }
}
