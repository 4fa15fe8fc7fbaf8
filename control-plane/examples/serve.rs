//! `weft server` and `weft pki` alone, for trying out the API server by hand.
use clap::Parser;

#[derive(Parser)]
enum Command {
    /// The API server
    Server(control_plane::server::Args),
    /// Certificates
    Pki(control_plane::pki::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("WEFT_LOG"))
        .with_writer(std::io::stderr)
        .init();
    match Command::parse() {
        Command::Server(args) => Ok(control_plane::server::run(args).await?),
        Command::Pki(args) => Ok(control_plane::pki::run(args)?),
    }
}
