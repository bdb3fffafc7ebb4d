//! The `deployer` program: reads the command line and hands over to the subcommand.

use std::process::ExitCode;

use clap::Parser as _;
use deployer::cli::Cli;
use tracing_subscriber::EnvFilter;

/// What is logged unless `DEPLOYER_LOG` says otherwise.
const LOG: &str = "info";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("DEPLOYER_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(_) => ExitCode::FAILURE,
    }
}
