//! Scripts that are taken, and scripts that are not.

use anyhow::{Result, bail, ensure};
use kernel::Error;
use kernel::iptables::{Backend, Iptables, Table};

use super::{SCRIPT, saved};

fn refusal(result: Result<(), Error>) -> Result<String> {
    let Err(error) = result else { bail!("what cannot be was done") };
    ensure!(matches!(error, Error::Rejected { .. }) && error.blames_the_request(), "{error:?}");
    Ok(error.to_string())
}

pub(super) fn round_trip(iptables: &Iptables) -> Result<()> {
    iptables.restore(SCRIPT)?;
    let chains = saved(iptables, Table::Nat)?;
    let rule = "-p tcp -m comment --comment \"default/web:http has no endpoint\" -m tcp --dport 80 -j KUBE-B";
    ensure!(chains.get("KUBE-A").is_some_and(|rules| rules == &[rule]), "{chains:?}");
    ensure!(chains.get("KUBE-B").is_some_and(|rules| rules.len() == 1), "{chains:?}");
    ensure!(chains.get("PREROUTING").is_some_and(|rules| rules == &["-j KUBE-A"]), "{chains:?}");
    // A chain that is named is emptied, and others are left alone.
    iptables.restore("*nat\n:KUBE-B - [0:0]\n-A KUBE-B\nCOMMIT\n")?;
    let chains = saved(iptables, Table::Nat)?;
    ensure!(chains.get("KUBE-B").is_some_and(|rules| rules == &[""]), "{chains:?}");
    ensure!(chains.get("KUBE-A").is_some_and(|rules| rules.len() == 1), "{chains:?}");
    Ok(())
}

pub(super) fn long_script(iptables: &Iptables) -> Result<()> {
    const RULES: usize = 300;
    let filler = "# nothing of interest\n".repeat(10);
    let rules = (1..=RULES).map(|port| format!("{filler}-A KUBE-A -p tcp -m tcp --dport {port} -j RETURN\n"));
    let rules: String = rules.collect();
    iptables.restore(&format!("*nat\n:KUBE-A - [0:0]\n{rules}COMMIT\n"))?;
    let chains = saved(iptables, Table::Nat)?;
    ensure!(chains.get("KUBE-A").is_some_and(|rules| rules.len() == RULES), "rules are missing");
    // It stops reading at the first line, long before the script's end.
    let refused = refusal(iptables.restore(&format!("nonsense\n{}", "# more\n".repeat(200_000))))?;
    ensure!(refused.contains("line 1, \"nonsense\""), "{refused}");
    // In a user namespace the socket of the nft back end is small.
    match iptables.restore(&format!("*nat\n{}COMMIT\n", rules.repeat(30))) {
        Ok(()) => Ok(()),
        Err(error @ Error::ScriptTooLarge { .. }) if iptables.backend() == Backend::Nft => {
            ensure!(!error.blames_the_request(), "{error}");
            Ok(())
        }
        Err(error) => bail!(error),
    }
}

pub(super) fn refused_line(iptables: &Iptables) -> Result<()> {
    let script = "*nat\n:KUBE-A - [0:0]\n# default/other:http\n-A KUBE-A -j RETURN\n# default/web:http\n\
                  -A KUBE-A -p tcp -m tcp --dport 99999 -j RETURN\nCOMMIT\n";
    let refused = refusal(iptables.restore(script))?;
    let start = match (iptables.backend(), iptables.ipv6()) {
        (Backend::Nft, false) => "iptables-nft-restore",
        (Backend::Nft, true) => "ip6tables-nft-restore",
        (Backend::Legacy, false) => "iptables-legacy-restore",
        (Backend::Legacy, true) => "ip6tables-legacy-restore",
    };
    let expected = format!(
        "{start} refused line 6, \"-A KUBE-A -p tcp -m tcp --dport 99999 -j RETURN\" (default/web:http): \
         invalid port/service `99999' specified"
    );
    ensure!(refused == expected, "{refused}");
    ensure!(!saved(iptables, Table::Nat)?.contains_key("KUBE-A"), "part of a refused table is in force");
    let refused = refusal(iptables.restore("*nat\n# about it\n-A KUBE-MISSING -j RETURN\nCOMMIT\n"))?;
    ensure!(refused.contains("line 3, \"-A KUBE-MISSING -j RETURN\" (about it)"), "{refused}");
    Ok(())
}

pub(super) fn refused_removal(iptables: &Iptables) -> Result<()> {
    iptables.restore(SCRIPT)?;
    let refused = refusal(iptables.restore("*nat\n-X KUBE-B\nCOMMIT\n"))?;
    ensure!(refused.contains("line 2, \"-X KUBE-B\""), "{refused}");
    ensure!(saved(iptables, Table::Nat)?.contains_key("KUBE-B"), "a chain in use was removed");
    Ok(())
}

pub(super) fn refused_by_kernel(iptables: &Iptables) -> Result<()> {
    let to = if iptables.ipv6() { "[fd00::1]:80" } else { "10.0.0.1:80" };
    let rule = format!("-A KUBE-A -p tcp -j DNAT --to-destination {to}");
    let script = format!("*filter\n:KUBE-A - [0:0]\n-A KUBE-A -j RETURN\n# default/web\n{rule}\nCOMMIT\n");
    let refused = refusal(iptables.restore(&script))?;
    let expected = match iptables.backend() {
        Backend::Nft => {
            format!("refused line 5, \"{rule}\" (default/web): RULE_APPEND failed (Invalid argument)")
        }
        Backend::Legacy => "refused line 6, \"COMMIT\": the kernel took no line of this table".to_owned(),
    };
    ensure!(refused.contains(&expected), "{refused}");
    ensure!(!saved(iptables, Table::Filter)?.contains_key("KUBE-A"), "part of a refused table is in force");
    Ok(())
}

pub(super) fn rehearsal(iptables: &Iptables) -> Result<()> {
    iptables.rehearse(SCRIPT)?;
    ensure!(!saved(iptables, Table::Nat)?.contains_key("KUBE-A"), "a rehearsal left something behind");
    let refused = refusal(iptables.rehearse(&SCRIPT.replace("--dport 80", "--dport x")))?;
    ensure!(refused.contains("line 5,") && refused.contains("(default/web:http)"), "{refused}");
    Ok(())
}

pub(super) fn removal(iptables: &Iptables) -> Result<()> {
    iptables.restore(SCRIPT)?;
    let script =
        "*nat\n:KUBE-A - [0:0]\n:KUBE-B - [0:0]\n-D PREROUTING -j KUBE-A\n-X KUBE-A\n-X KUBE-B\nCOMMIT\n";
    iptables.restore(script)?;
    let left = saved(iptables, Table::Nat)?;
    ensure!(left.keys().all(|chain| !chain.starts_with("KUBE-")), "{left:?}");
    ensure!(left.values().all(Vec::is_empty), "{left:?}");
    Ok(())
}
