//! The binary `segue`, built in this package so that end-to-end tests know where it is.

use std::process::ExitCode;

fn main() -> ExitCode {
    segue_runtime::install_tls_provider();
    segue_node::cli::main()
}
