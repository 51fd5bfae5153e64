//! Tests of downloading, against a server on the loopback address.

use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::super::archive::tests::tar_gz;
use super::super::checksum::{Checksum, digest};
use super::super::test_server::{Reply, Request, TestServer};
use super::super::verify::{verify, verify_files};
use super::*;

const ONE: &[u8] = b"the content of the first file";
const TWO: &[u8] = b"the content of the second";

/// A dataset of two small files, `one` and `two`.
fn remote() -> Remote {
    let file = |names: &'static [&'static str], content: &[u8]| RemoteFile {
        names,
        checksum: Checksum::Unpacked {
            sha256: Box::leak(digest(content).unwrap().into_boxed_str()),
            bytes: content.len() as u64,
        },
        most_bytes: 100,
    };
    Remote {
        name: "tiny",
        // Nothing listens there: a test that forgets to name its server fails.
        mirrors: &["http://127.0.0.1:9"],
        archive: None,
        files: Box::leak(Box::new([file(&["one", "uno"], ONE), file(&["two", "due"], TWO)])),
        other_version: &[],
    }
}

/// A server that has both files.
fn good_server() -> TestServer {
    TestServer::start(|request| match request.path.as_str() {
        "/tiny/one" => Reply::ok(ONE),
        "/tiny/two" => Reply::ok(TWO),
        _ => Reply::status(404),
    })
}

/// A server that has the second file and answers as told for the first.
fn server_for_one(answer: impl Fn(&Request) -> Reply + Send + 'static) -> TestServer {
    TestServer::start(move |request| match request.path.as_str() {
        "/tiny/one" => answer(request),
        _ => Reply::ok(TWO),
    })
}

fn options(servers: &[&TestServer]) -> FetchOptions {
    FetchOptions {
        mirrors: Some(servers.iter().map(|server| server.url("/")).collect()),
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(5),
        attempts: 3,
    }
}

/// Fetches from the servers; gives the outcome and what the progress said, one word an event.
fn fetch_from(folder: &Path, servers: &[&TestServer]) -> (Result<Vec<PathBuf>, DataError>, Vec<&'static str>) {
    fetch_remote(&remote(), folder, servers)
}

fn fetch_remote(
    remote: &Remote,
    folder: &Path,
    servers: &[&TestServer],
) -> (Result<Vec<PathBuf>, DataError>, Vec<&'static str>) {
    let mut events = Vec::new();
    let outcome = fetch_files(remote, folder, &options(servers), &mut |event| {
        events.push(match event {
            Progress::Present { .. } => "present",
            Progress::Started { .. } => "started",
            Progress::Received { .. } => "received",
            Progress::Failed { .. } => "failed",
            Progress::Unpacked { .. } => "unpacked",
            Progress::Finished { .. } => "finished",
        });
    });
    events.dedup();
    (outcome, events)
}

fn failures(outcome: Result<Vec<PathBuf>, DataError>) -> Vec<MirrorFailure> {
    match outcome {
        Err(DataError::Fetch(FetchError::Mirrors { failures, .. })) => failures,
        other => panic!("{other:?}"),
    }
}

/// Asserts that the folder has both files, right, and nothing else.
fn assert_complete(folder: &Path) {
    assert_eq!(fs::read(folder.join("one")).unwrap(), ONE);
    assert_eq!(fs::read(folder.join("two")).unwrap(), TWO);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 2);
}

#[test]
fn all_files_are_fetched_into_a_new_folder() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("deep").join("folder");
    let (outcome, events) = fetch_from(&folder, &[&good_server()]);
    assert_eq!(outcome.unwrap(), [folder.join("one"), folder.join("two")]);
    assert_complete(&folder);
    let once = ["started", "received", "finished"];
    assert_eq!(events, [once, once].concat());
}

#[test]
fn intact_files_are_not_fetched_again_and_damaged_ones_are() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("one"), "damaged").unwrap();
    fs::write(folder.path().join("two"), TWO).unwrap();
    let server = good_server();
    let (outcome, events) = fetch_from(folder.path(), &[&server]);
    outcome.unwrap();
    assert_complete(folder.path());
    assert_eq!(events, ["started", "received", "finished", "present"]);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn an_intact_file_under_another_of_its_names_will_do() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("uno"), ONE).unwrap();
    let (outcome, _) = fetch_from(folder.path(), &[&good_server()]);
    assert_eq!(outcome.unwrap()[0], folder.path().join("uno"));
    assert!(!folder.path().join("one").exists());
}

#[test]
fn a_download_that_breaks_off_is_continued_by_range() {
    let folder = TempDir::new().unwrap();
    let server = server_for_one(|request| match request.range_start {
        None => Reply::ok(ONE).cut_after(10),
        Some(start) => Reply::range(ONE, start),
    });
    let (outcome, _) = fetch_from(folder.path(), &[&server]);
    outcome.unwrap();
    assert_complete(folder.path());
    let starts: Vec<_> = server.requests().iter().map(|r| r.range_start).collect();
    assert_eq!(starts, [None, Some(10), None]);
}

#[test]
fn a_later_fetch_continues_what_an_earlier_one_left() {
    let folder = TempDir::new().unwrap();
    let broken = server_for_one(|request| match request.range_start {
        None => Reply::ok(ONE).cut_after(10),
        Some(_) => Reply::status(503),
    });
    assert_eq!(failures(fetch_from(folder.path(), &[&broken]).0).len(), 2);
    assert!(!folder.path().join("one").exists());
    assert_eq!(fs::read(folder.path().join("one.part")).unwrap(), &ONE[..10]);

    let repaired = server_for_one(|request| Reply::range(ONE, request.range_start.unwrap()));
    fetch_from(folder.path(), &[&repaired]).0.unwrap();
    assert_complete(folder.path());
}

#[test]
fn without_ranges_a_broken_download_starts_again() {
    let folder = TempDir::new().unwrap();
    let asked = AtomicBool::new(false);
    let server =
        server_for_one(
            move |_| {
                if asked.swap(true, Ordering::SeqCst) { Reply::ok(ONE) } else { Reply::ok(ONE).cut_after(10) }
            },
        );
    fetch_from(folder.path(), &[&server]).0.unwrap();
    assert_complete(folder.path());
}

#[test]
fn a_download_that_always_breaks_off_is_given_up() {
    let folder = TempDir::new().unwrap();
    // One byte an attempt: without a limit on the attempts this would go on to the end.
    fs::write(folder.path().join("one.part"), &ONE[..1]).unwrap();
    let server = server_for_one(|request| Reply::range(ONE, request.range_start.unwrap()).cut_after(1));
    let failures = failures(fetch_from(folder.path(), &[&server]).0);
    assert_eq!(failures.len(), 3);
    assert_eq!(fs::read(folder.path().join("one.part")).unwrap(), &ONE[..4]);
}

#[test]
fn a_wrong_checksum_leads_to_the_next_mirror() {
    let folder = TempDir::new().unwrap();
    let wrong = TestServer::start(|_| Reply::ok(b"<html>please sign in</html>"));
    let (outcome, events) = fetch_from(folder.path(), &[&wrong, &good_server()]);
    outcome.unwrap();
    assert_complete(folder.path());
    assert_eq!(events[..3], ["started", "received", "failed"]);
    assert_eq!(wrong.requests().len(), 2, "one attempt a file");
}

#[test]
fn wrong_bytes_never_get_the_name_of_the_file() {
    let folder = TempDir::new().unwrap();
    let wrong = TestServer::start(|_| Reply::ok(b"wrong"));
    let failures = failures(fetch_from(folder.path(), &[&wrong]).0);
    assert_eq!(failures.len(), 1);
    assert!(failures[0].reason.contains(&digest(&b"wrong"[..]).unwrap()), "{}", failures[0]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_stale_partial_file_does_not_spoil_the_download() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("one.part"), "of another version").unwrap();
    let server = server_for_one(|request| match request.range_start {
        None => Reply::ok(ONE),
        Some(start) => Reply::range(ONE, start),
    });
    fetch_from(folder.path(), &[&server]).0.unwrap();
    assert_complete(folder.path());
}

#[test]
fn a_complete_partial_file_needs_no_server() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("one.part"), ONE).unwrap();
    fs::write(folder.path().join("two.part"), TWO).unwrap();
    fetch_from(folder.path(), &[]).0.unwrap();
    assert_complete(folder.path());
}

#[test]
fn an_error_page_leads_to_the_next_mirror() {
    let folder = TempDir::new().unwrap();
    let empty = TestServer::start(|_| Reply::status(404));
    fetch_from(folder.path(), &[&empty, &good_server()]).0.unwrap();
    assert_complete(folder.path());
}

#[test]
fn the_error_tells_what_went_wrong_at_each_mirror() {
    let folder = TempDir::new().unwrap();
    let (absent, broken) = (TestServer::start(|_| Reply::status(404)), TestServer::start(|_| Reply::ok(b"wrong")));
    let closed = {
        let server = good_server();
        server.url("/")
    };
    let mut options = options(&[&absent, &broken]);
    options.mirrors.as_mut().unwrap().push(closed.clone());
    options.mirrors.as_mut().unwrap().push("no URL at all".to_owned());
    let error = fetch_files(&remote(), folder.path(), &options, &mut |_| {}).unwrap_err().to_string();
    for part in [
        "no mirror gave one",
        "/tiny/one: the server answered 404",
        "not the published file",
        &closed,
        "no URL at all/tiny/one",
        "TAYLORSCOPE_MIRROR",
        &folder.path().display().to_string(),
    ] {
        assert!(error.contains(part), "{part:?} in {error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_empty_partial_file_is_not_left_behind() {
    let folder = TempDir::new().unwrap();
    let absent = TestServer::start(|_| Reply::status(404));
    assert_eq!(failures(fetch_from(folder.path(), &[&absent]).0).len(), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn no_mirrors_is_an_error_that_says_so() {
    let folder = TempDir::new().unwrap();
    let error = fetch_from(folder.path(), &[]).0.unwrap_err().to_string();
    assert!(error.contains("there is no mirror to try"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_with_its_path() {
    let parent = TempDir::new().unwrap();
    let file = parent.path().join("a file");
    fs::write(&file, "").unwrap();
    let error = fetch_from(&file.join("tiny"), &[]).0.unwrap_err();
    assert!(matches!(error, DataError::Io { .. }), "{error}");
    assert!(error.to_string().contains("a file"), "{error}");
}

#[test]
fn mirrors_are_listed_between_spaces() {
    assert_eq!(split_mirrors(""), None);
    assert_eq!(split_mirrors("  "), None);
    assert_eq!(split_mirrors(" http://a/ \n https://b "), Some(vec!["http://a/".to_owned(), "https://b".to_owned()]));
    let options = FetchOptions { mirrors: split_mirrors("http://a/ http://b"), ..FetchOptions::default() };
    assert_eq!(options.urls(&remote(), "one"), ["http://a/tiny/one", "http://b/tiny/one"]);
    assert_eq!(FetchOptions::default().urls(&remote(), "one"), ["http://127.0.0.1:9/one"]);
}

/// The same dataset, published as one archive with the given bytes.
fn archived(bytes: &[u8]) -> Remote {
    let file = |names: &'static [&'static str], content: &[u8]| RemoteFile {
        names,
        checksum: Checksum::Unpacked {
            sha256: Box::leak(digest(content).unwrap().into_boxed_str()),
            bytes: content.len() as u64,
        },
        most_bytes: content.len() as u64,
    };
    let sha256 = Box::leak(digest(bytes).unwrap().into_boxed_str());
    Remote {
        name: "tiny",
        mirrors: &["http://127.0.0.1:9"],
        archive: Some(RemoteFile { names: &["tiny.tar.gz"], checksum: Checksum::Packed(sha256), most_bytes: 1 << 20 }),
        files: Box::leak(Box::new([file(&["one", "tiny/one"], ONE), file(&["two", "tiny/two"], TWO)])),
        other_version: &[],
    }
}

/// A server that has one archive.
fn archive_server(bytes: Vec<u8>) -> TestServer {
    TestServer::start(move |request| match request.path.as_str() {
        "/tiny/tiny.tar.gz" => Reply::ok(&bytes),
        _ => Reply::status(404),
    })
}

#[test]
fn an_archive_is_fetched_unpacked_and_removed() {
    let folder = TempDir::new().unwrap();
    let bytes = tar_gz(&[("tiny/one", ONE), ("tiny/readme", b"text"), ("tiny/two", TWO)]);
    let (remote, server) = (archived(&bytes), archive_server(bytes));
    let (outcome, events) = fetch_remote(&remote, folder.path(), &[&server]);
    assert_eq!(outcome.unwrap(), [folder.path().join("one"), folder.path().join("two")]);
    assert_complete(folder.path());
    assert_eq!(events, ["started", "received", "finished", "unpacked"]);

    let (outcome, events) = fetch_remote(&remote, folder.path(), &[&server]);
    outcome.unwrap();
    assert_eq!((events, server.requests().len()), (vec!["present"], 1), "nothing is fetched twice");

    fs::write(folder.path().join("one"), "damaged").unwrap();
    fetch_remote(&remote, folder.path(), &[&server]).0.unwrap();
    assert_complete(folder.path());
}

#[test]
fn an_archive_without_its_members_is_an_error_that_names_them() {
    let folder = TempDir::new().unwrap();
    let bytes = tar_gz(&[("tiny/one", ONE)]);
    let (remote, server) = (archived(&bytes), archive_server(bytes));
    let error = fetch_remote(&remote, folder.path(), &[&server]).0.unwrap_err().to_string();
    assert!(error.contains("it lacks two") && error.contains("tiny.tar.gz"), "{error}");
    assert!(!folder.path().join("two").exists());
}

#[test]
fn another_archive_is_never_unpacked() {
    let folder = TempDir::new().unwrap();
    let remote = archived(&tar_gz(&[("tiny/one", ONE), ("tiny/two", TWO)]));
    let server = archive_server(tar_gz(&[("tiny/one", TWO), ("tiny/two", ONE)]));
    assert_eq!(failures(fetch_remote(&remote, folder.path(), &[&server]).0).len(), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn verification_reports_every_file() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("uno"), ONE).unwrap();
    let reports = verify_files(&remote(), Some(folder.path())).unwrap();
    let verdicts: Vec<_> = reports.iter().map(|report| &report.verdict).collect();
    assert_eq!(verdicts, [&Verdict::Intact, &Verdict::Missing]);
    assert_eq!(reports[0].path, Some(folder.path().join("uno")));
    assert_eq!((reports[1].file.as_str(), &reports[1].path), ("two", &None));

    fs::write(folder.path().join("two"), "other").unwrap();
    let reports = verify_files(&remote(), Some(folder.path())).unwrap();
    assert!(matches!(reports[1].verdict, Verdict::Differs { .. }));
}

#[test]
fn the_embedded_dataset_needs_no_files() {
    let nowhere = Path::new("there is no such folder");
    let options = FetchOptions::default();
    let fetched = fetch("digits", Some(nowhere), &options, &mut |_| {}).unwrap();
    assert!(fetched.is_empty());
    assert!(verify("digits", Some(nowhere)).unwrap().is_empty());
    assert!(!nowhere.exists());
    let error = fetch("digit", None, &options, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("\"digits\""), "{error}");
}
