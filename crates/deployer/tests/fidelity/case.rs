//! What a file of cases holds.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Instructions of a Dockerfile for each of the three versions.
    pub images: [Vec<String>; 3],
    /// What is replaced.
    pub cases: Vec<Case>,
}

/// One container, and what it must be in the end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its number in the list of cases, and what is peculiar to it.
    pub name: String,
    /// What went wrong for somebody.
    pub bug: String,
    /// The body of the create call, without what makes it one of the test's.
    #[serde(default)]
    pub ask: Value,
    /// Networks that it is connected to before its start, and the endpoint's settings in each.
    #[serde(default)]
    pub connect: BTreeMap<String, Value>,
    /// The first version of the API in which it can be asked for.
    #[serde(default)]
    pub since: (u32, u32),
    /// Commands that its owner runs in it before anything is replaced.
    #[serde(default)]
    pub prepare: Vec<Vec<String>>,
    /// What its owner does before anything is pushed: commands, in which `{}` stands for its name; `docker` is the engine's.
    #[serde(default)]
    pub meanwhile: Vec<Vec<String>>,
    /// It is nobody's to replace but stays the same container in this state.
    #[serde(default)]
    pub left: Option<String>,
    /// Where its owner puts a file with `docker cp`.
    #[serde(default)]
    pub put: Option<String>,
    /// Parts in which it may differ from one made anew that has never run.
    #[serde(default)]
    pub differs: Vec<String>,
    /// JSON pointers into the inspection, and what must stand there.
    #[serde(default)]
    pub expect: BTreeMap<String, Value>,
    /// JSON pointers to lists, and an entry that must be, or must not be, among theirs.
    #[serde(default)]
    pub has: BTreeMap<String, Value>,
    #[serde(default)]
    pub lacks: BTreeMap<String, Value>,
    /// Commands that are run in it, and what each must print.
    #[serde(default)]
    pub inside: Vec<(Vec<String>, String)>,
    /// It must not be replaced but stay as it is, for a reason in which these words are.
    #[serde(default)]
    pub refused: Option<String>,
}

impl Group {
    /// Reads a file; `${word}` stands for what the test has made under that word.
    #[track_caller]
    pub fn parse(text: &str, words: &[(&str, String)]) -> Self {
        let filled =
            words.iter().fold(text.to_owned(), |text, (word, made)| text.replace(&format!("${{{word}}}"), made));
        assert!(!filled.contains("${"), "the test makes everything that its file names");
        serde_json::from_str(&filled).unwrap_or_else(|error| panic!("the file of cases: {error}"))
    }
}

impl Case {
    /// What of an inspection is not as the case says; nothing if all is.
    pub fn differences(&self, inspection: &Value) -> Vec<String> {
        let at = |pointer: &str| inspection.pointer(pointer).cloned().unwrap_or(Value::Null);
        let holds = |pointer: &str, entry: &Value| at(pointer).as_array().is_some_and(|list| list.contains(entry));
        let expected = self.expect.iter().filter(|(pointer, value)| at(pointer) != **value);
        let expected = expected.map(|(pointer, value)| format!("{pointer} is {}, not {value}", at(pointer)));
        let had = self.has.iter().filter(|(pointer, entry)| !holds(pointer, entry));
        let had = had.map(|(pointer, entry)| format!("{pointer} is {}, without {entry}", at(pointer)));
        let lacked = self.lacks.iter().filter(|(pointer, entry)| holds(pointer, entry));
        let lacked = lacked.map(|(pointer, entry)| format!("{pointer} is {}, with {entry}", at(pointer)));
        expected.chain(had).chain(lacked).collect()
    }
}
