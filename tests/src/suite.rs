//! Turning a table of scenarios into tests.
//!
//! Every scenario runs in namespaces of its own, in a process of its own, for every mode and family: its test is
//! called `mode::family::scenario`. The scenarios name no mode. What a mode does otherwise on purpose is declared in
//! one table, [`DIFFERENCES`].

use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::bed::Family;
use crate::isolation::{self, Privileges};
use crate::mode::{self, Mode};
use crate::vm;

/// How long a scenario may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tells a process of ours which test to run.
const TEST: &str = "POINTSMAN_TEST";

/// The modes that scenarios run in on this machine: in the virtual one all, on a host those that every host has. IPVS
/// takes modules that a host may lack, and the machine's root; the suite `vm` runs it.
#[must_use]
pub fn modes() -> &'static [Mode] {
    const ALL: &[Mode] = &[
        mode::NFTABLES,
        mode::IPTABLES_NFT,
        mode::IPTABLES_LEGACY,
        mode::USERSPACE,
        mode::USERSPACE_IPTABLES,
        mode::IPVS,
    ];
    let everywhere = ALL.len() - 1;
    if vm::is_guest() { ALL } else { &ALL[..everywhere] }
}

/// What a mode does otherwise, on purpose, as kube-proxy's own modes do: mode, scenario, and why. The scenario does not
/// run in that mode. `iptables` means it on either back end.
pub const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("iptables", "undefined_ports_are_refused", "it has rules for ports that services have, and no others"),
    ("iptables", "unallocated_cluster_ips_are_dropped", "it does not look at ServiceCIDRs"),
    ("iptables", "service_cidrs_come_and_go", "it does not look at ServiceCIDRs"),
    (
        "iptables",
        "node_ports_answer_on_the_primary_address_by_default",
        "node ports answer on every address unless --nodeport-addresses says otherwise",
    ),
    (
        "iptables",
        "node_ports_never_answer_on_loopback",
        "over IPv4 they do, unless --iptables-localhost-nodeports=false",
    ),
    (
        "iptables",
        "source_ranges_guard_services_without_endpoints",
        "a service without endpoints refuses everybody, whatever its source ranges",
    ),
    (
        "iptables",
        "the_node_is_refused_at_external_addresses_without_endpoints",
        "KUBE-EXTERNAL-SERVICES is not hooked into OUTPUT: the node's own packets are routed onwards",
    ),
    (
        "iptables",
        "a_table_that_another_program_owns_is_waited_for_and_shown",
        "its tables belong to everybody; what can be held is the lock, see the suite `iptables`",
    ),
    (
        "iptables-legacy",
        "changes_by_others_during_the_first_sync_are_noticed",
        "nothing tells who changed its tables while they were read",
    ),
    (
        "iptables-nft",
        "a_lock_that_is_held_for_ever_is_shown_and_waited_for",
        "nftables needs no lock, and iptables-nft takes none",
    ),
    (
        "iptables-nft",
        "another_mode_that_cannot_have_the_lock_tries_again",
        "nftables needs no lock, and iptables-nft takes none",
    ),
    (
        "iptables-nft",
        "damage_while_we_wait_for_the_lock_is_repaired",
        "nftables needs no lock, and iptables-nft takes none",
    ),
    ("ipvs", "unallocated_cluster_ips_are_dropped", "it does not look at ServiceCIDRs"),
    ("ipvs", "service_cidrs_come_and_go", "it does not look at ServiceCIDRs"),
    (
        "ipvs",
        "node_ports_answer_on_the_primary_address_by_default",
        "node ports answer on every address unless --nodeport-addresses says otherwise",
    ),
    ("ipvs", "external_local_lets_pods_and_the_node_go_anywhere", USES_ENDPOINTS_HERE),
    ("ipvs", "both_policies_local", USES_ENDPOINTS_HERE),
    ("ipvs", "hints_do_not_matter_under_local", USES_ENDPOINTS_HERE),
    ("ipvs", "without_a_way_to_tell_pods_external_local_takes_them_for_outsiders", USES_ENDPOINTS_HERE),
    ("nftables", "external_local_keeps_everybody_on_this_node_while_it_can", GO_ANYWHERE),
    ("iptables", "external_local_keeps_everybody_on_this_node_while_it_can", GO_ANYWHERE),
    ("ipvs", "a_client_stays_whatever_frontend_it_uses", "each virtual server remembers its own clients"),
    (
        "ipvs",
        "an_idle_client_is_forgotten",
        "a client is remembered at least as long as IPVS remembers one of its connections: two minutes after a FIN",
    ),
    ("userspace", "external_local_keeps_everybody_on_this_node_while_it_can", GO_ANYWHERE),
    ("userspace", "a_crash_and_restart_under_traffic_fails_no_connection", DIES),
    ("userspace", "an_ordinary_end_leaves_everything_in_force", DIES),
    ("userspace", "fifty_crashes_under_churn_fail_no_connection", DIES),
    ("userspace", "a_restart_forgets_nobody", FORGETS),
    ("userspace", "udp_flows_survive_a_restart", FORGETS),
    (
        "userspace",
        "without_a_way_to_tell_pods_cluster_ips_are_not_masqueraded",
        "addresses are kept where answers are sure to come back: without a way to tell pods, of nobody",
    ),
    (
        "userspace",
        "pods_are_told_by_their_bridge",
        "pods on one bridge may answer each other past the node, so they see its address; see the suite `userspace`",
    ),
    ("userspace", "a_node_that_does_not_forward_is_diagnosed", "it carries connections itself"),
];

const DIES: &str = "connections are carried by the process, and end with it";
const FORGETS: &str = "what the process remembers of clients ends with it";
const USES_ENDPOINTS_HERE: &str = "a virtual server has one list of endpoints: under policy Local those here, for pods and the node as well";
const GO_ANYWHERE: &str = "pods and the node go to any endpoint, whatever the external policy";

/// A scenario: what it is called and what it does.
pub struct Scenario<T> {
    /// Says what must hold, in words joined by `_`.
    pub name: &'static str,
    /// Fails if it does not hold.
    pub run: fn(&mut T) -> Result<()>,
}

/// A table of scenarios that work on the same type, each named as its function.
#[macro_export]
macro_rules! scenarios {
    ($subject:ty: $($name:ident),* $(,)?) => {
        pub(crate) const SCENARIOS: &[$crate::suite::Scenario<$subject>] =
            &[$($crate::suite::Scenario { name: stringify!($name), run: $name }),*];
    };
}

/// In which mode and family a scenario runs.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// Mode.
    pub mode: Mode,
    /// Address family.
    pub family: Family,
}

/// Runs scenarios as tests, each in every mode of a list and every family. `prepare` makes what a scenario works on, in
/// its namespaces; `explain` says what there is to know when one failed.
pub fn run_everywhere<T: 'static>(
    modes: &'static [Mode],
    tables: &[&'static [Scenario<T>]],
    prepare: fn(Circumstances) -> Result<T>,
    explain: fn(&T) -> String,
) -> ExitCode {
    run(everywhere(modes, tables, prepare, explain))
}

/// The tests that [`run_everywhere`] runs.
pub fn everywhere<T: 'static>(
    modes: impl IntoIterator<Item = &'static Mode>,
    tables: &[&'static [Scenario<T>]],
    prepare: fn(Circumstances) -> Result<T>,
    explain: fn(&T) -> String,
) -> Vec<Test> {
    let mut tests = Vec::new();
    for mode in modes {
        for family in Family::BOTH {
            let scenarios = tables.iter().copied().flatten();
            for scenario in scenarios.filter(|scenario| !differs(mode, scenario.name)) {
                let name = format!("{}::{}::{}", mode.name, family.name().to_lowercase(), scenario.name);
                let run = move || {
                    let mut subject = prepare(Circumstances { mode: *mode, family })?;
                    let result = (scenario.run)(&mut subject);
                    result.map_err(|error| anyhow::anyhow!("{error:?}\n\n{}", explain(&subject)))
                };
                tests.push(Test::new(name, run).with(mode.privileges));
            }
        }
    }
    tests
}

fn differs(mode: &Mode, scenario: &str) -> bool {
    let is_of = |mode: &Mode| DIFFERENCES.iter().any(|(of, name, _)| mode.is(of) && *name == scenario);
    is_of(mode) || is_of(&mode.of_frontends())
}

/// A test that runs in namespaces of its own.
pub struct Test {
    /// Its name.
    pub name: String,
    /// Fails if what it tests does not hold.
    pub run: Box<dyn FnOnce() -> Result<()> + Send>,
    /// As whom it runs.
    pub privileges: Privileges,
}

impl Test {
    /// A test that takes no privileges.
    pub fn new(name: impl Into<String>, run: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run), privileges: Privileges::default() }
    }

    /// The same, run as somebody else.
    #[must_use]
    pub fn with(self, privileges: Privileges) -> Self {
        Self { privileges, ..self }
    }
}

/// Runs tests, each in namespaces and a process of its own. To be the whole of a suite's `main`.
#[must_use]
pub fn run(tests: Vec<Test>) -> ExitCode {
    run_with(&Arguments::from_args(), tests)
}

/// The same for tests that wait more than they work: twice as many at once, unless the command line says how many.
#[must_use]
pub fn run_waiting(tests: Vec<Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let by_default = || thread::available_parallelism().map_or(2, |cores| 2 * cores.get());
    arguments.test_threads.get_or_insert_with(by_default);
    run_with(&arguments, tests)
}

fn run_with(arguments: &Arguments, tests: Vec<Test>) -> ExitCode {
    if isolation::is_isolated() {
        return run_one_here(tests);
    }
    let trials = tests.into_iter().map(|test| {
        let (name, privileges) = (test.name, test.privileges);
        Trial::test(name.clone(), move || {
            let command = isolation::this_program_as(privileges, &[])?;
            run_bounded(command, &name, vm::patience(PATIENCE))
        })
    });
    libtest_mimic::run(arguments, trials.collect()).exit_code()
}

fn run_one_here(tests: Vec<Test>) -> ExitCode {
    let run = || -> Result<()> {
        isolation::settle()?;
        let wanted = std::env::var(TEST).context("no test was named")?;
        let test = tests.into_iter().find(|test| test.name == wanted);
        (test.with_context(|| format!("there is no test {wanted}"))?.run)()
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command that is to run a test, and ends it when its time is over.
///
/// # Errors
/// When it fails, with all it printed, or hangs.
pub fn run_bounded(mut command: Command, name: &str, patience: Duration) -> Result<(), Failed> {
    let (output, printed) = std::io::pipe()?;
    command.env(TEST, name).stdout(printed.try_clone()?).stderr(printed).stdin(Stdio::piped());
    let mut child = command.spawn()?;
    // Our copies of the pipe's writing end must go, or its end would never come.
    drop(command);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let (mut output, mut text) = (output, Vec::new());
        let read = output.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned());
        let _ = sender.send(read);
    });
    let Ok(printed) = receiver.recv_timeout(patience) else {
        child.kill()?;
        child.wait()?;
        let printed = receiver.recv().ok().and_then(Result::ok).unwrap_or_default();
        return Err(format!("hung for {patience:?}; until then it printed:\n{printed}").into());
    };
    match child.wait()?.success() {
        true => Ok(()),
        false => Err(printed?.into()),
    }
}
