//! The binary `segue`.

use std::process::ExitCode;

fn main() -> ExitCode {
    segue_runtime::install_tls_provider();
    segue_node::cli::main()
}
