//! The iptables mode's rules, in the words of `iptables` and `ip6tables`.

use anyhow::{Result, ensure};

use super::Edit;
use crate::bed::Family;
use crate::iptables::Iptables;

/// What is in rules that are not the proxy's, and in no others.
const FOREIGN: [&str; 3] = ["foreign", "KUBE-KUBELET-CANARY", "KUBE-FIREWALL"];

/// Changes that others make in a table that is nobody's business.
const ELSEWHERE: &str =
    "*raw\n:foreign - [0:0]\n-A PREROUTING -j foreign\n-D PREROUTING -j foreign\n-X foreign\nCOMMIT\n";

/// Rules that a firewall, a network plugin and the kubelet might have, some of them in the built-in chains. Nothing of
/// it hinders what the scenarios do.
const ADD: &str = "\
*mangle
:KUBE-KUBELET-CANARY - [0:0]
:foreign - [0:0]
-A foreign -p udp -m udp --dport 9 -m comment --comment foreign -j MARK --set-xmark 0x1/0x1
-A PREROUTING -p udp -m udp --dport 9 -j foreign
COMMIT
*nat
:foreign - [0:0]
-A foreign -p tcp -m tcp --dport 9 -m comment --comment \"foreign and \\\"quoted\\\"\" -j RETURN
-A PREROUTING -m comment --comment foreign -j foreign
-A POSTROUTING -p tcp -m tcp --dport 9 -m comment --comment foreign -j MASQUERADE
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:foreign - [0:0]
-A foreign -p tcp -m tcp --dport 9 -j DROP
-A INPUT -j KUBE-FIREWALL
-A INPUT -p tcp -m tcp --dport 9 -m comment --comment foreign -j REJECT
-A OUTPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment foreign -j foreign
COMMIT
";

/// What the kubelet keeps in its chain; over IPv6 it keeps nothing there.
const GUARD: &str = "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \
\"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n";

/// Puts nothing in place of everything.
const NOTHING: &str = "*mangle\nCOMMIT\n*filter\nCOMMIT\n*nat\nCOMMIT\n";

pub(super) struct Words<'a>(pub(super) Iptables<'a>);

impl Words<'_> {
    fn both_families(&self) -> [Iptables<'_>; 2] {
        Family::BOTH.map(|family| Iptables { family, ..self.0 })
    }

    pub(super) fn listing(&self) -> Result<String> {
        let listings = self.both_families().map(|tables| {
            let content = tables.content()?;
            Ok(content.iter().map(|line| format!("{} {line}\n", tables.family.name())).collect::<String>())
        });
        listings.into_iter().collect()
    }

    pub(super) fn check_listable(&self) -> Result<()> {
        for tables in self.both_families() {
            let run = || std::process::Command::new(tables.program("-save")).output();
            let saved = tables.node.run(run)??;
            let complaints = String::from_utf8_lossy(&saved.stderr);
            ensure!(saved.status.success() && complaints.is_empty(), "it cannot be saved: {complaints}");
            let text = String::from_utf8_lossy(&saved.stdout);
            // Whole tables would be put in place of what there is.
            tables.node.feed(&tables.program("-restore"), &["--test"], &text)?;
        }
        Ok(())
    }

    /// The rule that leads to `web`, by a part of its text.
    fn web(&self) -> String {
        format!("-d {}/", self.0.family.cluster_ip(10))
    }

    fn web_chain(&self) -> Result<String> {
        self.0.target("nat", "KUBE-SERVICES", &self.web())
    }

    pub(super) fn damage(&self) -> Result<()> {
        let (tables, chain) = (&self.0, self.web_chain()?);
        tables.delete("nat", &chain, "-j KUBE-SEP-")?;
        tables.delete("nat", "KUBE-POSTROUTING", "-j MASQUERADE")?;
        tables.delete("nat", "PREROUTING", "-j KUBE-SERVICES")?;
        tables.delete("filter", "FORWARD", "-j KUBE-FORWARD")?;
        let web = tables.family.cluster_ip(10);
        tables.load(&format!(
            "*nat\n\
             :KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]\n\
             :KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]\n\
             -A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA\n\
             -A KUBE-SEP-AAAAAAAAAAAAAAAA -j ACCEPT\n\
             -F KUBE-MARK-MASQ\n\
             -F KUBE-NODEPORTS\n\
             -I KUBE-SERVICES 1 -d {web} -p tcp -j KUBE-SVC-AAAAAAAAAAAAAAAA\n\
             -A {chain} -j RETURN\n\
             COMMIT\n\
             *filter\n\
             -A KUBE-EXTERNAL-SERVICES -j DROP\n\
             -I KUBE-PROXY-FIREWALL 1 -j DROP\n\
             COMMIT\n"
        ))
    }

    pub(super) fn edit(&self, edit: Edit) -> Result<()> {
        let (tables, web) = (&self.0, self.0.family.cluster_ip(10));
        match edit {
            Edit::FlushEverything => {
                self.both_families().iter().try_for_each(|tables| tables.replace(NOTHING))
            }
            Edit::RemoveTable => tables.replace("*nat\nCOMMIT\n"),
            Edit::FlushServices => tables.load("*nat\n-F KUBE-SERVICES\nCOMMIT\n"),
            Edit::RemoveEndpoints => tables.load(&format!("*nat\n-F {}\nCOMMIT\n", self.web_chain()?)),
            Edit::RemoveService => tables.delete("nat", "KUBE-SERVICES", &self.web()),
            Edit::RemoveEntry => tables.delete("nat", "PREROUTING", "-j KUBE-SERVICES"),
            Edit::BlockService => {
                tables.load(&format!("*nat\n-I KUBE-SERVICES 1 -d {web} -j ACCEPT\nCOMMIT\n"))
            }
            Edit::BlockEverything => tables.load("*filter\n-I KUBE-FORWARD 1 -j DROP\nCOMMIT\n"),
        }
    }

    /// As kube-proxy did it some versions ago, and with services of then.
    pub(super) fn leave_another_layout(&self) -> Result<()> {
        let web = self.0.family.cluster_ip(10);
        self.0.load(&format!(
            "*nat\n\
             :KUBE-MARK-DROP - [0:0]\n\
             :KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]\n\
             :KUBE-FW-AAAAAAAAAAAAAAAA - [0:0]\n\
             :KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]\n\
             -A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000\n\
             -A KUBE-FW-AAAAAAAAAAAAAAAA -j KUBE-SVC-AAAAAAAAAAAAAAAA\n\
             -A KUBE-FW-AAAAAAAAAAAAAAAA -j KUBE-MARK-DROP\n\
             -A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA\n\
             -A KUBE-SEP-AAAAAAAAAAAAAAAA -j ACCEPT\n\
             -F KUBE-SERVICES\n\
             -A KUBE-SERVICES -d {web} -p tcp -m tcp --dport 80 -j KUBE-FW-AAAAAAAAAAAAAAAA\n\
             -F KUBE-MARK-MASQ\n\
             -A KUBE-MARK-MASQ -j MARK --set-xmark 0x2000/0x2000\n\
             -F KUBE-POSTROUTING\n\
             -A KUBE-POSTROUTING -m mark --mark 0x2000/0x2000 -j MASQUERADE\n\
             COMMIT\n\
             *filter\n\
             -F KUBE-FORWARD\n\
             -A KUBE-FORWARD -m mark --mark 0x2000/0x2000 -j ACCEPT\n\
             COMMIT\n"
        ))
    }

    pub(super) fn add_foreign(&self) -> Result<()> {
        self.both_families().iter().try_for_each(|tables| {
            let guard = if tables.family == Family::V4 { GUARD } else { "" };
            tables.load(
                &ADD.replace("-A INPUT -j KUBE-FIREWALL\n", &format!("{guard}-A INPUT -j KUBE-FIREWALL\n")),
            )
        })
    }

    pub(super) fn change_elsewhere(&self) -> Result<()> {
        self.both_families().iter().try_for_each(|tables| tables.load(ELSEWHERE))
    }

    pub(super) fn foreign(&self) -> Result<String> {
        let listing = self.listing()?;
        let foreign = listing.lines().filter(|line| FOREIGN.iter().any(|word| line.contains(word)));
        Ok(foreign.map(|line| format!("{line}\n")).collect())
    }
}
