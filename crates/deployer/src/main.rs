//! The `deployer` program: reads the command line and hands over to the subcommand.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use deployer::cli::Cli;
use deployer::log;

/// How long what blocks may take to end after all else has.
const BLOCKED_LONGEST: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let cli = Cli::parse();
    log::begin();
    // One thread: see ADR 14.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(cli.run());
            // A file that is looked at on a machine that is away would keep the process for as long as it is.
            runtime.shutdown_timeout(BLOCKED_LONGEST);
            code
        }
        Err(_) => ExitCode::FAILURE,
    }
}
