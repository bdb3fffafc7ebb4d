//! `deployer events -f`.

use std::path::Path;

use deployer_agent::happening::Happening;
use futures_util::StreamExt;

use super::{Ended, Format, client, say};

/// Prints happenings until the daemon ends.
pub async fn follow(socket: &Path, format: Format) -> Result<(), Ended> {
    let answer = client::open(socket, "/v1/events").await?;
    let mut lines = std::pin::pin!(answer.lines());
    while let Some(line) = lines.next().await {
        let line = line.map_err(|error| Ended::Failed(format!("the daemon went away: {error}")))?;
        match format {
            Format::Json => say::line(&String::from_utf8_lossy(&line))?,
            Format::Table => {
                if let Ok(happening) = client::read::<Happening>(&line) {
                    say::line(&text(&happening))?;
                }
            }
        }
    }
    Err(Ended::Failed("the daemon went away".to_owned()))
}

/// One line for people.
pub fn text(happening: &Happening) -> String {
    let time = jiff::Timestamp::from_second(happening.at)
        .map(|at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string())
        .unwrap_or_default();
    let subject = happening.container.as_ref().or(happening.image.as_ref()).cloned().unwrap_or_default();
    format!("{time}  {:<9} {subject}  {}", happening.kind, happening.text)
}
