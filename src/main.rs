#![recursion_limit = "512"]
//! The `roombridge` command. See `roombridge --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    roombridge::cli::main()
}
