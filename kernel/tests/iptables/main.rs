//! iptables through its programs, both back ends and both families, against the kernel.

mod choice;
mod monitor;
mod scripts;
mod tables;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use kernel::iptables::{Backend, Iptables, SavedLine, Table};
use testbed::suite::{Test, run};

/// What must hold of one back end's programs for one family.
type Case = (&'static str, fn(&Iptables) -> Result<()>);

const EVERYWHERE: [Case; 8] = [
    ("what_is_restored_is_saved", scripts::round_trip),
    ("a_script_longer_than_a_pipe_is_restored", scripts::long_script),
    ("a_refused_line_is_named_with_what_it_is_about", scripts::refused_line),
    ("a_chain_in_use_is_not_removed", scripts::refused_removal),
    ("what_the_kernel_refuses_leaves_the_table_as_it_was", scripts::refused_by_kernel),
    ("a_rehearsal_refuses_nonsense_and_changes_nothing", scripts::rehearsal),
    ("chains_and_rules_can_be_removed_together", scripts::removal),
    ("saving_all_creates_no_table", tables::save_all),
];
const LEGACY: [Case; 2] = [
    ("the_holder_of_the_lock_is_named", tables::locked),
    ("a_table_that_changed_has_another_size", tables::size),
];

fn main() -> ExitCode {
    let mut tests: Vec<Test> =
        Backend::BOTH.into_iter().flat_map(|backend| of(backend, &EVERYWHERE)).collect();
    tests.extend(of(Backend::Legacy, &LEGACY));
    tests.extend([
        Test::new("an_unused_node_uses_nft", choice::by_default),
        Test::new("a_hint_in_legacy_means_legacy", choice::by_legacy_hint),
        Test::new("more_rules_in_legacy_mean_legacy", choice::by_rules),
        Test::new("a_hint_in_nft_outweighs_rules_in_legacy", choice::by_nft_hint),
        Test::new("nftables_have_no_size", tables::no_size),
        Test::new("rules_that_iptables_cannot_list_are_no_empty_table", tables::foreign_rules),
        Test::new("only_changes_by_others_of_what_has_our_name_are_heard_of", monitor::mentions),
    ]);
    run(tests)
}

/// The cases as tests, in both families.
fn of(backend: Backend, cases: &'static [Case]) -> impl Iterator<Item = Test> {
    let both = [("ipv4", false), ("ipv6", true)].into_iter();
    both.flat_map(move |family| cases.iter().map(move |case| (family, *case))).map(
        move |((family, ipv6), (name, run))| {
            Test::new(format!("{backend}::{family}::{name}"), move || run(&Iptables::find(backend, ipv6)?))
        },
    )
}

const SCRIPT: &str = "\
*nat
:KUBE-A - [0:0]
:KUBE-B - [0:0]
# default/web:http
-A KUBE-A -p tcp -m comment --comment \"default/web:http has no endpoint\" -m tcp --dport 80 -j KUBE-B
-A KUBE-B -j MARK --set-xmark 0x4000/0x4000
-A PREROUTING -j KUBE-A
COMMIT
";

/// The rules of a table, by chain.
fn saved(iptables: &Iptables, table: Table) -> Result<BTreeMap<String, Vec<String>>> {
    let mut chains = BTreeMap::<_, Vec<_>>::new();
    iptables.save(table, |line| match line {
        SavedLine::Chain(name) => drop(chains.insert(name.to_owned(), Vec::new())),
        SavedLine::Rule { chain, rule } => chains.entry(chain.to_owned()).or_default().push(rule.to_owned()),
    })?;
    Ok(chains)
}

fn run_command(command: &str) -> Result<()> {
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap_or_default()).args(words).status();
    ensure!(status.with_context(|| command.to_owned())?.success(), "{command} failed");
    Ok(())
}
