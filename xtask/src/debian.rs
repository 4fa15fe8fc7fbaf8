//! Debian packages as files: fetched and unpacked into the cache, not installed.
//!
//! For what is only looked into (a kernel for `vm`, a static busybox for an image): installing it could replace what the
//! machine has, and would need to be undone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{clock::Clock, places::Places, shell};

/// The unpacked package, from the cache or fetched by apt now.
pub(crate) fn unpacked(places: &Places, clock: &mut Clock, package: &str) -> anyhow::Result<PathBuf> {
    let directory = places.cache.join("debian").join(package);
    if directory.is_dir() {
        return Ok(directory);
    }
    if shell::answer("apt-get", &["--version"]).is_none() {
        bail!("{package} comes from Debian's archive and apt-get is not here; unpack it into {}", directory.display());
    }
    clock.step(&format!("fetching Debian's {package} into {}", directory.display()), |progress| {
        let fresh = directory.with_extension(format!("new-{}", std::process::id()));
        fs::create_dir_all(&fresh).with_context(|| format!("making {}", fresh.display()))?;
        if shell::run(progress, download(&fresh, package)).is_err() {
            let mut update = Command::new("apt-get");
            update.args(["--quiet", "update"]);
            shell::run(progress, update)?;
            shell::run(progress, download(&fresh, package))?;
        }
        let archive = only_archive(&fresh)?;
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(&archive).arg(&fresh);
        shell::run(progress, unpack)?;
        fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))?;
        // Two runs at once: the first that is done wins, and both have the same.
        if fs::rename(&fresh, &directory).is_err() {
            fs::remove_dir_all(&fresh).with_context(|| format!("removing {}", fresh.display()))?;
        }
        anyhow::ensure!(directory.is_dir(), "{} could not be made", directory.display());
        Ok(())
    })?;
    Ok(directory)
}

/// The packages that a package depends on, in the archive's present state.
pub(crate) fn dependencies(package: &str) -> Vec<String> {
    let text = shell::answer("apt-cache", &["depends", "--important", package]).unwrap_or_default();
    text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned).collect()
}

fn download(into: &Path, package: &str) -> Command {
    let mut command = Command::new("apt-get");
    // As root apt would change to a user of its own, who may not write here.
    command.args(["--quiet", "--option", "APT::Sandbox::User=root", "download", package]).current_dir(into);
    command
}

fn only_archive(directory: &Path) -> anyhow::Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut archives = entries.filter_map(Result::ok).map(|entry| entry.path());
    archives
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get download left no package in {}", directory.display()))
}
