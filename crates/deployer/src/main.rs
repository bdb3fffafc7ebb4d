//! The `deployer` program: reads the command line and hands over to the subcommand.

use std::process::ExitCode;

use clap::Parser as _;
use deployer::cli::Cli;
use deployer::log;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log::begin();
    // One thread: see ADR 14.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(_) => ExitCode::FAILURE,
    }
}
