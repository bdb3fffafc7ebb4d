//! Real processes and simulated worlds for the tests of deployer.
