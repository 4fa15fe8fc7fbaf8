//! The programs on a loaded node, and a way to run one of them on one packet many times.
use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use abi::{
    DropReason,
    event::{Counter, Hook, counter},
    flow::{FlowKey, FlowValue},
    map,
};
use anyhow::{Context as _, ensure};
use aya::{
    Ebpf, TestRun, TestRunOptions,
    maps::{HashMap, MapData, PerCpuArray, ProgramArray},
    programs::SchedClassifier,
};
use zerocopy::{FromBytes, IntoBytes};

#[path = "../../../ebpf/bench/plan.rs"]
mod plan;
pub(crate) use plan::{FIXED, NEW, RANDOM};
use plan::{Plan, WORDS};

use super::{
    ways::{Step, VNI, Way},
    world::{self, A, B, C, HOST_SIDE, NIC, OVERLAY, Sizes},
};
use crate::{Args, object, object::Loaded, report::quantile, space::ip, tables};

/// What the cut programs return.
pub(crate) const CUT: u32 = 99;
const REDIRECT: u32 = 7;
const SHOT: u32 = 2;
/// Size of `struct __sk_buff`, and where the interface index lies.
const SK_BUFF: usize = 192;
const IFINDEX: usize = 40;

/// Which flows, how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) mode: u32,
    pub(crate) count: u32,
    pub(crate) first: u32,
    pub(crate) repeat: u32,
}

/// A node.
pub(crate) struct Rig {
    node: Loaded,
    harness: Ebpf,
    target: ProgramArray<MapData>,
}

/// The devices that packets come by.
pub(crate) fn devices() -> anyhow::Result<()> {
    for (name, index) in [("weft_host", HOST_SIDE), ("eth0", NIC), ("pod-a", A), ("pod-b", B), ("pod-c", C)] {
        ip(&format!("link add {name} index {index} type veth peer name {name}-x index {}", index + 200))?;
        ip(&format!("link set {name} up"))?;
    }
    ip(&format!("link add weft_vxlan index {OVERLAY} type vxlan external dstport 8472"))
}

impl Rig {
    pub(crate) fn new(args: &Args, sizes: &Sizes) -> anyhow::Result<Rig> {
        Rig::with(args, sizes, 0)
    }

    /// With features beside those that every node has.
    pub(crate) fn with(args: &Args, sizes: &Sizes, features: u32) -> anyhow::Result<Rig> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let pins = PathBuf::from(format!("/run/bpf/{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let settings = world::settings(features);
        let mut node = object::weft(args, &pins, &settings)?;
        let mut harness = object::beside(args, "weft-bpf-harness", &pins, &settings)?;
        // Both have the maps by now; the next rig makes its own.
        std::fs::remove_dir_all(&pins).context("removing pins")?;
        world::fill(&mut node.bpf, sizes)?;
        let target = ProgramArray::try_from(harness.take_map("TARGET").context("no TARGET in the harness")?)?;
        Ok(Rig { node, harness, target })
    }

    /// Gives every flow its three first packets.
    pub(crate) fn establish(&mut self, way: &Way, flows: u32) -> anyhow::Result<()> {
        const AT_ONCE: u32 = 10_000;
        for begin in (0..flows).step_by(AT_ONCE as usize) {
            let repeat = AT_ONCE.min(flows - begin);
            // The plan counts up before each run: from flow 0 on.
            let sample = Sample { mode: NEW, count: 0, first: begin.wrapping_sub(1), repeat };
            for step in [way.syn, way.syn_ack, way.ack] {
                let (_, answer) = self.through(step.hook.name(), &step, &sample)?;
                ensure!(answer == REDIRECT, "{}: flags {:#x} answered {answer}", way.name, step.flags);
            }
        }
        let rows = usize::try_from(flows)? * if way.by_service() { 2 } else { 1 };
        let there = self.flows()?;
        ensure!(there == rows, "{}: {there} rows for {flows} flows opened in bursts of {AT_ONCE}", way.name);
        Ok(())
    }

    /// Rows of `FLOWS`.
    fn flows(&self) -> anyhow::Result<usize> {
        let name = map::FLOWS.name;
        let table: HashMap<&MapData, [u8; size_of::<FlowKey>()], [u8; size_of::<FlowValue>()]> =
            self.node.bpf.map(name).context(name)?.try_into()?;
        Ok(table.keys().filter(Result::is_ok).count())
    }

    /// Brings caches to the state that the samples find.
    pub(crate) fn warm(&mut self, way: &Way, step: Step, sample: &Sample) -> anyhow::Result<()> {
        self.established(way, step, &Sample { repeat: sample.repeat / 4 + 1, ..*sample }).map(|_| ())
    }

    /// ns of a packet on the established path, harness included.
    pub(crate) fn established(&mut self, way: &Way, step: Step, sample: &Sample) -> anyhow::Result<f64> {
        let before = self.passed(step.hook)?;
        self.cut_stage(Some(0))?; // Whoever left the established path would come back with another answer.
        let (ns, answer) = self.through(step.hook.name(), &step, sample)?;
        self.cut_stage(None)?;
        ensure!(answer == REDIRECT, "{}: the last packet answered {answer}", way.name);
        let passed = self.passed(step.hook)? - before;
        ensure!(passed == u64::from(sample.repeat), "{}: {passed} of {} packets passed", way.name, sample.repeat);
        Ok(ns)
    }

    /// ns of a first packet, harness included.
    pub(crate) fn opening(&mut self, way: &Way, sample: &Sample) -> anyhow::Result<f64> {
        let before = self.passed(way.syn.hook)?;
        let (ns, answer) = self.through(way.syn.hook.name(), &way.syn, sample)?;
        let passed = self.passed(way.syn.hook)? - before;
        let expected = if way.denied { (SHOT, 0) } else { (REDIRECT, u64::from(sample.repeat)) };
        let dropped = self.dropped(way.syn.hook)?;
        ensure!((answer, passed) == expected, "{}: answered {answer}, {passed} packets passed {dropped}", way.name);
        Ok(ns)
    }

    /// ns up to where a program was cut off, harness included.
    pub(crate) fn cut(&mut self, program: &str, step: &Step, sample: &Sample) -> anyhow::Result<f64> {
        let (ns, answer) = self.through(program, step, sample)?;
        ensure!(answer == CUT, "{program} answered {answer}");
        Ok(ns)
    }

    /// ns of a first packet up to a stage, harness included.
    pub(crate) fn until(&mut self, stage: u32, step: &Step, sample: &Sample) -> anyhow::Result<f64> {
        self.cut_stage(Some(stage))?;
        let (ns, answer) = self.through(step.hook.name(), step, sample)?;
        self.cut_stage(None)?;
        ensure!(answer == CUT, "the program before stage {stage} answered {answer}");
        Ok(ns)
    }

    /// ns of the harness alone.
    pub(crate) fn harness(&mut self, step: Step, sample: &Sample) -> anyhow::Result<f64> {
        self.cut("cut", &step, sample)
    }

    /// ns of a program that does nothing.
    pub(crate) fn empty(&mut self, repeat: u32) -> anyhow::Result<f64> {
        let packet = [0; 128];
        let options = TestRunOptions { data_in: Some(&packet), repeat, ..TestRunOptions::new() };
        let result = object::program(&mut self.harness, "cut")?.test_run(options).context("BPF_PROG_TEST_RUN")?;
        Ok(result.duration.as_nanos() as f64)
    }

    /// Forgets half-open flows.
    pub(crate) fn clear(&mut self) -> anyhow::Result<()> {
        let name = map::HALFOPEN.name;
        let mut table: HashMap<&mut MapData, [u8; size_of::<FlowKey>()], [u8; size_of::<FlowValue>()]> =
            self.node.bpf.map_mut(name).context(name)?.try_into()?;
        let keys: Vec<[u8; size_of::<FlowKey>()]> = table.keys().collect::<Result<_, _>>()?;
        keys.iter().for_each(|key| drop(table.remove(key)));
        Ok(())
    }

    /// Name, verified instructions and translated bytes of each program.
    pub(crate) fn sizes(&self) -> anyhow::Result<Vec<(String, u32, u32)>> {
        let mut sizes = Vec::new();
        for (name, program) in self.node.bpf.programs() {
            let info = program.info()?;
            let instructions = info.verified_instruction_count().unwrap_or(0);
            sizes.push((name.to_owned(), instructions, info.size_translated().unwrap_or(0)));
        }
        sizes.sort();
        Ok(sizes)
    }

    /// Puts an end in the place of a stage, or everything back.
    fn cut_stage(&mut self, at: Option<u32>) -> anyhow::Result<()> {
        for (index, stage) in (0..).zip(map::STAGES) {
            let program: &SchedClassifier = if at == Some(index) {
                self.harness.program("cut").context("no cut")?.try_into()?
            } else {
                self.node.bpf.program(stage).context(stage)?.try_into()?
            };
            self.node.stages.set(index, program.fd()?, 0)?;
        }
        Ok(())
    }

    /// Packets that passed at a hook so far.
    fn passed(&mut self, hook: Hook) -> anyhow::Result<u64> {
        let name = map::COUNTERS.name;
        let table: PerCpuArray<&MapData, [u8; 16]> = self.node.bpf.map(name).context(name)?.try_into()?;
        let rows = table.get(&counter(0, hook), 0)?;
        Ok(rows.iter().filter_map(|row| Counter::read_from_bytes(row).ok()).map(|row| row.packets).sum())
    }

    /// What was dropped at a hook so far, in words.
    fn dropped(&mut self, hook: Hook) -> anyhow::Result<String> {
        let name = map::COUNTERS.name;
        let table: PerCpuArray<&MapData, [u8; 16]> = self.node.bpf.map(name).context(name)?.try_into()?;
        let mut words = String::new();
        for reason in DropReason::ALL {
            let rows = table.get(&counter(*reason as u8, hook), 0)?;
            let packets: u64 =
                rows.iter().filter_map(|row| Counter::read_from_bytes(row).ok()).map(|row| row.packets).sum();
            if packets > 0 {
                words += &format!(" {packets} {}", reason.label());
            }
        }
        Ok(words)
    }

    /// ns of a program on a packet that is new each time, the middle of many runs, and the last answer: for what changes a
    /// packet so that it cannot be run again.
    pub(crate) fn single(&mut self, name: &str, ifindex: u32, packet: &[u8], runs: u32) -> anyhow::Result<(f64, u32)> {
        let mut context = [0; SK_BUFF];
        context[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
        let program: &SchedClassifier = match self.node.bpf.program(name) {
            Some(program) => program.try_into()?,
            None => object::program(&mut self.harness, name)?,
        };
        let (mut figures, mut answer) = (Vec::with_capacity(runs as usize), 0);
        for _ in 0..runs {
            let options = TestRunOptions { data_in: Some(packet), ctx_in: Some(&context), ..TestRunOptions::new() };
            let result = program.test_run(options).context("BPF_PROG_TEST_RUN")?;
            figures.push(result.duration.as_nanos() as f64);
            answer = result.return_value;
        }
        Ok((quantile(&figures, 0.5), answer))
    }

    /// Runs a program on a packet: ns per run, and the last answer.
    fn through(&mut self, program: &str, step: &Step, sample: &Sample) -> anyhow::Result<(f64, u32)> {
        let fd = match self.node.bpf.program(program) {
            Some(program) => <&SchedClassifier>::try_from(program)?.fd()?,
            None => object::program(&mut self.harness, program)?.fd()?,
        };
        self.target.set(0, fd, 0)?;
        let packet = packet(step);
        let plan = plan(step, &packet, sample);
        tables::array(&mut self.harness, "PLAN", [(0, tables::raw::<112>(&plan))])?;
        let mut context = [0; SK_BUFF];
        context[IFINDEX..IFINDEX + 4].copy_from_slice(&step.ifindex.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(&packet),
            ctx_in: Some(&context),
            repeat: sample.repeat,
            ..TestRunOptions::new()
        };
        let result = object::program(&mut self.harness, "harness")?.test_run(options).context("BPF_PROG_TEST_RUN")?;
        Ok((result.duration.as_nanos() as f64, result.return_value))
    }
}

fn plan(step: &Step, packet: &[u8], sample: &Sample) -> Plan {
    let mut header = [0; WORDS];
    header.as_mut_bytes().copy_from_slice(&packet[..WORDS * 8]);
    Plan {
        header,
        mode: sample.mode,
        count: sample.count,
        next: sample.first,
        back: u32::from(step.back),
        port: u32::from(step.port),
        tunnel_source: step.tunnel.map_or(0, u32::from_be_bytes),
        vni: VNI,
        v6: u32::from(world::is_v6()),
    }
}

/// 100 bytes of TCP; its checksums are those of no payload and change with the rewriting alone.
pub(crate) fn packet(step: &Step) -> Vec<u8> {
    let mut bytes = vec![0; 100];
    bytes[..6].copy_from_slice(&abi::config::GATEWAY_MAC);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, step.src[3]]); // The pod's own, or the datapath drops it.
    if world::is_v6() {
        (bytes[12], bytes[13], bytes[14], bytes[19], bytes[20], bytes[21]) = (0x86, 0xdd, 0x60, 46, 6, 64);
        bytes[22..38].copy_from_slice(&world::addr(step.src).bytes());
        bytes[38..54].copy_from_slice(&world::addr(step.dst).bytes());
        (bytes[66], bytes[67]) = (0x50, step.flags);
        return bytes;
    }
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[14] = 0x45;
    bytes[16..18].copy_from_slice(&86_u16.to_be_bytes());
    (bytes[22], bytes[23]) = (64, 6);
    bytes[26..30].copy_from_slice(&step.src);
    bytes[30..34].copy_from_slice(&step.dst);
    let sum = bytes[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    bytes[24..26].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    (bytes[46], bytes[47]) = (0x50, step.flags);
    bytes
}
