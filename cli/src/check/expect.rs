//! Dials many targets from many callers and compares what came with what was promised.
use std::net::IpAddr;

use probe::{Proto, Report, Target};

use super::caller::Caller;

/// One dial and what it must give.
pub(super) struct Expect {
    /// For people.
    pub what: String,
    /// Where to.
    pub target: Target,
    /// Sources that the server may see; empty: any.
    pub sources: Vec<IpAddr>,
}

impl Expect {
    /// An answer is expected, from a server that may see any source.
    pub(super) fn answer(what: impl Into<String>, proto: Proto, host: IpAddr, port: u16) -> Expect {
        let target = Target { proto, host, port, timeout_ms: 1500, tries: 3 };
        Expect { what: what.into(), target, sources: Vec::new() }
    }

    /// And the server sees one of these sources.
    pub(super) fn seen_as(mut self, sources: &[IpAddr]) -> Expect {
        self.sources = sources.to_vec();
        self
    }

    fn broken_by(&self, caller: &Caller, report: &Report) -> Option<String> {
        let way = format!("{} → {}", caller.name, self.what);
        if !report.ok {
            return Some(format!("{way}: {}", report.error.as_deref().unwrap_or("no answer")));
        }
        let seen = report.seen.as_ref()?;
        let source: Option<IpAddr> = seen.client.parse().ok();
        let right = self.sources.is_empty() || source.is_some_and(|source| self.sources.contains(&source));
        (!right).then(|| format!("{way}: {} saw {}, expected {:?}", seen.pod, seen.client, self.sources))
    }
}

/// Dials all, callers side by side, and returns how many were tried and what broke.
pub(super) async fn all(plan: Vec<(Caller, Vec<Expect>)>) -> anyhow::Result<(usize, Vec<String>)> {
    let tried = plan.iter().map(|(_, expects)| expects.len()).sum();
    let runs = plan.into_iter().map(|(caller, expects)| async move {
        let reports = caller.dial(expects.iter().map(|expect| expect.target.clone()).collect()).await?;
        let broken = expects.iter().zip(&reports).filter_map(|(expect, report)| expect.broken_by(&caller, report));
        anyhow::Ok(broken.collect::<Vec<_>>())
    });
    let broken = futures::future::try_join_all(runs).await?;
    Ok((tried, broken.into_iter().flatten().collect()))
}
