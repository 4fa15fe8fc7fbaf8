//! Running other programs: their output is kept and shown only if they fail.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::clock::Progress;

/// A cargo of our own toolchain in the clone, free of what `cargo run` set for this process.
pub(crate) fn cargo(root: &Path) -> Command {
    clean(Command::new("cargo"), root)
}

/// A cargo that builds of the workspace what `what` names, optimised. Of the whole workspace every time: cargo chooses the
/// features of dependencies by the packages that it is asked for, and builds most of them again for another choice. `ebpf` has
/// another target.
pub(crate) fn workspace(root: &Path, command: &str, what: &[&str]) -> Command {
    let mut cargo = cargo(root);
    cargo.args([command, "--release", "--workspace", "--exclude", "ebpf"]).args(what);
    cargo
}

/// Any program, run in the clone without the variables that cargo sets for the programs it runs: build scripts of a
/// nested cargo would see them and build again.
pub(crate) fn clean(mut command: Command, root: &Path) -> Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours =
            text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_BIN_");
        if ours
            || matches!(&*text, "CARGO" | "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR" | "LD_LIBRARY_PATH")
        {
            command.env_remove(&name);
        }
    }
    command.current_dir(root);
    command
}

/// Runs the command with its last line in the progress; its whole output is the error's if it fails.
pub(crate) fn run(progress: &mut Progress, mut command: Command) -> anyhow::Result<String> {
    let words = words(&command);
    let (reader, writer) = std::io::pipe().context("making a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("starting {words}"))?;
    // The command holds the pipe's writing end; without this the reader below would wait for ever.
    drop(command);
    let mut output = String::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("reading from a pipe")?;
        let line = String::from_utf8_lossy(&line);
        progress.line(&line);
        output.push_str(&line);
        output.push('\n');
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{words}: {status}\n{output}");
    }
    Ok(output)
}

/// What a command prints on standard output; `None` if it is not there or fails.
pub(crate) fn answer(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .env_remove("LD_LIBRARY_PATH")
        .output();
    let output = output.ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

fn words(command: &Command) -> String {
    let args = command.get_args().map(|arg| arg.to_string_lossy());
    std::iter::once(command.get_program().to_string_lossy()).chain(args).collect::<Vec<_>>().join(" ")
}
