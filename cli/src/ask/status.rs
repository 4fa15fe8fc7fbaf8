//! `weft status`: one page about a node's agent.

use agent_api::v1::{HealthRequest, StatusReply, StatusRequest};

use super::{Target, answer, ask, print};
use crate::columns::columns;

/// Flags of `weft status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ask(&args.target, async |mut agent| {
        let status = answer(agent.status(StatusRequest {}).await)?;
        let health = answer(agent.health(HealthRequest {}).await)?;
        print(page(&status, &health.reasons))?;
        anyhow::ensure!(health.ready, "the agent is not ready");
        Ok(())
    })
}

fn page(status: &StatusReply, reasons: &[String]) -> String {
    let ready = if status.ready { "yes".to_owned() } else { format!("no: {}", reasons.join("; ")) };
    let mut page = format!("node       {} (kernel {}, {})\n", status.node, status.kernel, status.attach);
    page += &format!("version    {}\nready      {ready}\n", status.version);
    if let Some(device) = &status.device {
        page += &format!("device     {} (MTU {}, {}): {}\n", device.name, device.mtu, device.address, device.reason);
    }
    page += &format!(
        "pods       {} (MTU {}), {} of {} addresses in {}\n",
        status.pods,
        status.pod_mtu,
        status.addresses_used,
        status.addresses_total,
        status.pod_cidrs.join(", ")
    );
    let last = f64::from(u32::try_from(status.last_round_micros).unwrap_or(u32::MAX)) / 1000.0;
    page += &format!("tables     epoch {}, {} rounds, the last took {last:.1} ms\n\n", status.epoch, status.rounds);
    let tables: Vec<_> =
        status.tables.iter().map(|t| [t.name.clone(), t.used.to_string(), t.max.to_string()]).collect();
    page += &columns(["TABLE", "USED", "MAX"], &tables);
    let watches = status.watches.iter().map(|watch| {
        let state = match (watch.synced, watch.error.as_str()) {
            (true, "") => "synced".to_owned(),
            (false, "") => "syncing".to_owned(),
            (_, error) => error.to_owned(),
        };
        [watch.kind.clone(), watch.objects.to_string(), state]
    });
    page += &format!("\n{}", columns(["WATCH", "OBJECTS", "STATE"], &watches.collect::<Vec<_>>()));
    let hooks: Vec<_> = status.hooks.iter().map(|hook| [hook.program.clone(), hook.device.clone()]).collect();
    page += &format!("\n{}", columns(["HOOK", "DEVICE"], &hooks));
    if !status.issues.is_empty() {
        let issues = status
            .issues
            .iter()
            .map(|issue| [issue.kind.clone(), format!("{}/{}", issue.namespace, issue.name), issue.message.clone()]);
        page += &format!("\n{}", columns(["ISSUE", "OBJECT", "MESSAGE"], &issues.collect::<Vec<_>>()));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_why_it_is_not_ready() {
        let status = StatusReply { node: "n".to_owned(), ..StatusReply::default() };
        let page = page(&status, &["no device".to_owned(), "no API server".to_owned()]);
        assert!(page.contains("ready      no: no device; no API server\n"), "{page}");
    }
}
