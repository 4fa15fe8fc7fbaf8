//! Where programs and images lie, and what a program must have done.
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The clone.
///
/// # Panics
/// If this crate does not lie in one.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the clone").to_path_buf()
}

fn given(variable: &str, default: &str, file: &str, remedy: &str) -> PathBuf {
    let path = env::var_os(variable).map_or_else(|| root().join(default), PathBuf::from).join(file);
    assert!(path.exists(), "{} is missing: run {remedy}", path.display());
    path
}

/// A program of ours, from `WEFT_PROGRAMS` or the target directory.
///
/// # Panics
/// If it is not there.
pub fn program(name: &str) -> PathBuf {
    let default = format!("target/{}-unknown-linux-gnu/release", env::consts::ARCH);
    given("WEFT_PROGRAMS", &default, name, "cargo xtask test NAME, which builds what a test needs")
}

/// The archive of an image, from `WEFT_IMAGES` or the target directory.
///
/// # Panics
/// If it is not there.
pub fn image(name: &str) -> PathBuf {
    given("WEFT_IMAGES", "target/images", &format!("{name}.tar"), "cargo xtask image")
}

/// Our command line.
pub fn weft() -> Command {
    Command::new(program("weft"))
}

/// What a command printed.
///
/// # Panics
/// If it failed, with all that it said.
#[track_caller]
pub fn succeeded(what: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{text}\n{errors}", output.status);
    text
}
