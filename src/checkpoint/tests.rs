use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Kind {
    #[default]
    Plain,
    Other,
}

impl Choice for Kind {
    const ALL: &'static [Self] = &[Kind::Plain, Kind::Other];
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Row {
    kind: Kind,
    place: Option<usize>,
    value: f64,
    certain: bool,
}

impl Record for Row {
    fn persist(records: &mut [Self], store: &mut Store) -> Result<(), StoreError> {
        store.column("kind", records, |row| &mut row.kind)?;
        store.column("place", records, |row| &mut row.place)?;
        store.column("value", records, |row| &mut row.value)?;
        store.column("certain", records, |row| &mut row.certain)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    count: usize,
    fixed: [f64; 3],
    list: Vec<f32>,
    words: Vec<u64>,
    rows: Vec<Vec<f64>>,
    table: BTreeMap<String, Vec<f64>>,
    records: Vec<Row>,
    nothing: Vec<Row>,
    ending: Option<Kind>,
}

impl Persist for State {
    fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.count("count", &mut self.count)?;
        store.values("fixed", &mut self.fixed)?;
        store.part("inner", |store| {
            store.list("list", &mut self.list)?;
            store.list("words", &mut self.words)
        })?;
        store.rows("rows", &mut self.rows, 2)?;
        store.part("table", |store| store.table(&mut self.table))?;
        store.record_list("records", &mut self.records, Row::default)?;
        store.record_list("nothing", &mut self.nothing, Row::default)?;
        store.value("ending", &mut self.ending)
    }
}

fn state() -> State {
    State {
        count: 7,
        fixed: [0.1, -0.0, f64::MIN_POSITIVE / 2.0],
        list: vec![1.0 / 3.0, f32::INFINITY],
        words: vec![u64::MAX, 0],
        rows: vec![vec![1.0, 2.0], vec![3.0, 4.0]],
        table: BTreeMap::from([("layer 0".into(), vec![1.5]), ("network".into(), Vec::new())]),
        records: vec![
            Row { kind: Kind::Other, place: Some(usize::MAX), value: -0.0, certain: true },
            Row { kind: Kind::Plain, place: None, value: 0.5, certain: false },
        ],
        nothing: Vec::new(),
        ending: Some(Kind::Other),
    }
}

fn identity(experiment: &str) -> Identity {
    Identity::from([("experiment".to_owned(), experiment.to_owned())])
}

#[test]
fn a_state_comes_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut found = State::default();
    assert!(!load(&path, &identity("a"), &mut found).unwrap(), "there is none yet");
    save(&path, &identity("a"), &mut state()).unwrap();
    assert!(load(&path, &identity("a"), &mut found).unwrap());
    assert_eq!(found, state());
    assert!(found.fixed[1].is_sign_negative());
    assert_eq!(*Saved::open(&path).unwrap().unwrap().identity(), identity("a"));
    // Any reader of safetensors can open it.
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(SafeTensors::deserialize(&bytes).unwrap().tensor("inner.words").unwrap().shape(), [2]);
}

#[test]
fn states_of_others_and_of_other_versions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    save(&path, &identity("a"), &mut state()).unwrap();
    let error = load(&path, &identity("b"), &mut State::default()).unwrap_err().to_string();
    assert!(error.contains("another experiment") && error.contains("remove it"), "{error}");
    let bytes = std::fs::read(&path).unwrap();
    let length = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..length]).unwrap();
    for (format, reason) in [(FORMAT + 1, "newer"), (FORMAT - 1, "earlier")] {
        let other = header.replace(&format!("\"format\":\"{FORMAT}\""), &format!("\"format\":\"{format}\""));
        assert_ne!(other, header);
        std::fs::write(&path, [&bytes[..8], other.as_bytes(), &bytes[length..]].concat()).unwrap();
        let error = load(&path, &identity("a"), &mut State::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("format {format}")) && error.contains(reason), "{error}");
    }
}

#[test]
fn parts_that_are_missing_or_of_another_length_are_named() {
    struct Other(Vec<f64>);
    impl Persist for Other {
        fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
            store.values("fixed", &mut self.0)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    save(&path, &identity("a"), &mut Other(vec![1.0])).unwrap();
    let error = load(&path, &identity("a"), &mut Other(vec![0.0; 2])).unwrap_err().to_string();
    assert!(error.contains("\"fixed\"") && error.contains("1 values instead of 2"), "{error}");
    let error = load(&path, &identity("a"), &mut State::default()).unwrap_err().to_string();
    assert!(error.contains("\"count\"") && error.contains("missing"), "{error}");
    for end in 0..std::fs::metadata(&path).unwrap().len() as usize {
        let bytes = std::fs::read(&path).unwrap();
        let cut = folder.path().join("cut");
        std::fs::write(&cut, &bytes[..end]).unwrap();
        let error = load(&cut, &identity("a"), &mut Other(vec![0.0])).unwrap_err();
        assert!(matches!(error, CheckpointError::Malformed { .. }), "{end}: {error}");
    }
}

#[test]
fn values_that_a_field_does_not_have_are_refused() {
    struct Bytes(&'static str, u8);
    impl Persist for Bytes {
        fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
            store.value(self.0, &mut self.1)
        }
    }
    struct Fields;
    impl Persist for Fields {
        fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
            let (mut kind, mut certain) = (Kind::Plain, false);
            store.value("kind", &mut kind).or_else(|_| store.value("certain", &mut certain))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for name in ["kind", "certain"] {
        save(&path, &identity("a"), &mut Bytes(name, 1)).unwrap();
        assert!(load(&path, &identity("a"), &mut Fields).unwrap());
    }
    save(&path, &identity("a"), &mut Bytes("certain", 2)).unwrap();
    let error = load(&path, &identity("a"), &mut Fields).unwrap_err().to_string();
    assert!(error.contains("\"certain\": 2 is not one of its values"), "{error}");
}

#[test]
fn records_of_which_a_field_has_another_number_of_values_are_refused() {
    struct Uneven;
    impl Persist for Uneven {
        fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
            store.part("records", |store| {
                store.fields("kind", &mut [Kind::Plain; 2])?;
                store.fields("place", &mut [None::<usize>; 2])?;
                store.values("value", &mut [0.0; 3])?;
                store.fields("certain", &mut [true; 2])
            })
        }
    }
    struct Rows(Vec<Row>);
    impl Persist for Rows {
        fn persist(&mut self, store: &mut Store) -> Result<(), StoreError> {
            store.record_list("records", &mut self.0, Row::default)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    save(&path, &identity("a"), &mut Uneven).unwrap();
    let error = load(&path, &identity("a"), &mut Rows(Vec::new())).unwrap_err().to_string();
    assert!(error.contains("\"records.value\": has 3 values instead of 2"), "{error}");
}
