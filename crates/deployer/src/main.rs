//! The `deployer` program: reads the command line and hands over to the subcommand.

fn main() {}
