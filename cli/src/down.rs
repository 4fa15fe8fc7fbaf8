//! `weft down`: every trace of a local cluster goes.

/// Flags of `weft down`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cluster
    #[arg(long, default_value = local_cluster::spec::DEFAULT_NAME)]
    name: String,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    local_cluster::preflight::check()?;
    match local_cluster::stop(&args.name)? {
        true => println!("cluster {} is gone", args.name),
        false => println!("there is no cluster {}", args.name),
    }
    Ok(())
}
