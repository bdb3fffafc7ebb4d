//! What keeps an installation from working: facts in, findings out.
//!
//! The facts are what was seen of the engine, the state directory, the daemon and the clocks; who gathers them is not
//! known here. Each check is one function that says what was found and, where something is to be done, what.

mod facts;
mod machine;
mod service;

use std::fmt;

use serde::Serialize;

pub use facts::{
    Away, Clock, Daemon, Engine, EngineFacts, Facts, Health, Helper, Listener, Lock, Logins, Route, Settings, StateDir,
    Store,
};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but not as somebody may believe; or it cannot be told.
    Warning,
    /// It keeps the installation from working.
    Problem,
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do, if something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// That something is as it should be.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), hint: None }
    }

    /// That something is not as somebody may believe.
    pub fn warning(check: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::ok(check, found) }
    }

    /// That something keeps the installation from working.
    pub fn problem(check: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Problem, ..Self::ok(check, found) }
    }

    /// The same, with what to do.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Finding {
    /// One line for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        };
        write!(f, "{level:<7}  {:<14}  {}", self.check, self.found)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Judges everything, in the order in which one thing rests on another.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let Facts { settings, engine, logins, state_dir, daemon, store, listener, clock, version } = facts;
    let mut findings = vec![service::configuration(settings)];
    findings.extend(machine::engine(engine));
    findings.push(machine::logins(logins));
    findings.push(service::state_dir(state_dir, daemon));
    findings.extend(service::daemon(settings, daemon, version));
    findings.push(service::store(store, daemon));
    findings.extend(service::hooks(settings));
    findings.push(service::listener(settings, listener, daemon));
    findings.extend(machine::clock(clock));
    findings
}

#[cfg(test)]
mod tests;
