//! The program `weft-cni`: everything is in the library, so that it can also be tried with what no runtime would send.
use std::process::ExitCode;

fn main() -> ExitCode {
    cni_plugin::main()
}
