//! The whole report on synthetic runs: it renders, says what is missing, and is the same twice.

use super::draw::{palette, svg::Svg};
use super::sample::{self, Kind};
use super::*;
use crate::study::tables::{Comparator, Summary, UnitRow, columns, read_rows, write_rows};
use std::collections::BTreeSet;

const KINDS: [(&str, Kind); 9] = [
    ("autoencoder", Kind::Autoencoder),
    ("no-exploration", Kind::NoExploration),
    ("diverged", Kind::Diverged),
    ("one-round", Kind::OneRound),
    ("negative", Kind::NegativeRegret),
    ("uncertified", Kind::Uncertified),
    ("dead", Kind::Dead),
    ("classifier", Kind::Classifier),
    ("bare", Kind::Bare),
];

fn report(dir: &Path) -> String {
    let output = render(&[dir], dir).unwrap();
    fs::read_to_string(output.html).unwrap()
}

/// The page without what stands in its script elements, and that by itself.
fn without_scripts(html: &str) -> (String, Vec<&str>) {
    let (mut rest, mut page, mut scripts) = (html, String::new(), Vec::new());
    while let Some(start) = rest.find("<script") {
        let inside = start + rest[start..].find('>').expect("a tag ends") + 1;
        let end = inside + rest[inside..].find("</script>").expect("a script ends");
        page += &rest[..inside];
        scripts.push(&rest[inside..end]);
        rest = &rest[end..];
    }
    (page + rest, scripts)
}

/// Checks that tags nest, that attributes are quoted, that ids are unique, as XML (void tags are closed), and that links
/// within the page lead somewhere.
fn assert_well_formed(html: &str) {
    let (html, _) = without_scripts(html);
    let (mut open, mut ids) = (Vec::new(), BTreeSet::new());
    let body = html.strip_prefix("<!DOCTYPE html>").unwrap();
    let mut rest = body;
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        assert!(!tag.contains('<'), "stray < before {tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name.trim()), "closing tag");
        } else {
            let name = tag.split([' ', '/']).next().unwrap();
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag}>");
            if let Some((_, id)) = tag.split_once(" id=\"") {
                assert!(ids.insert(id.split('"').next().unwrap()), "twice: {tag}");
            }
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "left open: {open:?}");
    for link in html.split("href=\"#").skip(1) {
        let anchor = link.split('"').next().unwrap();
        assert!(ids.contains(anchor), "#{anchor} leads nowhere");
    }
}

/// Checks that the page holds all it needs: tables as data, one script, which is the template's, and nothing from
/// elsewhere.
fn assert_self_contained(html: &str) {
    let (page, scripts) = without_scripts(html);
    let template = page::tidy(include_str!("../../templates/page.js").to_owned()).unwrap();
    assert_eq!(scripts.len(), 2);
    serde_json::from_str::<std::collections::BTreeMap<String, String>>(scripts[0]).expect("tables are JSON");
    assert_eq!(scripts[1].trim(), template.trim());
    assert!(page.contains("<script type=\"application/json\" id=\"embedded\"></script>\n<script></script>"));
    for forbidden in ["NaN", "inf\"", "src=\"", "@import", "url(http", "<link", "<iframe", " onclick", "javascript:"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for loading in ["fetch(", "XMLHttpRequest", "import ", "innerHTML", "eval("] {
        assert!(!template.contains(loading), "{loading}");
    }
    let urls = page.matches("http").count();
    let namespaces = page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count();
    assert_eq!(urls, namespaces, "only the SVG namespace is a URL");
}

/// Changes the summary of the run in `dir`.
fn change(dir: &Path, of: impl FnOnce(&mut Summary)) {
    let path = dir.join("summary.json");
    let mut summary = Summary::read(&path).unwrap();
    of(&mut summary);
    fs::write(path, serde_json::to_string(&summary).unwrap()).unwrap();
}

/// Changes the final rows of one optimizer.
fn change_units(dir: &Path, label: &str, of: impl Fn(&mut UnitRow)) {
    let path = dir.join(label).join("units.csv");
    let mut rows: Vec<UnitRow> = read_rows(&path).unwrap();
    rows.iter_mut().for_each(of);
    write_rows(&path, columns::UNITS, &rows).unwrap();
}

/// The summary at the top of the page.
fn lead(html: &str) -> &str {
    html.split("<div class=\"lead\">").nth(1).unwrap().split("</div>").next().unwrap()
}

#[test]
fn every_kind_of_run_renders_to_a_sound_page() {
    for (name, kind) in KINDS {
        let dir = tempfile::tempdir().unwrap();
        sample::write(dir.path(), kind);
        let html = report(dir.path());
        assert_well_formed(&html);
        assert_self_contained(&html);
        assert!(html.len() < 3_000_000, "{name}: {} bytes", html.len());
        if let Ok(keep) = std::env::var("TAYLORSCOPE_KEEP_REPORTS") {
            let keep = Path::new(&keep).join(name);
            sample::write(&keep, kind);
            report(&keep);
        }
    }
}

#[test]
fn names_cannot_break_the_page() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::Autoencoder);
    let evil = "</script><script>alert(1)</script><!-- \"'&amp;";
    let label = "sgd<script>'\"&<!--";
    change(dir.path(), |summary| {
        summary.name = evil.into();
        summary.dataset = evil.into();
        summary.layers[0] = evil.into();
        summary.optimizers[0].label = label.into();
        summary.optimizers[0].settings.insert(evil.into(), evil.into());
    });
    fs::rename(dir.path().join("sgd"), dir.path().join(label)).unwrap();
    fs::write(dir.path().join("experiment.toml"), evil).unwrap();
    let html = report(dir.path());
    assert_well_formed(&html);
    assert_self_contained(&html);
    assert!(!html.contains("alert(1)</script>"));
}

#[test]
fn the_summary_says_who_ended_lowest_and_why() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::Autoencoder);
    change(dir.path(), |summary| {
        for (optimizer, loss) in summary.optimizers.iter_mut().zip([0.06, 0.04, 0.05]) {
            optimizer.train_loss = Some(loss);
        }
    });
    let network = |optimum: f64, gap: f64| {
        move |unit: &mut UnitRow| {
            (unit.mean_loss, unit.taylor_optimum, unit.gap) = (0.1, optimum, gap);
            unit.mean_regret = 0.1 - optimum;
        }
    };
    change_units(dir.path(), "sgd", network(0.080, 0.001));
    change_units(dir.path(), "rmsprop", network(0.060, 0.002));
    change_units(dir.path(), "adam", network(0.061, 0.002));
    let html = report(dir.path());
    let text = lead(&html);
    assert!(
        text.starts_with("<p>RMSProp ended lowest (training loss 0.0400), followed by Adam (0.0500) and SGD (0.0600)."),
        "{text}"
    );
    assert!(
        text.contains("Compared with Adam, neither Taylor optimum nor regret can be ranked: the certificates overlap."),
        "{text}"
    );
    assert!(
        text.contains(
            "Compared with SGD, RMSProp visited better regions (Taylor optimum lower by at least 0.0190) but had more \
             regret (by at least 0.0190)."
        ),
        "{text}"
    );
    assert!(html.contains("<td>0.0580 to 0.0600</td><td>0.0400 to 0.0420</td><td>40% to 42%</td>"));
    // Losses that agree to the digits shown are a tie.
    change(dir.path(), |summary| summary.optimizers[2].train_loss = Some(0.04001));
    let html = report(dir.path());
    assert!(
        lead(&html).starts_with("<p>RMSProp and Adam ended equally low (training loss 0.0400 each), followed by SGD")
    );
    // Of a single optimizer there is nothing to compare.
    change(dir.path(), |summary| summary.optimizers.truncate(1));
    let html = report(dir.path());
    assert!(
        lead(&html)
            .contains("at least 0.0200 (20%) and at most 0.0210 (21%) is regret; the rest is the Taylor optimum"),
        "{}",
        lead(&html)
    );
}

#[test]
fn the_page_claims_no_more_than_is_certified() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::Uncertified);
    let html = report(dir.path());
    // Nothing is known of any optimum but that losses are not negative.
    let text = lead(&html);
    assert_eq!(text.matches("neither Taylor optimum nor regret can be ranked").count(), 2, "{text}");
    assert!(!text.contains("at least"), "{text}");
    assert!(html.contains("no layer stands out"));
    change(dir.path(), |summary| summary.optimizers.truncate(1));
    let html = report(dir.path());
    assert!(lead(&html).contains("whether regret is positive cannot be decided"), "{}", lead(&html));
    // Negative regrets that are certified are said to be.
    sample::write(dir.path(), Kind::NegativeRegret);
    change(dir.path(), |summary| summary.optimizers.truncate(1));
    let html = report(dir.path());
    assert!(lead(&html).contains("none is regret: moving weights beat every fixed comparator by at least"));
}

#[test]
fn the_head_says_what_was_set_and_analysed() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::Autoencoder);
    let html = report(dir.path());
    assert!(html.contains("<div><dt>analysed rounds</dt><dd>1–938 of 938</dd></div>"));
    change(dir.path(), |summary| {
        summary.seed = None;
        summary.optimizers[0].settings.insert("momentum".into(), 0.9.into());
        summary.optimizers.iter_mut().for_each(|optimizer| optimizer.window_rounds = 46);
    });
    let html = report(dir.path());
    assert!(html.contains("<dt>seed</dt><dd>–</dd>"));
    assert!(html.contains("<dt>SGD</dt><dd>learning rate 1, momentum 0.9</dd>"));
    assert!(html.contains(
        "<div class=\"partial\"><dt>analysed rounds</dt><dd>1–46 of 938 (regret.window), of neurons all</dd></div>"
    ));
    change(dir.path(), |summary| summary.optimizers[1].sampled_rounds = Some(20));
    let html = report(dir.path());
    assert!(html.contains("RMSProp 20 of 1–46 of 938, evenly spaced (regret.rounds)"));
    assert!(lead(&html).contains("were analysed over different rounds"));
}

#[test]
fn what_is_measured_without_constraint_stands_beside_the_ball() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::Autoencoder);
    change(dir.path(), |summary| summary.headline = Comparator::Ball);
    let html = report(dir.path());
    let table = html.split("id=\"table-optimizers\"").nth(1).unwrap().split("</table>").next().unwrap();
    assert!(table.contains("unconstrained optimum"));
    assert_eq!(table.matches("(far, ").count(), 3 + 3, "at both comparators of this sample, for three optimizers");
    change_units(dir.path(), "adam", |unit| unit.distance = 9.9 * unit.displacement);
    let html = report(dir.path());
    let table = html.split("id=\"table-optimizers\"").nth(1).unwrap().split("</table>").next().unwrap();
    assert_eq!(table.matches("(far, ").count(), 4);
}

#[test]
fn the_figure_of_the_first_screen_is_picked_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::Autoencoder);
    let run = RunTables::read(dir.path()).unwrap();
    let figure = |id: &'static str| Figure {
        id,
        heading: "heading",
        svg: Ok(Svg::new(id, 1.0, 1.0).finish("a figure")),
        caption: "The regret.".into(),
        notes: Vec::new(),
        sources: vec!["sgd/rounds.csv".into()],
    };
    let figures = [figure("training"), figure("split")];
    let html = page::of_run(&run, &figures, &Embedded::of(&figures, dir.path())).unwrap();
    assert_well_formed(&html);
    let first = html.find("<figure id=\"split\">").unwrap();
    assert!(first < html.find("<section id=\"optimizers\">").unwrap());
    assert!(html.contains("The <a class=\"term\" href=\"#term-regret\">regret</a>."));
    assert!(html.contains("<a href=\"#split\">Figure 2</a>") && html.contains("<a href=\"#table-losses\">Table 2</a>"));
}

/// The relative luminance of `#rrggbb`.
fn luminance(color: &str) -> f64 {
    let part = |at: usize| f64::from(u8::from_str_radix(&color[at..at + 2], 16).unwrap()) / 255.0;
    let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
    0.2126 * linear(part(1)) + 0.7152 * linear(part(3)) + 0.0722 * linear(part(5))
}

#[test]
fn figures_keep_their_contrast_on_dark_paper() {
    let css = include_str!("../../templates/style.css");
    let dark = css.split("prefers-color-scheme: dark").nth(1).unwrap().split("@media").next().unwrap();
    let value = |name: &str| {
        let at = dark.find(name).unwrap_or_else(|| panic!("{name} is not set"));
        dark[at + name.len()..].trim_start_matches([':', ' ']).get(..7).unwrap()
    };
    let paper = luminance(value("--paper"));
    let contrast = |color: &str| {
        let other = luminance(color);
        (other.max(paper) + 0.05) / (other.min(paper) + 0.05)
    };
    // What a figure draws in a colour: drawn in another if the style sheet says so.
    let shown = |attribute: &str, color: &'static str| {
        let selector = format!("svg [{attribute}=\"{color}\"] {{ {attribute}: ");
        match dark.split(&selector).nth(1).map(|rest| rest.split(';').next().unwrap()) {
            Some(variable) if variable.starts_with("var(") => value(&variable[4..variable.len() - 1]).to_owned(),
            Some(color) => color.to_owned(),
            None => color.to_owned(),
        }
    };
    for color in palette::ALL {
        for attribute in ["fill", "stroke"] {
            let contrast = contrast(&shown(attribute, color));
            match color {
                palette::PAPER => assert!(contrast == 1.0, "paper is paper"),
                palette::GRID | palette::STRIP => assert!(contrast > 1.05 && contrast < 2.0, "{color}: {contrast}"),
                _ => assert!(contrast > 3.0, "{attribute} {color}: {contrast}"),
            }
        }
    }
}

#[test]
fn layers_are_ranked_by_their_regret() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::Autoencoder);
    let html = report(dir.path());
    let advice = html.split("<h3 id=\"advice\">").nth(1).unwrap().split("</section>").next().unwrap();
    assert_eq!(advice.matches("has the largest regret of any single layer").count(), 3, "{advice}");
    // All regrets are zero: no layer stands out.
    sample::write(dir.path(), Kind::Dead);
    let html = report(dir.path());
    assert_eq!(html.matches("no layer stands out").count(), 3);
}

#[test]
fn equal_tables_give_equal_bytes() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let outputs = dirs.each_ref().map(|dir| {
        sample::write(dir.path(), Kind::Autoencoder);
        render(&[dir.path()], dir.path()).unwrap()
    });
    assert!(fs::read(&outputs[0].html).unwrap() == fs::read(&outputs[1].html).unwrap());
    assert_eq!(outputs[0].figures.len(), 14);
    for (a, b) in outputs[0].figures.iter().zip(&outputs[1].figures) {
        assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{}", a.display());
    }
}

#[test]
fn what_is_missing_is_said_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::NoExploration);
    let html = report(dir.path());
    assert!(html.contains("Not drawn: exploration was not recorded"));
    assert!(html.contains("Exploration was not recorded in this run."));
    assert!(!html.contains("claim-rmsprop-novelty"));

    let bare = tempfile::tempdir().unwrap();
    sample::write(bare.path(), Kind::Bare);
    let html = report(bare.path());
    for text in [
        "Not drawn: no optimizer has rows in rounds.csv",
        "experiment.toml is absent",
        "environment.json is absent",
        "Regret was not measured (no rows in units.csv)",
        "Whether that is better regions or less regret was not measured",
    ] {
        assert!(html.contains(text), "{text}");
    }
}

#[test]
fn an_empty_table_is_as_good_as_none() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::Autoencoder);
    fs::write(dir.path().join("sgd/regret.csv"), "").unwrap();
    fs::write(dir.path().join("sgd/timing.json"), "").unwrap();
    let html = report(dir.path());
    assert!(html.contains("No rows in regret.csv for SGD."));
}

#[test]
fn a_broken_table_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::Autoencoder);
    fs::write(dir.path().join("sgd/rounds.csv"), "round,epoch,loss\n1,1,many\n").unwrap();
    let error = render(&[dir.path()], dir.path()).unwrap_err().to_string();
    assert!(error.contains("rounds.csv") && error.contains("line: 2"), "{error}");
}

#[test]
fn regrets_that_a_log_axis_cannot_show_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::NegativeRegret);
    let html = report(dir.path());
    assert!(html.contains("regrets are zero or negative"));
    assert!(html.contains("No regret is positive"));
    assert!(html.contains("<td>−"), "regrets keep their sign");
}

#[test]
fn a_diverged_optimizer_does_not_flatten_the_others() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::Diverged);
    let html = report(dir.path());
    assert!(html.contains("lie above the frame"));
    assert!(html.contains("SGD stopped early: the loss is not finite after round 7"));
    assert!(html.contains("has no finite final loss"));
}

#[test]
fn several_runs_are_compared_with_relative_links() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, out) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("both"));
    sample::write(&a, Kind::Autoencoder);
    sample::write(&b, Kind::NegativeRegret);
    let output = render(&[&a, &b], &out).unwrap();
    let html = fs::read_to_string(&output.html).unwrap();
    assert_well_formed(&html);
    assert!(html.contains("href=\"../a/report.html\""));
    assert!(html.contains("href=\"../b/sgd/rounds.csv\""));
    assert_eq!(output.figures.len(), 4);
    if let Ok(keep) = std::env::var("TAYLORSCOPE_KEEP_REPORTS") {
        render(&[&a, &b], &Path::new(&keep).join("both")).unwrap();
    }
}

#[test]
fn no_run_is_an_error() {
    assert!(matches!(render(&[], Path::new("x")), Err(ReportError::NoRuns)));
}

#[test]
fn links_lead_from_the_page_to_the_run() {
    assert_eq!(link_to(Path::new("/x/run"), Path::new("/x/run")), "");
    assert_eq!(link_to(Path::new("/x/run"), Path::new("/x/out/cmp")), "../../run/");
    assert_eq!(link_to(Path::new("runs/a/"), Path::new("runs")), "a/");
}
