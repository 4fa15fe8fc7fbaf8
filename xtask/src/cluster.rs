//! `cargo xtask up` and `down`: whatever is missing, then `weft up` and `weft down` with what this repository holds.

use std::process::{Command, ExitStatus};

use anyhow::{Context as _, bail};

use crate::{build, clock::Clock, image, places::Places, setup, shell};

/// NodePort of examples/guestbook's frontend.
const FRONTEND_NODE_PORT: &str = "30080";

/// Builds and starts a cluster that serves examples/guestbook.
pub(crate) fn up(places: &Places, mut clock: Clock, flags: &[String]) -> anyhow::Result<()> {
    if flags.iter().any(|flag| flag == "--help" || flag == "-h") && places.weft().exists() {
        return end(weft(places).args(["up", "--help"]).status());
    }
    if !setup::is_root() {
        bail!("a local cluster makes namespaces and loads BPF programs: run it as root (sudo)");
    }
    setup::run(places, &mut clock)?;
    build::run(places, &mut clock)?;
    image::run(places, &mut clock)?;
    let mut weft = weft(places);
    weft.arg("up").args(["--publish", FRONTEND_NODE_PORT]);
    for image in image::paths(places) {
        weft.arg("--image").arg(image);
    }
    weft.arg("--manifest").arg(places.root.join("examples/guestbook"));
    weft.args(flags);
    let result = clock.step("weft up", |progress| {
        progress.hand_over();
        end(weft.status())
    });
    clock.report();
    result
}

/// Ends a cluster; builds `weft` first if it is not there.
pub(crate) fn down(places: &Places, clock: &mut Clock, flags: &[String]) -> anyhow::Result<()> {
    if !places.weft().exists() {
        setup::run(places, clock)?;
        build::run(places, clock)?;
    }
    end(weft(places).arg("down").args(flags).status())
}

fn weft(places: &Places) -> Command {
    shell::clean(Command::new(places.weft()), &places.root)
}

fn end(status: std::io::Result<ExitStatus>) -> anyhow::Result<()> {
    match status.context("starting weft")? {
        status if status.success() => Ok(()),
        // It has said what is wrong.
        status => bail!("weft ended with {status}"),
    }
}
