//! Stands in for `weft` in this crate's tests: the real supervisor, node-init and publisher; server, node and agent are
//! plain programs that answer on TCP, and `pki` writes empty files.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    os::fd::RawFd,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use local_cluster::{Cluster, IpFamily, Spec, handoff, node_init, publish, spec::Publish, supervise};

#[derive(Parser)]
enum Stub {
    /// Starts a cluster with any free ports and prints its spec.
    Start {
        name: String,
        nodes: u8,
        #[arg(value_enum, default_value = "ipv4")]
        ip_family: IpFamily,
    },
    /// Ends it.
    Stop {
        name: String,
    },
    Supervise(supervise::Args),
    NodeInit(node_init::Args),
    Publish(publish::Args),
    #[command(disable_help_flag = true)]
    Server {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    Node {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    Agent {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    Pki {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let result: Result<(), Box<dyn std::error::Error>> = match Stub::parse() {
        Stub::Start { name, nodes, ip_family } => start(&name, nodes, ip_family),
        Stub::Stop { name } => local_cluster::stop(&name).map(|_| ()).map_err(Into::into),
        Stub::Supervise(args) => supervise::run(&args).map_err(Into::into),
        Stub::NodeInit(args) => node_init::run(&args).map_err(Into::into),
        Stub::Publish(args) => publish::run(&args).map_err(Into::into),
        Stub::Server { flags } => server(&flags),
        Stub::Node { flags } => {
            let any = if flag(&flags, "--node-ip").contains(':') { "[::]:30080" } else { "0.0.0.0:30080" };
            answer(TcpListener::bind(any), &flag(&flags, "--node-name"))
        }
        Stub::Agent { .. } => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        Stub::Pki { flags } => {
            let outs = ["--out", "--out-cert", "--out-key"].map(|name| flag(&flags, name));
            outs.iter().filter(|out| !out.is_empty()).try_for_each(|out| std::fs::write(out, "")).map_err(Into::into)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(name: &str, nodes: u8, ip_family: IpFamily) -> Result<(), Box<dyn std::error::Error>> {
    let publish = vec![Publish { host: 0, node: 30080 }];
    let spec = Spec { nodes, api_port: 0, publish, ip_family, ..Spec::new(name) };
    let cluster: Cluster = local_cluster::start(spec, Path::new("/proc/self/exe"))?;
    println!("{} {}", cluster.spec.api_port, cluster.spec.publish[0].host);
    Ok(())
}

fn server(flags: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let fd: RawFd = flag(flags, "--listen-fd").parse()?;
    for (_, address) in flags.iter().zip(&flags[1..]).filter(|(name, _)| *name == "--listen") {
        let inside = TcpListener::bind(address);
        std::thread::spawn(|| _ = answer(inside, "server inside"));
    }
    answer(Ok(TcpListener::from(handoff::take(fd)?)), "server")
}

/// Says `word` to whoever connects.
fn answer(listener: std::io::Result<TcpListener>, word: &str) -> Result<(), Box<dyn std::error::Error>> {
    for client in listener?.incoming() {
        let mut client = client?;
        client.write_all(word.as_bytes())?;
        client.shutdown(std::net::Shutdown::Write)?;
        _ = client.read(&mut [0; 1]);
    }
    Ok(())
}

fn flag(flags: &[String], name: &str) -> String {
    let position = flags.iter().position(|flag| flag == name);
    position.and_then(|position| flags.get(position + 1)).cloned().unwrap_or_default()
}
