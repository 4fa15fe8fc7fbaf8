//! The command line, as a tree. What a command does is in the library that it names.

use clap::{Parser, Subcommand};

use crate::{ask, check, down, image, policy, up};

/// A Kubernetes cluster core: eBPF networking and a control plane
#[derive(Debug, Parser)]
#[command(name = "weft", version, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole cluster on this machine, or bring a running one up to date
    Up(up::Args),
    /// Remove every trace of a cluster on this machine
    Down(down::Args),
    /// Load images into a cluster's store
    Image(image::Args),
    /// Make certificates and kubeconfigs
    Pki(control_plane::pki::Args),
    /// The API server, its store, the controllers and the scheduler
    Server(control_plane::server::Args),
    /// The node side: runs the pods that are bound to this node
    Node(node::Args),
    /// The networking of this node: compiles objects into the datapath's tables
    Agent(agent::Args),
    /// Remove every trace of the agent from this node
    Cleanup(agent::cleanup::Args),
    /// Is a cluster on this machine what Weft promises?
    Check(check::Args),
    /// What the agent of this node does, and whether it is well
    Status(ask::status::Args),
    /// Watch drops and flows as they happen
    Monitor(ask::monitor::Args),
    /// The tables in the kernel
    Table(ask::table::Args),
    /// Pods of this node, as the datapath knows them
    Pod(ask::pod::Args),
    /// Where the datapath sends which prefix
    Route(ask::route::Args),
    /// Flows that the datapath remembers
    Flow(ask::flow::Args),
    /// What NetworkPolicies say: of a cluster, or of YAML files
    Policy(policy::Args),
    #[command(hide = true)]
    NodeInit(local_cluster::node_init::Args),
    #[command(hide = true)]
    Supervise(local_cluster::supervise::Args),
    #[command(hide = true)]
    Publish(local_cluster::publish::Args),
    #[command(hide = true)]
    ContainerHelper,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[track_caller]
    fn check(line: &str, good: bool) {
        assert_eq!(Cli::try_parse_from(line.split(' ')).is_ok(), good, "{line}");
    }

    #[test]
    fn lines() {
        check("weft up --name a --nodes 2 --publish 8080:30080 --image x.tar --manifest dir", true);
        check("weft up --ip-family dual", true);
        check("weft up --ip-family ipv5", false);
        check("weft down --name a", true);
        check("weft image load x.tar --store /tmp/s", true);
        check("weft image load x.tar --store /tmp/s --name a", false);
        check("weft monitor --cluster a --node node-1", true);
        check("weft monitor --cluster a", false);
        check("weft monitor --kind drop --kind flow --pod a/b -o json", true);
        check("weft monitor --kind drops", false);
        check("weft monitor --pod b", false);
        check("weft flow list --pod a/b --limit 5 -o json", true);
        check("weft flow list --pod a/b/c", false);
        check("weft pod list -o json", true);
        check("weft route list --output text", true);
        check("weft status -o yaml", false);
        check("weft table dump SERVICES", true);
        check("weft policy explain --from a/b --to c:80 -f x.yaml", true);
        check("weft policy explain --from a/b", false);
        check("weft node-init --name a --node node-1", true);
        check("weft", false);
    }
}
