//! The guestbook: one program, two roles. The backend keeps entries in memory; the frontend shows them, and which pods
//! on which nodes answered.
//!
//! It ends as a well-behaved pod ends: on SIGTERM readiness fails at once, requests are served for three seconds more
//! (so that every proxy has time to stop choosing this pod) and clients that keep connections are told to leave, then it
//! finishes what it is answering and exits with 0.
mod backend;
mod frontend;
mod page;
mod serve;

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::{Parser, ValueEnum};

/// How long requests are still served after SIGTERM.
const LAME_DUCK: Duration = Duration::from_secs(3);

/// Flags; each has an environment variable, as a pod's manifest prefers them.
#[derive(Parser)]
#[command(name = "guestbook", version, about = "The web program of examples/guestbook")]
struct Args {
    /// What to be.
    role: Role,
    /// TCP port to serve on, all addresses.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
    /// This pod, for the page.
    #[arg(long, env = "POD_NAME", default_value = "(unknown pod)")]
    pod: String,
    /// Its node.
    #[arg(long, env = "NODE_NAME", default_value = "(unknown node)")]
    node: String,
    /// Frontend only: where the backend's Service answers. Kubernetes sets these two for every Service of the namespace.
    #[arg(long, env = "BACKEND_SERVICE_HOST", default_value = "127.0.0.1")]
    backend_host: String,
    /// Frontend only: its port.
    #[arg(long, env = "BACKEND_SERVICE_PORT", default_value_t = 8080)]
    backend_port: u16,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Frontend,
    Backend,
}

/// Who answers.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Place {
    /// Name of the pod.
    pub(crate) pod: String,
    /// Name of its node.
    pub(crate) node: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let place = Place { pod: args.pod, node: args.node };
    let app: Arc<dyn serve::App> = match args.role {
        Role::Backend => Arc::new(backend::Backend::new(place)),
        Role::Frontend => Arc::new(frontend::Frontend::new(place, &args.backend_host, args.backend_port)),
    };
    match serve::until_terminated(args.port, app, LAME_DUCK).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guestbook: cannot serve on port {}: {error}", args.port);
            ExitCode::FAILURE
        }
    }
}
