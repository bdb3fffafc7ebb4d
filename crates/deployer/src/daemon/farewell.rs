//! Whether this daemon ends alone, or with its machine: the init system says.
//!
//! A reboot is no leave for another machine's instance to go down: what ran here is going down as well. In a container
//! the machine's init system is not seen, and every end counts as the daemon's alone.

use std::path::Path;
use std::time::Duration;

use deployer_agent::presence::Farewell;
use tokio::process::Command;

/// How long the init system may take to say. Without a word the daemon counts as ending alone.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Asks the init system.
pub async fn farewell() -> Farewell {
    let mut asked = if Path::new("/run/systemd/system").is_dir() {
        let mut systemctl = Command::new("systemctl");
        systemctl.arg("is-system-running");
        systemctl
    } else {
        Command::new("runlevel")
    };
    let answer = tokio::time::timeout(ANSWER_LIMIT, asked.kill_on_drop(true).output()).await;
    let said = answer.ok().and_then(Result::ok).map(|output| output.stdout).unwrap_or_default();
    if is_going_down(&String::from_utf8_lossy(&said)) { Farewell::Machine } else { Farewell::Daemon }
}

/// `stopping` of systemctl(1); the run levels 0 and 6 of runlevel(8), which names the one before first.
fn is_going_down(said: &str) -> bool {
    let mut words = said.split_whitespace();
    match (words.next(), words.next()) {
        (Some("stopping"), None) => true,
        (Some(_), Some(level)) => matches!(level, "0" | "6"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_goes_down_says_so() {
        for (said, expected) in [
            ("stopping\n", true),
            ("running\n", false),
            ("degraded\n", false),
            ("maintenance\n", false),
            ("N 5\n", false),
            ("3 6\n", true),
            ("5 0\n", true),
            ("unknown\n", false),
            ("", false),
        ] {
            assert_eq!(is_going_down(said), expected, "{said:?}");
        }
    }
}
