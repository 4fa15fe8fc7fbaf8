//! `probe serve` answers, `probe dial` asks.
use std::{net::IpAddr, process::ExitCode};

use clap::{Parser, Subcommand};
use probe::{Target, dial, serve};

#[derive(Parser)]
#[command(name = "probe", version, about = "A network probe: answers, dials, pings")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answers on TCP, UDP and HTTP until SIGTERM.
    Serve {
        /// TCP port.
        #[arg(long, env = "TCP_PORT", default_value_t = 8080)]
        tcp: u16,
        /// UDP port.
        #[arg(long, env = "UDP_PORT", default_value_t = 8081)]
        udp: u16,
        /// Control port: /healthz, /dial.
        #[arg(long, env = "HTTP_PORT", default_value_t = 8082)]
        http: u16,
        /// Echo of numbered traffic, TCP and UDP.
        #[arg(long, env = "ECHO_PORT", default_value_t = 8083)]
        echo: u16,
        /// Address to serve on.
        #[arg(long, env = "LISTEN", default_value = "0.0.0.0")]
        listen: IpAddr,
        /// This pod.
        #[arg(long, env = "POD_NAME", default_value = "")]
        pod: String,
        /// Its node.
        #[arg(long, env = "NODE_NAME", default_value = "")]
        node: String,
    },
    /// Dials once and prints the report; exits with 1 if no answer came.
    Dial(Target),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Args::parse().command {
        Command::Serve { tcp, udp, http, echo, listen, pod, node } => {
            let ports = serve::Ports { listen, tcp, udp, http, echo };
            match serve::until_terminated(ports, serve::Place { pod, node }).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("probe: cannot serve on {listen}: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        Command::Dial(target) => {
            let report = dial::dial(&target).await;
            println!("{}", serde_json::to_string(&report).expect("a report always serialises"));
            if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}
