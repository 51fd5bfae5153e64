//! The whole report on synthetic runs: it renders, says what is missing, and is the same twice.

use super::sample::{self, Kind};
use super::*;

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

/// Checks that tags nest, that attributes are quoted and that ids are unique, as XML (void tags are closed).
fn assert_well_formed(html: &str) {
    let (mut open, mut ids) = (Vec::new(), std::collections::BTreeSet::new());
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
}

#[test]
fn every_kind_of_run_renders_to_a_sound_page() {
    for (name, kind) in KINDS {
        let dir = tempfile::tempdir().unwrap();
        sample::write(dir.path(), kind);
        let html = report(dir.path());
        assert_well_formed(&html);
        for forbidden in ["NaN", "inf\"", "<script", "src=\"", "@import", "url(http"] {
            assert!(!html.contains(forbidden), "{name}: {forbidden}");
        }
        let urls = html.matches("http").count();
        let namespaces = html.matches("xmlns=\"http://www.w3.org/2000/svg\"").count();
        assert_eq!(urls, namespaces, "{name}: only the SVG namespace is a URL");
        if let Ok(keep) = std::env::var("TAYLORSCOPE_KEEP_REPORTS") {
            let keep = Path::new(&keep).join(name);
            sample::write(&keep, kind);
            report(&keep);
        }
    }
}

#[test]
fn advice_stands_with_its_numbers_for_every_layer() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::Autoencoder);
    let html = report(dir.path());
    let advice = html.split("<h3 id=\"advice\">").nth(1).unwrap().split("</section>").next().unwrap();
    assert_eq!(advice.matches("<td class=\"text\">network</td>").count(), 3, "a row for each optimizer's network");
    assert_eq!(advice.matches("<td class=\"text\">layer 10</td>").count(), 3);
    assert!(advice.contains("<td>regret large</td>") || advice.contains("<td>optimum poor</td>"), "{advice}");
    assert!(advice.contains(" of 50: "), "neurons are named");
    // Where every neuron is dead, every region is bad.
    sample::write(dir.path(), Kind::Dead);
    let html = report(dir.path());
    let advice = html.split("<h3 id=\"advice\">").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(advice.contains("50 of 50: 0, 1, 2, 3, …") && !advice.contains("<td>regret large</td>"), "{advice}");
}

#[test]
fn sentences_claim_no_more_than_is_certified() {
    let dir = tempfile::tempdir().unwrap();
    let says = |kind, texts: [&str; 2]| {
        sample::write(dir.path(), kind);
        let html = report(dir.path());
        texts.map(|text| html.contains(text))
    };
    let certain = ["so none of its loss is the optimizer", "is the Taylor optimum, the least"];
    let open = ["would have paid less in the same regions is open", "lies between 0 (0%) and"];
    assert_eq!(says(Kind::NegativeRegret, certain), [true, true]);
    assert_eq!(says(Kind::NegativeRegret, open), [false, false]);
    assert_eq!(says(Kind::Uncertified, certain), [false, false]);
    assert_eq!(says(Kind::Uncertified, open), [true, true]);
    let drawn = ["not certified: optimum or regret", "not certified: the regret may be larger"];
    assert_eq!(says(Kind::NegativeRegret, drawn), [false, false]);
    assert_eq!(says(Kind::Uncertified, drawn), [true, true]);
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
    assert!(html.contains("Exploration: not recorded."));
    assert!(!html.contains("claim-rmsprop-novelty"));

    let bare = tempfile::tempdir().unwrap();
    sample::write(bare.path(), Kind::Bare);
    let html = report(bare.path());
    for text in [
        "Not drawn: no optimizer has rows in rounds.csv",
        "experiment.toml is absent",
        "environment.json is absent",
        "was not measured (no rows in units.csv)",
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
    assert!(html.contains("less than the best fixed weights"));
}

#[test]
fn a_diverged_optimizer_does_not_flatten_the_others() {
    let dir = tempfile::tempdir().unwrap();
    sample::write(dir.path(), Kind::Diverged);
    let html = report(dir.path());
    assert!(html.contains("lie above the frame"));
    assert!(html.contains("Stopped early: the loss is not finite after round 7"));
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
