//! `weft pki`: hands out what the cluster's CA signs. It makes the CA when it is the first to ask.
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Authority, Error, file};

/// Certificates and kubeconfigs of a cluster's CA.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a kubeconfig with a client certificate inside
    Kubeconfig {
        /// The server's data directory
        #[arg(long)]
        data_dir: PathBuf,
        /// The API server's URL
        #[arg(long)]
        server: String,
        /// User name
        #[arg(long)]
        user: String,
        /// Group of the user; at most two
        #[arg(long)]
        group: Vec<String>,
        /// Name of the cluster and of the context
        #[arg(long, default_value = "weft")]
        cluster: String,
        /// The file to write
        #[arg(long)]
        out: PathBuf,
    },
    /// Write a serving certificate and its key
    Serving {
        /// The server's data directory
        #[arg(long)]
        data_dir: PathBuf,
        /// Subject
        #[arg(long)]
        common_name: String,
        /// DNS name or address that the certificate is for
        #[arg(long)]
        san: Vec<String>,
        /// The certificate's file
        #[arg(long)]
        out_cert: PathBuf,
        /// The key's file
        #[arg(long)]
        out_key: PathBuf,
    },
    /// Write the CA's certificate
    Ca {
        /// The server's data directory
        #[arg(long)]
        data_dir: PathBuf,
        /// The file to write
        #[arg(long)]
        out: PathBuf,
    },
}

/// Runs a subcommand of `weft pki`.
///
/// # Errors
/// When a file cannot be read or written, or a name cannot stand in a certificate.
pub fn run(args: Args) -> Result<(), Error> {
    match args.command {
        Command::Kubeconfig { data_dir, server, user, group, cluster, out } => {
            let authority = Authority::open(&data_dir)?;
            let pair = authority.client(&user, &group)?;
            let encode = |text: &str| STANDARD.encode(text);
            let text = KUBECONFIG
                .replace("{server}", &server)
                .replace("{user}", &serde_json::Value::from(user).to_string())
                .replace("{cluster}", &serde_json::Value::from(cluster).to_string())
                .replace("{ca}", &encode(&authority.certificate))
                .replace("{certificate}", &encode(&pair.certificate))
                .replace("{key}", &encode(&pair.key));
            file::write_secret(&out, &text)
        }
        Command::Serving { data_dir, common_name, san, out_cert, out_key } => {
            let pair = Authority::open(&data_dir)?.serving(&common_name, &san)?;
            file::write_secret(&out_key, &pair.key)?;
            file::write_secret(&out_cert, &pair.certificate)
        }
        Command::Ca { data_dir, out } => file::write_secret(&out, &Authority::open(&data_dir)?.certificate),
    }
}

const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: {cluster}
  context:
    cluster: {cluster}
    user: {user}
current-context: {cluster}
";
