//! Printing. A reader that has gone away, such as `head`, is no mistake of ours.

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use deployer_core::plain;

use super::Ended;

/// One line, or several, to standard output. What of strangers is in it was made plain where it came from; here it is for
/// the second time, since a terminal obeys whatever reaches it.
pub fn line(text: &str) -> Result<(), Ended> {
    match writeln!(stdout(), "{}", plain::lines(text)) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Ended::Failed(error.to_string())),
        _ => Ok(()),
    }
}

/// An error, and the exit code that goes with it.
pub fn error(text: &str, code: u8) -> ExitCode {
    // If standard error is gone, the code has to say it all.
    let _ = writeln!(stderr(), "error: {}", plain::lines(text));
    ExitCode::from(code)
}
