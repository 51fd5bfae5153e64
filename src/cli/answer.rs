//! How a command ended, for people and as the object of `--json`.

use serde_json::{Map, Value, json};

/// How a command ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Done,
    /// Results were written, but something in them failed or was interrupted.
    Incomplete,
}

impl Status {
    pub fn of(complete: bool) -> Self {
        if complete { Status::Done } else { Status::Incomplete }
    }

    pub fn exit_code(self) -> u8 {
        match self {
            Status::Done => 0,
            Status::Incomplete => 1,
        }
    }
}

/// What a command has to say: its status, and the object that `--json` prints.
#[derive(Debug)]
pub struct Answer {
    pub status: Status,
    object: Map<String, Value>,
}

impl Answer {
    /// `object` is a JSON object; what all commands have is added to it.
    pub fn new(status: Status, object: Value) -> Self {
        let object = match object {
            Value::Object(object) => object,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        Self { status, object }
    }

    /// The line for standard output.
    pub fn line(mut self, command: &str) -> String {
        self.object.insert("command".to_owned(), json!(command));
        self.object.insert("exit_code".to_owned(), json!(self.status.exit_code()));
        Value::Object(self.object).to_string()
    }
}

/// The line of a command that ended with an error.
pub fn failure(error: &str, exit_code: u8) -> String {
    json!({ "error": error, "exit_code": exit_code }).to_string()
}

/// The text of an error with its causes. A cause that the text before it contains already is not repeated.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read x.toml: {source}")]
    struct Unreadable {
        source: std::io::Error,
    }

    #[test]
    fn causes_are_told_once() {
        let unreadable = || Unreadable { source: std::io::Error::other("no such file") };
        assert_eq!(describe(&unreadable().into()), "cannot read x.toml: no such file");
        let within = Err::<(), _>(unreadable()).context("the experiment of the run").unwrap_err();
        assert_eq!(describe(&within), "the experiment of the run: cannot read x.toml: no such file");
    }

    #[test]
    fn objects_have_what_all_commands_have() {
        let answer = Answer::new(Status::Incomplete, json!({ "run": "runs/x" }));
        assert_eq!(answer.line("run"), "{\"command\":\"run\",\"exit_code\":1,\"run\":\"runs/x\"}");
        assert_eq!(failure("no", 2), "{\"error\":\"no\",\"exit_code\":2}");
    }
}
