//! Random faults on a cluster that works meanwhile: two real nodes, numbered traffic on three ways, and pods, Services and
//! policies that change. After each fault the packets must do what the policies say; after some, nothing may have leaked.
//!
//! A seed repeats the choices, not the machine's timing. A run that fails says what was done last.
use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tests::cluster::may_run;

use crate::size::{self, Figures};

#[path = "faults/api.rs"]
mod api;
#[path = "faults/audit.rs"]
mod audit;
#[path = "faults/bed.rs"]
mod bed;
#[path = "faults/change.rs"]
mod change;
#[path = "faults/dice.rs"]
mod dice;
#[path = "faults/flood.rs"]
mod flood;
#[path = "faults/matrix.rs"]
mod matrix;
#[path = "faults/strike.rs"]
mod strike;
#[path = "faults/traffic.rs"]
mod traffic;

use audit::Audit;
use bed::{Bed, Pod, STEADY, until};
use change::{Changes, ECHOES, FAR, SENDER};
use dice::Dice;
use matrix::Plan;
use strike::{Fault, ROUND};
use traffic::{Outage, Traffic, Way};

pub(crate) const NODES: [&str; 2] = ["node-1", "node-2"];
/// Rows of the nodes' tables of established flows: few, so that a pod can fill them.
const ROWS: &str = "4096";
/// Rows for flows that open: all of a flood's, until they are promoted.
const OPENING: &str = "16384";
/// Seconds between two sweeps of an agent for leaks.
const SWEEP: u64 = 5;
/// Faults between two audits.
const BATCH: u64 = 4;
/// Ways over the nodes' links.
const CROSSING: [&str; 2] = ["between nodes", "through a Service"];
/// What a failure tells.
const LAST: usize = 12;
/// Outages that a datagram may still be excused by.
const OUTAGES: usize = 32;

/// A run, and what it has counted.
struct Run {
    /// Ends before the cluster does.
    traffic: Traffic,
    bed: Bed,
    dice: Dice,
    away: Duration,
    /// With power cuts, which take their time.
    long: bool,
    deck: Vec<Fault>,
    changes: Changes,
    audit: Audit,
    outages: VecDeque<Outage>,
    /// What was done last.
    story: VecDeque<String>,
    faults: BTreeMap<Fault, u64>,
    verdicts: usize,
    audits: usize,
    /// The most rows that a `FLOWS` had.
    rows: u64,
}

pub(crate) fn run() {
    if !may_run() {
        return;
    }
    let by_clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = size::number("WEFT_SOAK_SEED", by_clock);
    let count = size::number("WEFT_SOAK_FAULTS", ROUND.len() as u64);
    println!("faults: {count} by WEFT_SOAK_SEED={seed}");
    let begun = Instant::now();
    let mut run = Run::begin(seed, count);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        (1..=count).for_each(|number| run.one(number));
        run.end();
    }));
    if let Err(panic) = outcome {
        println!("WEFT_SOAK_SEED={seed}; last:\n{}", run.story.make_contiguous().join("\n"));
        if std::env::var_os("WEFT_SOAK_KEEP").is_some() {
            println!("the cluster {} is left as it is: weft down --name {0}", run.bed.name());
            std::mem::forget(run);
        }
        resume_unwind(panic);
    }
    run.report(seed, count, begun.elapsed());
    let Run { traffic, bed, .. } = run;
    drop(traffic);
    bed.down();
}

impl Run {
    fn begin(seed: u64, count: u64) -> Run {
        let rows = [("FLOWS", ROWS), ("HALFOPEN", OPENING)];
        let rows = rows.map(|(table, rows)| format!("--agent-arg=--table-rows={table}={rows}"));
        // The sweep runs as well, and must find nothing: it is for what goes wrong elsewhere.
        let sweep = format!("--agent-arg=--leak-sweep-seconds={SWEEP}");
        let bed = Bed::up(&[&rows[0], &rows[1], "--agent-arg=--flows-per-pod=0", &sweep]);
        change::fixture(&bed);
        let pods = until("the pods of the fixture", || match bed.pods() {
            Ok(pods) if pods.len() >= 9 => Ok(pods),
            Ok(pods) => Err(format!("{} pods", pods.len())),
            Err(why) => Err(why),
        });
        let audit = Audit::begin(&bed);
        let traffic = established(&bed, &pods);
        Run {
            bed,
            audit,
            traffic,
            long: count > ROUND.len() as u64,
            dice: Dice::new(seed),
            away: Duration::from_secs(size::number("WEFT_SOAK_API_SECONDS", 4)),
            deck: Vec::new(),
            changes: Changes::default(),
            outages: VecDeque::new(),
            story: VecDeque::new(),
            faults: BTreeMap::new(),
            verdicts: 0,
            audits: 0,
            rows: 0,
        }
    }

    fn tell(&mut self, line: String) {
        println!("{line}");
        self.story.push_back(line);
        if self.story.len() > LAST {
            self.story.pop_front();
        }
    }

    /// Changes, a fault with more of them or a look at who passes meanwhile, and what must hold then.
    fn one(&mut self, number: u64) {
        let begun = Instant::now();
        if self.deck.is_empty() {
            self.deck = ROUND.to_vec();
            self.deck.extend(self.long.then_some(Fault::PowerCut));
            self.dice.shuffle(&mut self.deck);
        }
        let fault = self.deck.pop().expect("it was filled");
        let mut line = format!("{number} {}", fault.name());
        for _ in 0..self.dice.below(3) {
            let _ = write!(line, "; {}", self.changes.one(&self.bed, &mut self.dice));
        }
        self.tell(line);
        *self.faults.entry(fault).or_default() += 1;
        let mut wrong = if fault == Fault::PowerCut { self.power_cut() } else { self.strike(fault) };
        let pods = self.bed.settled();
        let plan = Plan::new(&self.bed, &pods);
        self.verdicts += plan.expected.len();
        wrong.extend(plan.differences(&self.bed));
        wrong.extend(self.judge(&pods));
        if number.is_multiple_of(BATCH) {
            self.audits += 1;
            wrong.extend(self.audit.leaks(&self.bed, &pods, false));
        }
        self.tell(format!("  {:.1} s", begun.elapsed().as_secs_f64()));
        assert!(wrong.is_empty(), "after fault {number}, {}:\n{}", fault.name(), wrong.join("\n"));
    }

    /// Returns what was wrong while it lasted.
    fn strike(&mut self, fault: Fault) -> Vec<String> {
        let changing = fault.leaves_api() && self.dice.below(2) == 0;
        let more = 1 + self.dice.below(3);
        let mut wrong = Vec::new();
        let (bed, changes) = (&self.bed, &mut self.changes);
        // What is wrong now, by objects that nobody changes: known before the fault.
        let plan = (!changing && !fault.leaves_tables()).then(|| {
            let pods = bed.settled();
            let plan = Plan::new(bed, &pods);
            wrong.extend(plan.differences(bed));
            plan
        });
        let (mut done, mut during) = (Vec::new(), self.dice.fork());
        let struck = strike::strike(bed, &mut self.dice, fault, self.away, &mut || {
            if changing {
                done.extend((0..more).map(|_| changes.one(bed, &mut during)));
            }
            wrong.extend(plan.iter().flat_map(|plan| plan.passes_wrongly(bed)));
        });
        self.outages.extend(struck.outage);
        if self.outages.len() > OUTAGES {
            self.outages.pop_front();
        }
        self.rows = self.rows.max(struck.rows);
        self.tell(format!("  {}; meanwhile: {}", struck.node, done.join("; ")));
        wrong
    }

    /// What stands on the first node goes on without the second one; all other traffic begins anew.
    fn power_cut(&mut self) -> Vec<String> {
        let pods = self.bed.settled();
        let mut wrong = self.judge(&pods);
        let from = Instant::now();
        let struck = strike::strike(&self.bed, &mut self.dice, Fault::PowerCut, self.away, &mut || {});
        let pods = self.bed.settled();
        self.outages.push_back(Outage { from, up: Instant::now() });
        let lost = self.judge(&pods);
        if struck.node == NODES[1] {
            wrong.extend(lost.into_iter().filter(|line| !CROSSING.iter().any(|way| line.starts_with(way))));
        }
        self.traffic = established(&self.bed, &pods).after(&self.traffic);
        self.tell(format!("  {}", struck.node));
        wrong
    }

    fn judge(&mut self, pods: &[Pod]) -> Vec<String> {
        let refused = refused(&self.bed, pods);
        self.traffic.judge(self.outages.make_contiguous(), refused)
    }

    /// Nothing of what came is left.
    fn end(&mut self) {
        self.tell("the end: all that is not of the start goes".to_owned());
        self.changes.undo(&self.bed);
        let pods = self.bed.settled();
        let mut wrong = self.audit.leaks(&self.bed, &pods, true);
        self.audits += 1;
        let (messages, _) = self.traffic.exchanges();
        until("the traffic to go on", || match self.traffic.exchanges().0 - messages {
            enough if enough > 60 * self.traffic.connections() as u64 => Ok(()),
            few => Err(format!("{few} messages")),
        });
        wrong.extend(self.judge(&pods));
        assert!(wrong.is_empty(), "at the end:\n{}", wrong.join("\n"));
    }

    fn report(&self, seed: u64, count: u64, took: Duration) {
        let mut figures = Figures::new("faults");
        figures.add("faults, seed, time", format!("{count}, {seed}, {:.0} s", took.as_secs_f64()));
        for (fault, times) in &self.faults {
            figures.add(fault.name(), times);
        }
        figures.add("changes of pods, labels, Services and policies", self.changes.made);
        figures.add("verdicts held against the policies", self.verdicts);
        figures.add("audits, leaks", format!("{}, 0", self.audits));
        let totals = self.traffic.totals;
        let lost = format!("{}, {}, {}", totals.sent, totals.lost_by_link, totals.refused);
        figures.add("datagrams, lost while a link or a node was away, refused by full buffers", lost);
        figures.add("the last lost after its link was up again", format!("{} ms", totals.recovery.as_millis()));
        let (messages, slowest) = self.traffic.exchanges();
        figures.add("connections, broken", format!("{}, 0", self.traffic.connections()));
        figures.add("messages answered on them, slowest", format!("{messages}, {slowest} ms"));
        figures.add("rows of FLOWS at their most, of", format!("{}, {ROWS}", self.rows));
        figures.keep();
    }
}

/// Rows of flows that are new may be displaced; these are promoted.
fn established(bed: &Bed, pods: &[Pod]) -> Traffic {
    let traffic = Traffic::start(ways(bed, pods), refused(bed, pods));
    until("the traffic to be established", || match traffic.exchanges().0 {
        enough if enough > 60 * traffic.connections() as u64 => Ok(()),
        few => Err(format!("{few} messages")),
    });
    traffic
}

/// On one node, between two, and through a Service.
fn ways(bed: &Bed, pods: &[Pod]) -> Vec<Way> {
    let find = |name: &str| pods.iter().find(|pod| pod.namespace == STEADY && pod.name == name).expect("it runs");
    let from = || bed.pod_netns(find(SENDER)).expect("it runs");
    let at = |address| SocketAddr::new(address, 8083);
    let far = bed.service(STEADY, FAR);
    until("the Service to answer", || {
        from().run(|| std::net::TcpStream::connect(at(far))).unwrap().map_err(|error| error.to_string())
    });
    vec![
        Way { name: "on one node", crosses: false, from: from(), to: at(find(ECHOES[0]).address) },
        Way { name: CROSSING[0], crosses: true, from: from(), to: at(find(ECHOES[1]).address) },
        Way { name: CROSSING[1], crosses: true, from: from(), to: at(far) },
    ]
}

/// Packets that the kernel's own queues and sockets' buffers have refused, on the way and at its ends.
fn refused(bed: &Bed, pods: &[Pod]) -> u64 {
    let table = std::fs::read_to_string("/proc/net/softnet_stat").unwrap();
    let dropped = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    let queues: u64 = table.lines().filter_map(dropped).sum();
    let ends = pods.iter().filter(|pod| pod.namespace == STEADY).filter_map(|pod| bed.pod_netns(pod));
    queues + ends.map(|netns| netns.run(in_buffers).unwrap()).sum::<u64>()
}

/// Of all UDP sockets of this thread's network.
fn in_buffers() -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap();
    table.lines().skip(1).filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
}
