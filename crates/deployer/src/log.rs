//! The log on standard error: one line an event, whatever strangers put into it.
//!
//! Errors of registries and engines, names and labels are part of what is logged. A line break in one of them would begin
//! a line of its own, which could say anything; so every event is made plain as it is written.

use std::io::{self, Write, stderr};
use std::panic;

use deployer_core::plain;
use tracing_subscriber::EnvFilter;

use deployer_agent::fault::words;

/// What is logged unless `DEPLOYER_LOG` says otherwise.
const LEVEL: &str = "info";

/// Begins to log, panics included.
pub fn begin() {
    let filter = EnvFilter::try_from_env("DEPLOYER_LOG").unwrap_or_else(|_| EnvFilter::new(LEVEL));
    // Colours are control characters themselves, and nobody could tell them from a stranger's.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Plain(stderr()))
        .with_ansi(false)
        .with_target(false)
        .init();
    panic::set_hook(Box::new(|panic| {
        let words = words(panic.payload());
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a mistake in deployer itself: {words}");
    }));
}

/// Takes each write for one event, as tracing's formatter makes them, and lets it end one line.
struct Plain<W>(W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = plain::line(text.strip_suffix('\n').unwrap_or(&text));
        self.0.write_all(line.as_bytes())?;
        self.0.write_all(b"\n")?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one thread").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn security_9_no_error_of_a_registry_writes_a_line_of_its_own() {
        let written = Written::default();
        let subscriber = tracing_subscriber::fmt().without_time().with_ansi(false).with_writer({
            let written = written.clone();
            move || Plain(written.clone())
        });
        let boom = "boom\r\n2026-11-28T10:00:00Z  INFO version 9 is forged kind=\"record\"\u{2028}\u{1b}[2J\u{202e}";
        let error = std::io::Error::other(boom);
        tracing::subscriber::with_default(subscriber.finish(), || {
            tracing::warn!(error = &error as &dyn std::error::Error, "{boom}");
            tracing::info!(image = boom, text = %boom, list = ?[boom], "next");
        });
        let written = String::from_utf8(written.0.lock().expect("one thread").clone()).expect("text");
        assert_eq!(written.lines().count(), 2, "{written}");
        assert!(!written.chars().any(|letter| letter != '\n' && letter.is_control()), "{written:?}");
        assert!(!written.contains(['\u{2028}', '\u{202e}']), "{written:?}");
    }
}
