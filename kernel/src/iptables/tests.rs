//! What programs of iptables 1.8.9 say, and what is made of it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::complaint::{Outcome, error, failure};
use super::{Backend, Table};
use crate::Error;

const SCRIPT: &str =
    "*nat\n:KUBE-A - [0:0]\n# default/web:http\n-A KUBE-A -j RETURN\n-A KUBE-A -j KUBE-B\nCOMMIT\n";

fn exit(code: i32) -> ExitStatus {
    ExitStatus::from_raw(code << 8)
}

fn of(said: &str, status: ExitStatus) -> Error {
    error(&Outcome { program: "iptables-x-restore", script: SCRIPT, said, status })
}

#[track_caller]
fn expect(said: &str, code: i32, expected: &str) {
    let error = of(said, exit(code));
    assert_eq!(error.to_string(), format!("iptables-x-restore refused {expected}"));
    assert!(error.blames_the_request());
}

#[test]
fn words_and_back_ends_are_the_same_both_ways() {
    for backend in Backend::BOTH {
        assert_eq!(backend.to_string().parse(), Ok(backend));
    }
    let error = "iptables".parse::<Backend>().unwrap_err().to_string();
    assert_eq!(error, "there is no iptables back end \"iptables\": say nft or legacy");
    assert!(Table::ALL.into_iter().all(|table| Table::named(table.as_str()) == Some(table)));
}

#[test]
fn lines_that_the_nft_back_end_refuses() {
    expect(
        "iptables-nft-restore v1.8.9 (nf_tables): unknown option \"--nonsense\"\nError occurred at line: 4\n\
         Try `iptables-nft-restore -h' or 'iptables-nft-restore --help' for more information.\n",
        2,
        "line 4, \"-A KUBE-A -j RETURN\" (default/web:http): unknown option \"--nonsense\"",
    );
    expect(
        "iptables-nft-restore: line 5 failed: No chain/target/match by that name.\n",
        1,
        "line 5, \"-A KUBE-A -j KUBE-B\" (default/web:http): No chain/target/match by that name.",
    );
    expect(
        "# Warning: iptables-legacy tables present, use iptables-legacy to see them\n\
         iptables-nft-restore v1.8.9 (nf_tables): \nline 2: CHAIN_DEL failed (Device or resource busy): chain KUBE-A\n",
        4,
        "line 2, \":KUBE-A - [0:0]\": CHAIN_DEL failed (Device or resource busy): chain KUBE-A",
    );
    expect(
        "iptables-nft-restore v1.8.9 (nf_tables): Chain 'KUBE-B' does not exist\nError occurred at line: 6\n",
        2,
        "line 6, \"COMMIT\": Chain 'KUBE-B' does not exist",
    );
    expect("iptables-nft-restore: COMMIT expected at line 7\n", 1, "the script: COMMIT expected at line 7");
}

#[test]
fn lines_that_the_legacy_back_end_refuses() {
    expect(
        "iptables-restore: line 4 failed\n",
        1,
        "line 4, \"-A KUBE-A -j RETURN\" (default/web:http): it gives no reason",
    );
    expect(
        "iptables-restore: line 6 failed\n",
        1,
        "line 6, \"COMMIT\": the kernel took no line of this table, and does not say which is at fault",
    );
    expect(
        "iptables-restore v1.8.9 (legacy): Couldn't load match `nonsense':No such file or directory\n\n\
         Error occurred at line: 5\nTry `iptables-restore -h' or 'iptables-restore --help' for more information.\n",
        2,
        "line 5, \"-A KUBE-A -j KUBE-B\" (default/web:http): \
         Couldn't load match `nonsense':No such file or directory",
    );
    expect(
        "iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat'\n\
         Error occurred at line: 1\n",
        2,
        "line 1, \"*nat\": unable to initialize table 'nat'",
    );
    expect(
        "Bad argument `hello'\nError occurred at line: 2\n",
        2,
        "line 2, \":KUBE-A - [0:0]\": Bad argument `hello'",
    );
}

#[test]
fn an_end_without_a_word_makes_sense_too() {
    expect("", 1, "the script: it gives no reason (exit status: 1)");
    let killed = of("", ExitStatus::from_raw(9));
    assert_eq!(killed.to_string(), "iptables-x-restore refused the script: it was ended by signal 9");
}

#[test]
fn what_is_no_fault_of_the_script_blames_nobody() {
    let root = "iptables-nft-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you \
                must be root)\n";
    let denied = of(root, exit(4));
    assert!(matches!(denied, Error::Permission { .. }) && !denied.blames_the_request(), "{denied}");
    let raw = of("Can't open socket to ipset.\n\n", exit(1));
    assert!(matches!(raw, Error::Permission { .. }) && !raw.blames_the_request(), "{raw}");
    assert!(raw.to_string().contains("CAP_NET_RAW"), "{raw}");
    let memory = of("line 4: RULE_APPEND failed (Cannot allocate memory): rule in chain KUBE-A\n", exit(4));
    assert!(matches!(memory, Error::Io { .. }) && !memory.blames_the_request(), "{memory}");
    let large = of("sendmsg() failed: Message too long\nline 4: Message too long.\n", exit(4));
    assert!(matches!(large, Error::ScriptTooLarge { .. }) && !large.blames_the_request(), "{large}");
    let file = of("Fatal: can't open lock file /run/xtables.lock: Permission denied\n", exit(4));
    assert_eq!(
        file.to_string(),
        "cannot run iptables-x-restore: Fatal: can't open lock file /run/xtables.lock: Permission denied"
    );
    let list = failure("list", "iptables-save v1.8.9 (legacy): Cannot initialize: odd\n", exit(1));
    assert_eq!(list.to_string(), "cannot list: Cannot initialize: odd");
}

#[test]
fn the_lock_is_told_of_by_status_and_words() {
    let said = "Can't lock /run/xtables.lock: Resource temporarily unavailable\n\
                Another app is currently holding the xtables lock. Stopped waiting after 1s.\n";
    let outcome = |status| Outcome { program: "p", script: SCRIPT, said, status };
    assert!(outcome(exit(4)).tells_of_lock() && !outcome(exit(1)).tells_of_lock());
    let error = Error::Locked { seconds: 5, holder: Some("flock (process 7)".to_owned()) };
    assert!(!error.blames_the_request());
    assert_eq!(
        error.to_string(),
        "flock (process 7) held the xtables lock for all of 5 s: iptables cannot be changed until it lets go"
    );
}

#[test]
fn what_is_long_is_cut() {
    let script = format!("*nat\n-A {}\nCOMMIT\n", "é".repeat(1000));
    let said = format!("iptables-restore: line 2 failed: {}\n", "ü".repeat(1000));
    let outcome = Outcome { program: "p", script: &script, said: &said, status: exit(1) };
    assert!(error(&outcome).to_string().chars().count() < 700);
}
