//! The command line, in the manner of docker and kubectl: tables for people, JSON for programs.
//!
//! Exit codes: 0 done, 1 it failed, 2 the user's mistake.

mod client;
mod config;
mod deploy;
mod doctor;
mod events;
mod history;
mod plan;
mod say;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::{Config, Flags};

/// A push to the registry becomes a healthy, one-at-a-time deployment on every Docker host.
#[derive(Parser)]
#[command(name = "deployer", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// The local daemon's socket
    #[arg(long, global = true, env = "DEPLOYER_SOCKET", default_value = "/var/lib/deployer/deployer.sock")]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon on this machine
    Run(Flags),
    /// Show nodes, tracks, versions, verdicts and containers
    Status(Output),
    /// Show what the update stage would do for each container of this machine, and why
    Plan(Output),
    /// Ask the registry about an image now, and follow the deployment to its end
    Deploy {
        /// The image with its tag, as the containers name it
        image: String,
        /// How long to wait for the end
        #[arg(long, default_value = "10m", value_parser = deploy::parse_patience)]
        timeout: std::time::Duration,
    },
    /// Show the versions of an image, the newest first, and what became of each
    History {
        /// The image with its tag
        image: String,
        #[command(flatten)]
        output: Output,
    },
    /// Take the running version back and deploy the one before it
    Rollback {
        /// The image with its tag
        image: String,
    },
    /// Try the newest version again that was rolled back, found bad, or failed here
    Retry {
        /// The image with its tag
        image: String,
    },
    /// Let no further replacement start anywhere
    Pause {
        /// Why, for those who find it paused
        #[arg(default_value = "")]
        reason: String,
    },
    /// Let replacements start again
    Resume,
    /// Forget the containers of a node that will not return
    ForgetNode {
        /// The node's name
        node: String,
    },
    /// End a claim whose holder will not end it itself
    Unlock {
        /// The slot, as `status` shows it
        #[arg(value_name = "SCOPE/SLOT")]
        slot: String,
        /// You made sure that the holder is not in the middle of a replacement
        #[arg(long, required = true)]
        i_know: bool,
    },
    /// Show what the daemon does, as it does it
    Events {
        /// Go on until interrupted
        #[arg(short, long, required = true)]
        follow: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Say what keeps this installation from working, and what to do
    ///
    /// Exit code 1 if a problem was found. Give it the flags, the environment and the user of `deployer run`.
    Doctor {
        #[command(flatten)]
        flags: Flags,
        #[command(flatten)]
        output: Output,
    },
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show the version
    Version,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Read it, say what is wrong, and print what came out without secrets
    Check(Flags),
}

/// How to print.
#[derive(clap::Args, Clone, Copy)]
struct Output {
    /// Print for people or for programs
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// How a command ended when it did not do what it was asked.
#[derive(Debug)]
pub enum Ended {
    /// The user's mistake.
    Mistake(String),
    /// It failed.
    Failed(String),
}

impl Cli {
    /// Carries out the command.
    pub async fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Run(flags) => run_daemon(&flags).await,
            Command::Status(output) => status::show(&self.socket, output.output).await,
            Command::Plan(output) => plan::show(&self.socket, output.output).await,
            Command::Deploy { image, timeout } => deploy::deploy(&self.socket, &image, timeout).await,
            Command::History { image, output } => history::show(&self.socket, &image, output.output).await,
            Command::Rollback { image } => client::ask(&self.socket, "rollback", &image).await,
            Command::Retry { image } => client::ask(&self.socket, "retry", &image).await,
            Command::Pause { reason } => client::ask(&self.socket, "pause", &reason).await,
            Command::Resume => client::ask(&self.socket, "resume", "").await,
            Command::ForgetNode { node } => client::ask(&self.socket, "forget-node", &node).await,
            Command::Unlock { slot, i_know: _ } => client::ask(&self.socket, "unlock", &slot).await,
            Command::Events { output, .. } => events::follow(&self.socket, output.output).await,
            Command::Doctor { flags, output } => doctor::examine(&flags, &self.socket, output.output).await,
            Command::Config(ConfigCommand::Check(flags)) => config::check(&flags),
            Command::Version => say::line(&format!("deployer {}", env!("CARGO_PKG_VERSION"))),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(Ended::Mistake(text)) => say::error(&text, 2),
            Err(Ended::Failed(text)) => say::error(&text, 1),
        }
    }
}

async fn run_daemon(flags: &Flags) -> Result<(), Ended> {
    let config = Config::load(flags).map_err(|error| Ended::Mistake(error.to_string()))?;
    crate::daemon::run(config).await.map_err(|error| Ended::Failed(format!("{error:#}")))
}
