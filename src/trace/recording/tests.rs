use super::*;
use crate::trace::TraceError;
use serde_json::json;

fn manifest() -> Value {
    json!({ "input": [2], "layers": [{ "dense": 1 }], "loss": "mse", "target": "values" })
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Records a round of these rows (of two values) with a weight of two values.
fn round(recording: &mut Recording, number: usize, rows: &[[f32; 2]], shape: &[usize]) -> Result<Recorded, TraceError> {
    let (x, y, w) = (bytes(rows.as_flattened()), bytes(&vec![1.0; rows.len()]), bytes(&[number as f32, 2.0]));
    let tensor = |name, shape, bytes| Tensor { name, dtype: Dtype::F32, shape, bytes };
    let (input, targets) = ([rows.len(), 2], [rows.len()]);
    let inputs = tensor("inputs", &input, &x);
    let state = [tensor("0.weight", shape, &w)];
    recording.round(number, 0.5, rows.len(), &[inputs], Some(&tensor("targets", &targets, &y)), &state, &[])
}

fn integers(folder: &Path, shard: usize, name: &str) -> Vec<i64> {
    let bytes = std::fs::read(folder::shard(folder, shard)).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensor(name).unwrap().data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
}

#[test]
fn rows_are_stored_once_and_numbered_as_they_appear() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = Recording::create(folder.path(), manifest(), RecordingOptions::default()).unwrap();
    round(&mut recording, 1, &[[1.0, 2.0], [3.0, 4.0]], &[1, 2]).unwrap();
    round(&mut recording, 2, &[[3.0, 4.0], [1.0, 2.0], [1.0, 2.0]], &[1, 2]).unwrap();
    recording.flush().unwrap();
    round(&mut recording, 4, &[[5.0, 6.0], [3.0, 4.0]], &[1, 2]).unwrap();
    recording.loss(5, 0.25).unwrap();
    recording.close(None, 5, false).unwrap();
    assert_eq!(integers(folder.path(), 0, "rows"), [0, 1, 1, 0, 0]);
    assert_eq!(integers(folder.path(), 0, "sizes"), [2, 3]);
    assert_eq!(integers(folder.path(), 1, "rows"), [2, 1]);
    assert_eq!((integers(folder.path(), 1, "rounds"), integers(folder.path(), 1, "all_rounds")), (vec![4], vec![4, 5]));
    let bytes = std::fs::read(folder::shard(folder.path(), 1)).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("inputs").unwrap().shape(), [1, 2]);
    assert_eq!(tensors.tensor("state.0.weight").unwrap().shape(), [1, 1, 2]);
}

#[test]
fn a_round_that_does_not_fit_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = Recording::create(folder.path(), manifest(), RecordingOptions::default()).unwrap();
    let row = [[1.0, 2.0]];
    round(&mut recording, 3, &row, &[1, 2]).unwrap();
    for (number, rows, shape, word) in [
        (3, &row[..], &[1, 2][..], "after round 3"),
        (4, &row, &[2], "[2]"),
        (4, &row, &[3], "8 bytes"),
        (4, &[], &[1, 2], "empty"),
    ] {
        let error = round(&mut recording, number, rows, shape).unwrap_err();
        assert!(matches!(error, TraceError::Refused { round, .. } if round == number), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    round(&mut recording, 4, &[[7.0, 8.0]], &[1, 2]).unwrap();
    recording.close(None, 4, true).unwrap();
    assert_eq!(integers(folder.path(), 0, "rounds"), [3, 4]);
    assert_eq!(integers(folder.path(), 0, "rows"), [0, 1]);
}

#[test]
fn only_what_is_a_trace_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let create = |overwrite| {
        let options = RecordingOptions { overwrite, ..RecordingOptions::default() };
        Recording::create(folder.path(), manifest(), options)
    };
    let mut recording = create(false).unwrap();
    round(&mut recording, 1, &[[1.0, 2.0]], &[1, 2]).unwrap();
    recording.close(None, 1, true).unwrap();
    assert!(matches!(create(false).unwrap_err(), TraceError::Occupied { .. }));
    drop(create(true).unwrap());
    assert!(!folder::shard(folder.path(), 0).exists());
    std::fs::write(folder.path().join("thesis.tex"), "").unwrap();
    let error = create(true).unwrap_err().to_string();
    assert!(error.contains("thesis.tex") && folder.path().join("manifest.json").exists(), "{error}");
}

#[test]
fn manifests_are_checked_and_can_be_completed() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = manifest();
    wrong["layer"] = 1.into();
    let error = Recording::create(folder.path(), wrong, RecordingOptions::default()).unwrap_err().to_string();
    assert!(error.contains("unknown key \"layer\""), "{error}");
    let options = RecordingOptions { every: 3, ..RecordingOptions::default() };
    let mut recording = Recording::create(folder.path(), manifest(), options).unwrap();
    assert_eq!([1, 2, 3, 4].map(|number| recording.keeps(number)), [true, false, false, true]);
    recording.describe(json!({ "probe": [0, 1] }).as_object().unwrap().clone()).unwrap();
    recording.describe(json!({ "prob": [0] }).as_object().unwrap().clone()).unwrap_err();
    recording.close(None, 0, false).unwrap();
    let text = std::fs::read(folder.path().join("manifest.json")).unwrap();
    let written: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        (&written["probe"], &written["every"], &written["complete"]),
        (&json!([0, 1]), &json!(3), &json!(false))
    );
}

/// What a loop of many small steps hands over: 340 KB of state and 200 KB of inputs, all of them rows that were seen before.
#[test]
#[ignore = "a measurement"]
fn the_time_of_a_round() {
    let folder = tempfile::tempdir().unwrap();
    let options = RecordingOptions { max_bytes: Some(4 << 30), ..RecordingOptions::default() };
    let mut recording = Recording::create(folder.path(), manifest(), options).unwrap();
    let (rows, features) = (64, 784);
    let data: Vec<u8> = (0..1000 * features * 4).map(|i| (i * 7919 % 251) as u8).collect();
    let weights = vec![1u8; 340_000];
    let start = Instant::now();
    let count = 3000;
    for number in 1..=count {
        let first = number * 37 % 900 * features * 4;
        let bytes = &data[first..first + rows * features * 4];
        let inputs = Tensor { name: "inputs", dtype: Dtype::F32, shape: &[rows, features], bytes };
        let state = [Tensor { name: "0.weight", dtype: Dtype::F32, shape: &[85_000], bytes: &weights }];
        recording.round(number, 0.5, rows, &[inputs], None, &state, &[]).unwrap();
    }
    recording.close(None, count, true).unwrap();
    println!("{:.3} ms a round", start.elapsed().as_secs_f64() * 1e3 / count as f64);
}
