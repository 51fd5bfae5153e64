//! Datasets and folders of images as other programs and people leave them.

use crate::support::{CLASSIFIER, Ended, Workplace};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

fn put(workplace: &Workplace, path: &str, bytes: impl AsRef<[u8]>) {
    let path = workplace.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Trains on a dataset for a moment.
fn train(workplace: &Workplace, dataset: &str, classes: usize, more: &[&str]) -> Ended {
    let (dataset, layers) = (format!("data.dataset={dataset}"), format!("network.layers=[{{dense={classes}}}]"));
    let settings = ["training.batch_size=2", "regret.scales=[]", "exploration.probe=2", &layers, &dataset];
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    let arguments: Vec<&str> = ["run", "classifier.toml", "--overwrite", "--out", "run", "--threads", "1"]
        .into_iter()
        .chain(settings)
        .chain(more.iter().copied())
        .collect();
    workplace.run(&arguments)
}

// MNIST and Fashion-MNIST.

fn idx(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
    let sizes = dimensions.iter().flat_map(|size| size.to_be_bytes());
    [0, 0, 8, dimensions.len() as u8].into_iter().chain(sizes).chain(values.iter().copied()).collect()
}

/// The four files, with 4 and 2 images.
fn mnist_files() -> [(&'static str, Vec<u8>); 4] {
    let pixels =
        |images: u32| idx(&[images, 28, 28], &(0..images * 784).map(|i| (i * 7 % 256) as u8).collect::<Vec<_>>());
    [
        ("train-images-idx3-ubyte", pixels(4)),
        ("train-labels-idx1-ubyte", idx(&[4], &[5, 0, 4, 1])),
        ("t10k-images-idx3-ubyte", pixels(2)),
        ("t10k-labels-idx1-ubyte", idx(&[2], &[7, 2])),
    ]
}

#[test]
fn mnist_is_found_where_other_programs_put_it() {
    for (layout, dataset, given) in [
        ("data/MNIST/raw/{}", "mnist", "data"),
        ("data/MNIST/raw/{}", "mnist", "data/MNIST"),
        ("data/MNIST/raw/{}", "mnist", "data/MNIST/raw"),
        ("data/FashionMNIST/raw/{}", "fashion-mnist", "data"),
        ("data/{}/{}", "mnist", "data"),
        ("data/Mnist/{}", "mnist", "data"),
        ("cache/MNIST/raw/{}", "mnist", ""),
    ] {
        let workplace = Workplace::new();
        for (name, bytes) in mnist_files() {
            put(&workplace, &layout.replace("{}", name), bytes);
        }
        let more: &[&str] = if given.is_empty() { &[] } else { &["--data", given] };
        let note = format!("not the labels published as {dataset}");
        train(&workplace, dataset, 10, more).exits(0).says(&[&note]);
        assert!(workplace.json("run/environment.json")["data_notes"][0].as_str().unwrap().contains(&note));
    }
    // Dots for hyphens, capitals.
    let workplace = Workplace::new();
    for (name, bytes) in mnist_files() {
        put(&workplace, &format!("data/{}", name.replace("-idx", ".IDX")), bytes);
    }
    train(&workplace, "mnist", 10, &["--data", "data"]).exits(0);
}

#[test]
fn files_that_are_elsewhere_are_pointed_at() {
    let workplace = Workplace::new();
    for (name, bytes) in mnist_files() {
        put(&workplace, &format!("far/torch/MNIST/raw/{name}"), bytes);
        put(&workplace, &format!("emnist/emnist-digits-{name}"), "");
    }
    let missing = |dataset: &str, folder: &str| train(&workplace, dataset, 10, &["--data", folder]).exits(1);
    missing("mnist", "far").says(&["they are in far/torch: name that folder"]);
    missing("fashion-mnist", "far/torch").says(&[
        "no files of \"fashion-mnist\"",
        "has MNIST)",
        "data fetch fashion-mnist",
    ]);
    missing("mnist", "emnist").says(&["emnist-digits-t10k-images-idx3-ubyte", "data fetch mnist"]);
    put(&workplace, "packed/cifar-10-python.tar.gz", "");
    missing("cifar10", "packed").says(&["packed/cifar-10-python.tar.gz is there, but not unpacked"]);
    let listed = workplace.run(&["data", "list", "--data", "packed"]).exits(0).stdout;
    assert!(listed.contains("not here; packed/cifar-10-python.tar.gz"), "{listed}");
}

#[test]
fn one_dataset_under_the_name_of_another_is_refused() {
    // The labels by which Fashion-MNIST is known: how they begin, and how many there are of each.
    let first = [9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9, 5, 5, 7, 9, 1, 0, 6, 4];
    let rest = (0..10).flat_map(|class| vec![class; 6000 - first.iter().filter(|label| **label == class).count()]);
    let labels: Vec<u8> = first.into_iter().chain(rest).collect();
    let workplace = Workplace::new();
    for (name, bytes) in mnist_files() {
        put(&workplace, &format!("data/{name}"), bytes);
    }
    put(&workplace, "data/train-labels-idx1-ubyte", idx(&[60_000], &labels));
    let refused = train(&workplace, "mnist", 10, &["--data", "data"]).exits(1);
    refused.says(&["data/train-labels-idx1-ubyte: these are the files of \"fashion-mnist\", not of \"mnist\""]);
    assert!(!workplace.path("run").exists());
}

// CIFAR-10 in its Python version.

/// The text of a short string.
fn short(text: &str) -> Vec<u8> {
    [&[b'U', text.len() as u8][..], text.as_bytes()].concat()
}

/// A file of the Python version as Python 2 wrote it: images whose bytes are all `100 + label`.
fn batch(labels: &[u8]) -> Vec<u8> {
    let pixels: Vec<u8> = labels.iter().flat_map(|label| [100 + label; 3072]).collect();
    let count = |n: usize| (n as u32).to_le_bytes();
    let labels: Vec<u8> = labels.iter().flat_map(|label| [b'K', *label]).collect();
    let images = labels.len() / 2;
    [
        &b"\x80\x02}q\x01("[..],
        &short("labels")[..],
        b"]q\x02(",
        &labels,
        b"e",
        &short("data"),
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01K",
        &[images as u8],
        b"M\x00\x0c\x86cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T",
        &count(pixels.len()),
        &pixels,
        b"tbu.",
    ]
    .concat()
}

fn put_cifar(workplace: &Workplace, folder: &str) {
    for (at, name) in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
        .iter()
        .enumerate()
    {
        put(workplace, &format!("{folder}/{name}"), batch(&[at as u8, 9]));
    }
}

#[test]
fn the_python_version_of_cifar10_is_read() {
    let workplace = Workplace::new();
    put_cifar(&workplace, "data/cifar-10-batches-py");
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(short).concat();
    put(
        &workplace,
        "data/cifar-10-batches-py/batches.meta",
        [&b"\x80\x02}("[..], &short("label_names")[..], b"](", &names, b"eu."].concat(),
    );
    let set = taylorscope::data::load("cifar10", Some(&workplace.path("data"))).unwrap();
    assert_eq!((set.train.labels.as_slice(), &set.test.labels[..]), (&[0, 9, 1, 9, 2, 9, 3, 9, 4, 9][..], &[5, 9][..]));
    assert_eq!((set.image, set.class_names[9].as_str(), set.notes.len()), ([3, 32, 32], "j", 0));
    assert_eq!(set.train.row(2), [101.0 / 255.0; 3072]);
    for given in ["data", "data/cifar-10-batches-py"] {
        train(&workplace, "cifar10", 10, &["--data", given]).exits(0);
    }
    let verified = workplace.run(&["data", "verify", "cifar10", "--data", "data"]).exits(0).stdout;
    assert_eq!(verified.matches("no checksum is known").count(), 6, "{verified}");
    fs::remove_file(workplace.path("data/cifar-10-batches-py/data_batch_3")).unwrap();
    train(&workplace, "cifar10", 10, &["--data", "data"])
        .exits(1)
        .says(&["data_batch_3 missing", "cifar-10-batches-py"]);
}

#[test]
fn pickles_run_nothing_and_say_what_is_wrong() {
    let workplace = Workplace::new();
    put_cifar(&workplace, "data");
    let refused = |bytes: &[u8], texts: &[&str]| {
        put(&workplace, "data/data_batch_2", bytes);
        let told = train(&workplace, "cifar10", 10, &["--data", "data"]).exits(1).says(texts);
        told.says(&["data/data_batch_2: ", "taylorscope data fetch cifar10"]);
    };
    refused(
        b"\x80\x02cposix\nsystem\nU\x0etouch executed\x85R.",
        &["it asks to call posix.system", "nothing that a pickle asks for is run"],
    );
    assert!(!workplace.path("executed").exists());
    let whole = batch(&[1, 9]);
    refused(&whole[..whole.len() / 2], &["cut off"]);
    refused(b"", &["cut off"]);
    refused(b"<html>", &["no pickle"]);
    refused(&batch(&[1, 10]), &["record 1 (counted from 0) is 10"]);
    refused(b"\x80\x02}(U\x04dataNu.", &["Python version with no \"labels\", only \"data\""]);
}

// Folders of images.

/// A PNG file of 2x2 pixels, grey or in colour.
fn png(value: u8, colour: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 2, 2);
    encoder.set_color(if colour { png::ColorType::Rgb } else { png::ColorType::Grayscale });
    let pixels = [value].repeat(if colour { 12 } else { 4 });
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

/// Ten images in each of two classes.
fn put_classes(workplace: &Workplace, folder: &str) {
    for (class, base) in [("cat", 0), ("dog", 100)] {
        for i in 0..10 {
            put(workplace, &format!("{folder}/{class}/{i}.png"), png(base + i, false));
        }
    }
}

fn train_on(workplace: &Workplace, folder: &str) -> Ended {
    train(workplace, &format!("images:{folder}"), 2, &[])
}

#[test]
fn parts_are_known_in_any_capitals_and_what_is_not_used_is_told() {
    let workplace = Workplace::new();
    for (folder, parts) in [
        ("capital", &["Train", "TEST"][..]),
        ("three", &["train", "val", "test"]),
        ("val", &["train", "val"]),
        ("valid", &["Training", "valid"]),
        ("more", &["train", "test", "unlabeled"]),
    ] {
        parts.iter().for_each(|part| put_classes(&workplace, &format!("{folder}/{part}")));
    }
    let silent = train_on(&workplace, "capital").exits(0);
    assert!(!silent.stderr.contains("capital"), "{}", silent.stderr);
    train_on(&workplace, "three").exits(0).says(&["val in ", "three is not used"]);
    train_on(&workplace, "val").exits(0).says(&["val has no test folder, so that the images of val are the test set"]);
    train_on(&workplace, "valid").exits(0).says(&["the images of valid are the test set"]);
    train_on(&workplace, "more").exits(0).says(&["unlabeled in ", "more is not used"]);
    // Alone, such names are classes like any other.
    put(&workplace, "classes/invalid/1.png", png(1, false));
    (0..5).for_each(|i| put(&workplace, &format!("classes/valid/{i}.png"), png(i, false)));
    train_on(&workplace, "classes").exits(0);
    fs::remove_dir_all(workplace.path("three/val")).unwrap();
    fs::remove_dir_all(workplace.path("three/test/cat")).unwrap();
    train_on(&workplace, "three").exits(0).says(&["three/test has no images of cat"]);
    fs::remove_dir_all(workplace.path("three/test")).unwrap();
    train_on(&workplace, "three").exits(2).says(&["three has train but no test (or val)"]);
}

#[test]
fn files_that_are_passed_over_are_counted_by_ending() {
    let workplace = Workplace::new();
    put_classes(&workplace, "pets");
    // What systems leave behind, and files beside the classes, are no images that anybody misses.
    for name in ["cat/.DS_Store", "cat/._1.png", "cat/Thumbs.db", "__MACOSX/cat/._1.png", ".cache/1.png", "labels.csv"]
    {
        put(&workplace, &format!("pets/{name}"), "");
    }
    let silent = train_on(&workplace, "pets").exits(0);
    assert!(!silent.stderr.contains("passed over"), "{}", silent.stderr);
    for name in ["a.webp", "b.webp", "c.BMP", "README", "deeper/1.png", "deeper/more/2.png", "deeper/more/.hidden"] {
        put(&workplace, &format!("pets/cat/{name}"), "");
    }
    put(&workplace, "pets/dog/1.PNG", png(9, false));
    put(&workplace, "pets/loose.jpg", "");
    train_on(&workplace, "pets").exits(0).says(&[
        "pets: 6 of cat's 16 files (2 .webp, 2 in folders, 1 .bmp, 1 without ending);",
        "pets belongs to no class",
    ]);
    put(&workplace, "pets/rabbit/1.webp", "");
    train_on(&workplace, "pets").exits(2).says(&["pets/rabbit has no images that are read, only 1 .webp; convert"]);
    // A folder too many, as archives unpack.
    put_classes(&workplace, "outer/pets");
    train_on(&workplace, "outer").exits(2).says(&[
        "outer/pets has no images right in it, only 20 in folders; if those folders are the classes, name this folder",
    ]);
}

#[test]
#[cfg(unix)]
fn links_are_followed_and_those_to_nothing_counted() {
    let workplace = Workplace::new();
    put_classes(&workplace, "real");
    fs::create_dir(workplace.path("links")).unwrap();
    for class in ["cat", "dog"] {
        std::os::unix::fs::symlink(workplace.path("real").join(class), workplace.path("links").join(class)).unwrap();
    }
    std::os::unix::fs::symlink("nowhere.png", workplace.path("real/dog/far.png")).unwrap();
    // A link that leads round.
    std::os::unix::fs::symlink("..", workplace.path("real/dog/up")).unwrap();
    train_on(&workplace, "links").exits(0).says(&["links to nothing"]);
}

#[test]
fn colours_and_orientations_are_told() {
    let workplace = Workplace::new();
    put_classes(&workplace, "pets");
    put(&workplace, "pets/dog/3.png", png(7, true));
    train_on(&workplace, "pets")
        .exits(0)
        .says(&["19 of 20 images are grey; they get three equal channels, as ", "pets/dog/3.png has colours"]);

    // An EXIF orientation of 6 in a JPEG file: in every second image, whose other side is longer then.
    let plain = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images/rgb.jpg")).unwrap();
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let turned = [&plain[..2], exif, &plain[2..]].concat();
    for part in ["train", "test"] {
        put(&workplace, &format!("turned/{part}/a/1.jpg"), &plain);
        put(&workplace, &format!("turned/{part}/b/1.jpg"), &turned);
    }
    let texts = [
        "2 of 4 images have an EXIF orientation, which is not applied (",
        "turned/train/b/1.jpg",
        "ImageOps.exif_transpose",
    ];
    train_on(&workplace, "turned").exits(0).says(&texts);
    put(&workplace, "turned/test/a/2.png", png(1, true));
    train_on(&workplace, "turned").exits(2).says(&["2.png has 2x2 pixels"]);
}

#[test]
fn files_that_cannot_be_used_say_what_to_do_once() {
    let workplace = Workplace::new();
    put_classes(&workplace, "pets");
    let refused = |bytes: &[u8], texts: &[&str]| {
        put(&workplace, "pets/dog/4.png", bytes);
        let told = train_on(&workplace, "pets").exits(2).says(texts);
        assert_eq!(told.stderr.trim_end().lines().count(), 1, "{}", told.stderr);
        assert!(!told.stderr.contains("Some("), "{}", told.stderr);
    };
    refused(b"RIFF\0\0\0\0WEBPVP8L", &["neither a PNG nor a JPEG file but WebP", "convert it"]);
    refused(b"", &["neither a PNG nor a JPEG file but empty"]);
    // A JPEG whose header declares four components, under Adobe's mark for CMYK.
    let adobe = b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0\0";
    let frame = b"\xff\xc0\x00\x14\x08\x00\x02\x00\x02\x04\x01\x11\x00\x02\x11\x00\x03\x11\x00\x04\x11\x00";
    let scan = b"\xff\xda\x00\x0e\x04\x01\x00\x02\x00\x03\x00\x04\x00\x00\x3f\x00";
    refused(
        &[&b"\xff\xd8"[..], adobe, frame, scan, b"\xff\xd9"].concat(),
        &["its colours are CMYK, not grey or RGB", "convert(\"RGB\")"],
    );
    // One that ends within its header.
    refused(b"\xff\xd8\xff\xe1\x01\x00Exif\0\0", &["cannot be decoded", "replace or remove the file"]);
}

// Downloads.

/// A server that sends 1000 bytes of a large file and then nothing; or nothing at all. Gives its URL and, when asked, the requests.
fn slow_server(silent: bool) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let log = requests.clone();
    thread::spawn(move || {
        let answer = |mut stream: TcpStream| -> Option<TcpStream> {
            let head: Vec<String> =
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let start = head.iter().find_map(|line| {
                line.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
            });
            log.lock().unwrap().push(head.join("\n"));
            if !silent {
                let head = match start {
                    None => "HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n".to_owned(),
                    Some(start) => format!(
                        "HTTP/1.1 206 Partial\r\nContent-Range: bytes {start}-8999999/9000000\r\nContent-Length: {}\r\n\r\n",
                        9_000_000 - start
                    ),
                };
                stream.write_all(head.as_bytes()).ok()?;
                stream.write_all(&[7; 1000]).ok()?;
            }
            Some(stream)
        };
        // Connections stay open until the test ends.
        let _open: Vec<_> = listener.incoming().map_while(Result::ok).map(answer).collect();
    });
    (url, requests)
}

fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
#[cfg(unix)]
fn a_signal_ends_a_download_at_once_and_the_next_one_goes_on() {
    let workplace = Workplace::new();
    let (part, size) =
        ("data/mnist/train-images-idx3-ubyte.gz.part", |path: &Path| fs::metadata(path).map_or(0, |m| m.len()));
    let stopped = |url: &str, signal: &str, ready: &dyn Fn() -> bool| -> Ended {
        let mut command = workplace.command(&["data", "fetch", "mnist", "--data", "data"]);
        let command = command.env("TAYLORSCOPE_MIRROR", url).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        until("the download begins", ready);
        let start = Instant::now();
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }.exits(1)
    };
    // A server that is silent from the beginning.
    let (url, requests) = slow_server(true);
    stopped(&url, "-INT", &|| !requests.lock().unwrap().is_empty()).says(&["stopped before anything came"]);
    // Servers that fall silent.
    let (url, requests) = slow_server(false);
    let path = workplace.path(part);
    stopped(&url, "-INT", &|| size(&path) == 1000).says(&["behind the 1000 bytes of train-images-idx3-ubyte.gz"]);
    stopped(&url, "-TERM", &|| size(&path) == 2000).says(&["behind the 2000 bytes"]);
    let requests = requests.lock().unwrap();
    assert!(requests[1].to_lowercase().contains("range: bytes=1000-"), "{requests:?}");
    assert_eq!(fs::read(&path).unwrap(), [7; 2000]);
}

#[test]
fn a_machine_without_curl_and_wget_is_told_what_to_do() {
    let workplace = Workplace::new();
    let mut command = workplace.command(&["data", "fetch", "mnist", "--data", "data"]);
    let output = command.env("PATH", workplace.path("empty")).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let ended =
        Ended { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }.exits(1);
    ended.says(&["neither curl nor wget", "https://", "data/mnist as train-images-idx3-ubyte.gz"]);
    assert_eq!(fs::read_dir(workplace.path("data/mnist")).unwrap().count(), 0);
}

#[test]
fn notes_on_the_data_reach_every_command_that_trains() {
    let workplace = Workplace::new();
    put_classes(&workplace, "pets");
    put(&workplace, "pets/cat/1.gif", "");
    let text = CLASSIFIER
        .replace("\"digits\"", "\"images:pets\"")
        .replace("{ dense = 10 }", "{ dense = 2 }")
        .replace("batch_size = 100", "batch_size = 4");
    put(&workplace, "pets.toml", text);
    let note = "1 of cat's 11 files (1 .gif)";
    workplace.run(&["run", "pets.toml", "--train-only"]).exits(0).says(&[note]);
    let tune = ["tune", "pets.toml", "--seeds", "1", "--refine", "0", "--out", "tuned"];
    workplace.run(&tune).exits(0).says(&[note]);
    let quiet = workplace.run(&["run", "pets.toml", "--train-only", "--quiet"]).exits(0);
    assert_eq!(quiet.stderr, "");
}
