//! `weft policy`: what NetworkPolicies say, asked of a live cluster or of YAML files, before they are applied.
//!
//! Verdicts come from `policy::explain`, which compiles the tables as the nodes do; what is here is finding objects,
//! names and lines. Exit codes: 0 allowed, 1 denied, 2 the question has no answer.
mod answer;
mod lines;
mod question;
mod show;
mod source;

use std::{path::PathBuf, process};

use anyhow::bail;

use crate::ask::{self, Output};

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// May this flow be, and which line decides?
    Explain(Explain),
    /// The policies, the pods that they isolate, and what is wrong with them
    List(List),
    /// Every rule that applies to a pod
    Show(Show),
}

/// Where the objects are.
#[derive(Debug, clap::Args)]
struct From {
    /// A file or directory of YAML, or - for standard input; may be repeated. Without it a cluster is asked
    #[arg(short = 'f', long = "filename")]
    files: Vec<PathBuf>,
    /// The cluster's kubeconfig; by default as kubectl finds it
    #[arg(long, conflicts_with = "files")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of names without one
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

#[derive(Debug, clap::Args)]
struct Explain {
    /// Who sends: [namespace/]pod or an address
    #[arg(long)]
    from: String,
    /// Who receives: [namespace/]pod or service or an address, then :port[/protocol]
    #[arg(long)]
    to: String,
    #[command(flatten)]
    source: From,
    /// Also why the other rules do not allow it
    #[arg(short, long)]
    verbose: bool,
    /// text or json
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    source: From,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// [namespace/]pod
    pod: String,
    #[command(flatten)]
    source: From,
}

/// Runs the command. Ends the process with 1 if the flow is denied, with 2 if there is no answer.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match outcome(args) {
        Ok((text, allowed)) => {
            ask::print(text)?;
            if allowed { Ok(()) } else { process::exit(1) }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            process::exit(2)
        }
    }
}

fn outcome(args: &Args) -> anyhow::Result<(String, bool)> {
    match &args.command {
        Command::Explain(args) => explain(args, &args.source.load()?),
        Command::List(args) => Ok((show::list(&args.source.load()?), true)),
        Command::Show(args) => {
            let objects = args.source.load()?;
            let key = question::pod(&objects, &args.source.namespace, &args.pod)?;
            Ok((show::pod(&objects, &key), true))
        }
    }
}

impl From {
    fn load(&self) -> anyhow::Result<source::Objects> {
        if self.files.is_empty() { source::live(self.kubeconfig.as_deref()) } else { source::files(&self.files) }
    }
}

/// A service is as many flows as it has backends: it is allowed if all of them are.
fn explain(args: &Explain, objects: &source::Objects) -> anyhow::Result<(String, bool)> {
    let flows = question::flows(objects, &args.source.namespace, &args.from, &args.to)?;
    if flows.is_empty() {
        bail!("--to {}: the service has no backends: no pod that its selector means has an address", args.to);
    }
    let answers = flows.iter().map(|flow| answer::answer(objects, flow)).collect::<anyhow::Result<Vec<_>>>()?;
    let allowed = answers.iter().all(answer::Answer::allowed);
    let text = match args.output {
        Output::Json => serde_json::to_string_pretty(&answers)? + "\n",
        Output::Text => answers.iter().map(|answer| answer.text(args.verbose)).collect::<Vec<_>>().join("\n"),
    };
    Ok((text, allowed))
}

#[cfg(test)]
mod tests;
