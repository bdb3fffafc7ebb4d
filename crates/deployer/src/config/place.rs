//! Where a setting was written, so that a message about it can say so the way a compiler does.

use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::ConfigError;

/// The configuration file, or none.
#[derive(Debug, Default)]
pub struct Document {
    path: PathBuf,
    /// Its content; empty if there is none.
    pub text: String,
}

impl Document {
    /// Reads `path`. A file that is not there is as good as an empty one, unless somebody asked for it.
    pub fn read(path: &Path, is_asked_for: bool) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self { path: path.to_owned(), text }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_asked_for => Ok(Self::default()),
            Err(error) => Err(ConfigError::File { path: path.to_owned(), message: error.to_string() }),
        }
    }

    /// The folder that relative paths in it start from.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// `file:line:column` of what lies at `span`, counted from 1, the column in characters.
    pub fn place(&self, span: Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.path.display())
    }
}

/// A setting's text, before it is parsed, with its name and place.
#[derive(Debug)]
pub struct Setting {
    /// What was written.
    pub text: String,
    name: &'static str,
    place: String,
}

impl Setting {
    /// A setting `name` that was written as `text` at `place`.
    pub fn new(name: &'static str, text: String, place: String) -> Self {
        Self { text, name, place }
    }

    /// The error that it cannot be used.
    pub fn wrong(&self, message: impl Display) -> ConfigError {
        ConfigError::Value { place: self.place.clone(), setting: self.name, message: message.to_string() }
    }

    /// The error that it is not what it should be, such as `an address such as 127.0.0.1:80`.
    pub fn is_not(&self, expected: &str) -> ConfigError {
        self.wrong(format!("'{}' is not {expected}", self.text))
    }
}
