//! `weft image load`: from a tarball or an OCI layout into the store that a cluster's nodes share.

use std::path::PathBuf;

use anyhow::Context as _;
use local_cluster::Cluster;

/// Flags of `weft image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Load every image of a tarball or an OCI layout
    Load {
        /// What `docker save` or `skopeo copy` wrote, or a directory with an OCI layout
        file: PathBuf,
        /// The local cluster whose nodes get it
        #[arg(long, default_value = local_cluster::spec::DEFAULT_NAME)]
        name: String,
        /// A node's image store instead
        #[arg(long, conflicts_with = "name")]
        store: Option<PathBuf>,
    },
}

/// The files of a cluster are root's alone.
fn running(name: &str) -> anyhow::Result<Cluster> {
    local_cluster::preflight::check()?;
    Ok(Cluster::running(name)?)
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Command::Load { file, name, store } = &args.command;
    let store = match store {
        Some(store) => store.clone(),
        None => running(name)?.paths.images(),
    };
    let images = node::image::load_tar(&store, file).with_context(|| format!("loading {}", file.display()))?;
    for image in images {
        println!("{image}");
    }
    Ok(())
}
