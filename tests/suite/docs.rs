//! The documents: every command in them runs as it stands, every setting that they name is one, every link leads
//! somewhere, and the README's figure is that of the README's own run.
//!
//! A command is a line of a block marked `sh`, or an indented line that begins with the program or with cargo. The
//! commands of a document run in its order, in one folder, through the shell, as a reader would copy them.

use crate::support::{AUTOENCODER, Workplace, copy_folder, table};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};
use taylorscope::{data, study::experiment::parse};

/// The documents with commands.
const DOCUMENTS: &[&str] = &[
    "README.md",
    "docs/guide.md",
    "docs/formats.md",
    "docs/promises.md",
    "docs/theory.md",
    "results/README.md",
    "results/exploration/README.md",
    "results/mnist-convnet/README.md",
    "results/cifar10-convnet/README.md",
];

/// What ends a command of the built-in studies within a second or two: arguments put behind it, and why they change
/// nothing that a reader would miss.
const SHORTENED: &[(&str, &[&str], &str)] = &[
    (
        "cargo run --release -- run",
        &["--set 'regret.scales=[\"network\", \"layer\"]'"],
        "the README's figure shows the network and its layers, whose rows do not depend on those of neurons",
    ),
    (
        "taylorscope run",
        &["--set regret.neurons=1", "--set regret.prefixes=2", "--set regret.max_products=4"],
        "the guide goes on with the run's experiment and weights; less work at each scale gives the same files",
    ),
    (
        "taylorscope run digits-classifier --optimizer sgd:0.1 --optimizer adam --epochs 5 --set regret.prefixes=10",
        &["--set regret.neurons=1"],
        "one neuron of a layer is analysed like all",
    ),
    (
        "taylorscope explore digits-autoencoder",
        &["--epochs 1", "--seeds 3", "--optima none", "--factors 0.5", "--epsilons 1"],
        "one epoch, three seeds and one multiple of the rates instead of ten, five and five",
    ),
    ("taylorscope run mnist-autoencoder", ONE_NEURON, WIDE),
    ("taylorscope run mnist-autoencoder --data DIR", ONE_NEURON, WIDE),
    (
        "taylorscope run mnist.toml --data DIR --set training.batch_size=32 --set 'regret.scales=[\"neuron\"]'",
        ONE_NEURON,
        WIDE,
    ),
    (
        "taylorscope run cifar10-convnet --data DIR",
        ON_DIGITS,
        "CIFAR-10 is 180 MB, which are not part of the repository",
    ),
    (
        "taylorscope run cifar10-convnet --data CIFAR --epochs 1",
        ON_DIGITS,
        "CIFAR-10 is 180 MB, which are not part of the repository",
    ),
    (
        "taylorscope run cifar10-convnet --data CIFAR --optimizer adam:0.001 --set 'regret.scales=[]'",
        ON_DIGITS,
        "CIFAR-10 is 180 MB, which are not part of the repository",
    ),
    (
        "taylorscope run cifar10-convnet --data CIFAR --train-only --epochs 1 --set data.validation=30000 \
         --optimizer sgd:0.06",
        &["--set data.dataset=digits", "--set data.validation=300"],
        "CIFAR-10 is 180 MB, which are not part of the repository",
    ),
];

const ONE_NEURON: &[&str] = &["--set regret.neurons=1"];
const WIDE: &str = "neurons of 784 inputs take as long as on all of MNIST, and one of a layer is analysed like all";

/// The network of CIFAR-10 takes the small digits, too: three pools leave one pixel of eight.
const ON_DIGITS: &[&str] = &[
    "--set data.dataset=digits",
    "--set training.epochs=1",
    "--set regret.rounds=1",
    "--set regret.neurons=1",
    "--set regret.max_products=4",
];

/// Commands that end with another code than 0 where there is no network and no published dataset, and with which. That
/// it is not 2 says that the program understood the command.
const WITHOUT_NETWORK: &[(&str, i32, &str)] = &[
    ("taylorscope data fetch mnist", 1, "downloads are compared with published checksums"),
    ("taylorscope data verify cifar10", 1, "there are no files to compare"),
];

/// Commands that do not run here, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo test --release", "it is what runs this test"),
    ("cargo test --release --test suite crash:: -- --ignored", "an hour; a part of it runs with every test"),
    ("cargo test --release --test suite experiments:: -- --ignored", "minutes; a part of it runs with every test"),
    ("python tests/oracle/selftest.py", "minutes; a part of it runs in .ci/python"),
    ("EXECUTIONS=10000000 cargo test --release --lib fuzz:: -- --ignored --nocapture", "as long as one likes"),
    ("taylorscope reproduce fig5 --full", "an hour; it is `explore`, which runs, on MNIST"),
    ("taylorscope reproduce fig5 --full --quick", "two minutes; it is `explore`, which runs"),
    ("taylorscope reproduce fig5 --full --data DIR", "an hour; it is `explore`, which runs, on MNIST"),
    (
        "taylorscope run cifar10-convnet --data CIFAR --optimizer adam:0.0001 --set 'regret.scales=[]' \
         --set 'network.weights=\"epoch37.safetensors\"'",
        "begins with weights that are not in the repository",
    ),
];

/// Something that readers do in the folder they work in.
type Deed = fn(&Workplace);

/// What readers do between commands, as the text beside them says.
const BETWEEN: &[(&str, Deed)] = &[
    // They change the experiment: here to one that takes a fraction of a second.
    ("taylorscope show digits-autoencoder > my.toml", write_experiment),
];

fn write_experiment(place: &Workplace) {
    fs::write(place.path("my.toml"), AUTOENCODER.replace("small-autoencoder", "mine")).unwrap();
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(document: &str) -> String {
    let path = repository().join(document);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The commands of a document, without the remarks behind them.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fence: Option<String> = None;
    for line in text.lines() {
        match (&fence, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => fence = Some(language.trim().to_owned()),
            (Some(_), Some(_)) => fence = None,
            (Some(language), None) if language == "sh" => found.push(command(line)),
            (None, None) if line.starts_with("    ") => {
                let line = line.trim_start();
                if ["taylorscope ", "cargo ", "python", "pip "].iter().any(|start| line.starts_with(start)) {
                    found.push(command(line));
                }
            }
            _ => {}
        }
    }
    found.retain(|command| !command.is_empty());
    found
}

/// The line up to a `#` that begins a remark: one behind a space and outside quotes.
fn command(line: &str) -> String {
    let (mut quote, mut end, mut before) = (None, line.len(), ' ');
    for (at, letter) in line.char_indices() {
        match quote {
            None if letter == '#' && before == ' ' => {
                end = at;
                break;
            }
            None if letter == '\'' || letter == '"' => quote = Some(letter),
            Some(open) if letter == open => quote = None,
            _ => {}
        }
        before = letter;
    }
    line[..end].trim().to_owned()
}

#[test]
fn commands_are_found_in_blocks_and_indented_lines() {
    let text = [
        "text",
        "```sh",
        "# a remark",
        "taylorscope run    # trains",
        "taylorscope run --set 'a=[\"#\"]' # x",
        "",
        "```",
        "    taylorscope tune x",
        "    y = W x",
        "```toml",
        "taylorscope = 1",
        "```",
    ];
    let text = text.join("\n");
    assert_eq!(commands(&text), ["taylorscope run", "taylorscope run --set 'a=[\"#\"]'", "taylorscope tune x"]);
}

/// A folder as a reader of the documents has it, with small datasets in place of the published ones, and traces that
/// another program could have written.
fn place() -> Workplace {
    let place = Workplace::new();
    write_experiment(&place);
    place.run(&["run", "my.toml", "--out", "elsewhere", "--keep-trace", "--set", "regret.scales=[]"]).exits(0);
    copy_folder(&place.path("elsewhere/adam/trace"), &place.path("my-trace"));
    copy_folder(&place.path("elsewhere/sgd/trace"), &place.path("other-trace"));
    fs::remove_dir_all(place.path("elsewhere")).unwrap();
    write_mnist(&place.path("DIR"));
    write_mnist(&place.path("cache/mnist"));
    write_mnist(&place.path("MNIST"));
    place
}

/// MNIST's files with 128 training images and 32 test images: the embedded digits at three times their size.
fn write_mnist(folder: &Path) {
    let digits = data::load("digits", None).unwrap();
    fs::create_dir_all(folder).unwrap();
    for (name, split, count) in [("train", &digits.train, 128), ("t10k", &digits.test, 32)] {
        let mut images = [0, 0, 8, 3].to_vec();
        for size in [count as u32, 28, 28] {
            images.extend(size.to_be_bytes());
        }
        for row in 0..count {
            let small = split.row(row);
            for (y, x) in (0..28).flat_map(|y| (0..28).map(move |x| (y, x))) {
                let inside = (2..26).contains(&y) && (2..26).contains(&x);
                images.push(if inside { (255.0 * small[(y - 2) / 3 * 8 + (x - 2) / 3]) as u8 } else { 0 });
            }
        }
        let mut labels = [0, 0, 8, 1].to_vec();
        labels.extend((count as u32).to_be_bytes());
        labels.extend(split.labels[..count].iter().map(|&label| label as u8));
        fs::write(folder.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
    }
}

/// What the shell runs for a command of a document, and the exit code that it must have; `None` if it does not run
/// here.
fn plan(command: &str) -> Option<(String, i32)> {
    if NOT_RUN.iter().any(|(known, _)| *known == command) {
        return None;
    }
    let mut line = command.to_owned();
    if let Some((_, more, _)) = SHORTENED.iter().find(|(known, ..)| *known == command) {
        line = format!("{line} {}", more.join(" "));
    }
    // What cargo would build first has been built for this test.
    if let Some(arguments) = line.strip_prefix("cargo run --release -- ") {
        line = format!("taylorscope {arguments}");
    } else if let Some(name) = line.strip_prefix("cargo run --release --example ") {
        // Built by `cargo test`, though not by `cargo test --test suite`.
        let example = programs().join("examples").join(name);
        assert!(repository().join(format!("examples/{name}.rs")).exists(), "no example {name}");
        if !example.exists() {
            return None;
        }
        line = example.display().to_string();
    }
    let code = WITHOUT_NETWORK.iter().find(|(known, ..)| *known == command).map_or(0, |(_, code, _)| *code);
    Some((line, code))
}

/// The folder of the built program.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_taylorscope")).parent().unwrap().to_owned()
}

/// Runs all commands of a document in a folder of its own, which is returned.
fn run_all(document: &str) -> Workplace {
    let place = place();
    let path = std::env::join_paths(
        std::iter::once(programs()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let path = path.unwrap();
    let commands = commands(&text_of(document));
    assert!(!commands.is_empty(), "{document} has no commands");
    let mut failures = String::new();
    for command in commands {
        let Some((line, code)) = plan(&command) else { continue };
        let (offline, start) = (code != 0, Instant::now());
        let output = Command::new("sh")
            .args(["-c", &line])
            .current_dir(place.path(""))
            .env("PATH", &path)
            .env("TAYLORSCOPE_DATA", place.path(if offline { "empty-cache" } else { "cache" }))
            .env("TAYLORSCOPE_MIRROR", "http://127.0.0.1:9")
            .env_remove("RAYON_NUM_THREADS")
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        println!("{:.1} s: {line}", start.elapsed().as_secs_f64());
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() != Some(code) || said.contains("panicked") {
            failures += &format!("{command}\n  run as: {line}\n  {}: {}\n", output.status, said.trim());
        } else if let Some((_, next)) = BETWEEN.iter().find(|(known, _)| *known == command) {
            next(&place);
        }
    }
    assert!(failures.is_empty(), "commands of {document} that do not work as they stand:\n{failures}");
    place
}

#[test]
#[cfg(unix)]
fn commands_of_the_readme_work_as_they_stand_and_make_its_figure() {
    let place = run_all("README.md");
    figure_is_of_this_run(&place.path("runs/digits-autoencoder"));
}

#[test]
#[cfg(unix)]
fn commands_of_the_guide_work_as_they_stand() {
    run_all("docs/guide.md");
}

#[test]
#[cfg(unix)]
fn commands_of_the_other_documents_work_as_they_stand() {
    for document in DOCUMENTS {
        let has_commands = commands(&text_of(document)).iter().any(|command| plan(command).is_some());
        if has_commands && !["README.md", "docs/guide.md"].contains(document) {
            run_all(document);
        }
    }
}

#[test]
fn lists_of_exceptions_name_commands_of_the_documents() {
    let known: BTreeSet<String> = DOCUMENTS.iter().flat_map(|document| commands(&text_of(document))).collect();
    let listed = (SHORTENED.iter().map(|(command, ..)| *command))
        .chain(WITHOUT_NETWORK.iter().map(|(command, ..)| *command))
        .chain(NOT_RUN.iter().map(|(command, _)| *command))
        .chain(BETWEEN.iter().map(|(command, _)| *command));
    let unknown: Vec<&str> = listed.filter(|command| !known.contains(*command)).collect();
    assert!(unknown.is_empty(), "no document has these commands any more: {unknown:#?}");
}

#[test]
fn settings_that_the_documents_name_are_settings() {
    let experiment = "digits-convnet";
    let (text, origin) = taylorscope::study::experiment::source(experiment).unwrap();
    let mut found = 0;
    for document in ["README.md", "docs/guide.md", "docs/formats.md"] {
        for span in spans(&text_of(document)) {
            let section = span.split_once('.').map_or("", |(section, _)| section);
            if !["data", "network", "training", "regret", "exploration"].contains(&section)
                || !span.contains('=')
                || span.contains(' ') && !span.contains(" = ")
            {
                continue;
            }
            // `regret.rounds=N` and `dataset = "images:DIR"` are patterns.
            if span.contains("weights") || span.ends_with("=N") {
                continue;
            }
            found += 1;
            let setting = span.replace(" = ", "=");
            let outcome = parse(&text, &origin, std::slice::from_ref(&setting));
            assert!(outcome.is_ok(), "{document}: {setting}: {}", outcome.unwrap_err());
        }
    }
    assert!(found > 10, "only {found} settings were found");
}

/// The words in backquotes, outside blocks.
fn spans(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(|span| span.replace("\\|", "|")));
        }
    }
    found
}

/// Every document of the repository that a reader may open.
fn all_documents() -> Vec<PathBuf> {
    fn visit(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && depth < 3 && !name.starts_with('.') && !["target", "runs"].contains(&&name[..]) {
                visit(&path, depth + 1, found);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    visit(repository(), 0, &mut found);
    found.sort();
    found
}

#[test]
fn links_lead_somewhere() {
    let mut broken = String::new();
    for document in all_documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').map_or((&link[..], None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            let leads = match anchor {
                _ if !target.exists() => false,
                None => true,
                Some(anchor) => anchors(&fs::read_to_string(&target).unwrap()).contains(anchor),
            };
            if !leads {
                broken += &format!("{}: {link}\n", document.strip_prefix(repository()).unwrap().display());
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{broken}");
}

/// The targets of `[...](target)`, outside blocks and backquotes.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced || line.starts_with("    ") {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("");
        for part in prose.split("](").skip(1) {
            found.extend(part.split_once(')').map(|(target, _)| target.to_owned()));
        }
    }
    found
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase();
        kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// The numbers that the README's figure was drawn from, beside the picture; `docs/figures/make` writes both.
const FIGURE: &str = "docs/figures/digits-split.csv";
/// By how much a loss, or an optimum beyond what its gap leaves open, may differ on another machine, in units of the
/// mean loss. Rounding changes where a search that exhausts its budget ends: SGD's optimum at network scale by 4% of
/// the loss, its gap by half.
const FIGURE_TOLERANCE: f64 = 0.02;
/// From this share of the mean loss on a gap is drawn as a large hatched part. No bar may gain or lose one.
const UNCERTIFIED: f64 = 0.1;

/// Checks that the README's figure shows what the README's own run gives: the network and its layers against the ball.
fn figure_is_of_this_run(run: &Path) {
    let picture = FIGURE.replace(".csv", ".png");
    assert!(text_of("README.md").contains(&format!("src=\"{picture}\"")), "the README shows {picture}");
    assert!(repository().join(&picture).exists(), "{picture} is missing");
    let (columns, drawn) = table(&text_of(FIGURE));
    assert_eq!(
        columns,
        ["optimizer", "learning_rate", "scale", "layer", "mean_loss", "taylor_optimum", "gap", "mean_regret"]
    );

    let summary: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(run.join("summary.json")).unwrap()).unwrap();
    let mut found = Vec::new();
    for optimizer in summary["optimizers"].as_array().unwrap() {
        let label = optimizer["label"].as_str().unwrap();
        let (names, units) = table(&fs::read_to_string(run.join(label).join("units.csv")).unwrap());
        let at = |name: &str| names.iter().position(|known| known == name).unwrap();
        for unit in units.iter().filter(|unit| unit[at("scale")] != "neuron" && unit[at("comparator")] == "ball") {
            let mut row = vec![label.to_owned(), optimizer["learning_rate"].to_string()];
            row.extend(columns[2..].iter().map(|name| unit[at(name)].clone()));
            found.push(row);
        }
    }

    let heads = |rows: &[Vec<String>]| {
        let head = |row: &Vec<String>| (row[0].clone(), row[1].parse::<f64>().unwrap(), row[2..4].to_vec());
        rows.iter().map(head).collect::<Vec<_>>()
    };
    assert_eq!(heads(&drawn), heads(&found), "{FIGURE} has other bars than the run; make it anew: docs/figures/make");
    for (drawn, found) in drawn.iter().zip(&found) {
        let bar = |row: &[String]| -> Vec<f64> { row[4..].iter().map(|cell| cell.parse().unwrap()).collect() };
        let (shown, measured) = (bar(drawn), bar(found));
        let [loss, optimum, gap] = [0, 1, 2].map(|at| (shown[at], measured[at]));
        let near = FIGURE_TOLERANCE * loss.1;
        let (low, high) = ((optimum.0 - gap.0, optimum.1 - gap.1), optimum);
        let open = |gap: f64| gap > UNCERTIFIED * loss.1;
        assert!(
            (loss.0 - loss.1).abs() <= near
                && low.0 <= high.1 + near
                && low.1 <= high.0 + near
                && open(gap.0) == open(gap.1),
            "the README's figure is not that of its run at {:?}: loss, optimum, gap and regret are {measured:?}, \
             the figure shows {shown:?}; make it anew: docs/figures/make",
            &found[..4]
        );
    }
}
