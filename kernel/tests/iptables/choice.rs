//! Which back end a node is found to use.

use anyhow::{Result, ensure};
use kernel::iptables::{Backend, Iptables, choose};

use super::SCRIPT;

fn expect_choice(expected: Backend) -> Result<()> {
    let choice = choose()?;
    ensure!(choice == expected, "the choice is {choice}");
    Ok(())
}

pub(super) fn by_default() -> Result<()> {
    expect_choice(Backend::Nft)?;
    // Having looked must not make a difference.
    let mut lines = 0;
    Iptables::find(Backend::Legacy, false)?.save_all(|_, _| lines += 1)?;
    ensure!(lines == 0, "a legacy table was created");
    expect_choice(Backend::Nft)
}

pub(super) fn by_legacy_hint() -> Result<()> {
    let hint = "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n";
    Iptables::find(Backend::Legacy, true)?.restore(hint)?;
    Iptables::find(Backend::Nft, false)?.restore(SCRIPT)?;
    expect_choice(Backend::Legacy)
}

pub(super) fn by_rules() -> Result<()> {
    Iptables::find(Backend::Legacy, false)?.restore(SCRIPT)?;
    expect_choice(Backend::Legacy)?;
    Iptables::find(Backend::Nft, false)?.restore(SCRIPT)?;
    expect_choice(Backend::Nft)
}

pub(super) fn by_nft_hint() -> Result<()> {
    Iptables::find(Backend::Legacy, false)?.restore(SCRIPT)?;
    let hint = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n";
    Iptables::find(Backend::Nft, true)?.restore(hint)?;
    expect_choice(Backend::Nft)
}
