//! The IPVS mode's rules, in the words of `ipvsadm`, `ipset`, `ip` and `iptables`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Edit, iptables};
use crate::bed::{Family, POD_PORT};
use crate::iptables::Iptables;
use crate::mode::Backend;
use crate::namespace::Namespace;

/// The device that has the addresses of services.
const DEVICE: &str = "kube-ipvs0";
/// How long the kernel may take to let go of a set whose rules are gone.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Words<'a> {
    pub(super) node: &'a Namespace,
    pub(super) family: Family,
}

impl<'a> Words<'a> {
    fn tables_of(&self, backend: Backend) -> Iptables<'a> {
        Iptables { node: self.node, backend, family: self.family }
    }

    /// The tables of the back end that is in use: where the proxy's chains are, or else what an empty node has.
    fn tables(&self) -> Result<Iptables<'a>> {
        let legacy = self.tables_of(Backend::Legacy);
        let in_use = legacy.chains("nat")?.iter().any(|chain| chain == "KUBE-SERVICES");
        Ok(if in_use { legacy } else { self.tables_of(Backend::Nft) })
    }

    fn iptables(&self) -> Result<iptables::Words<'a>> {
        self.tables().map(iptables::Words)
    }

    fn ipvsadm(&self, command: &str) -> Result<()> {
        self.node.output("ipvsadm", &command.split(' ').collect::<Vec<_>>()).map(drop)
    }

    fn ipset(&self, commands: &str) -> Result<()> {
        self.node.feed("ipset", &["restore"], commands).map(drop)
    }

    /// `web`, as `ipvsadm` writes it.
    fn web(&self) -> String {
        match self.family {
            Family::V4 => format!("{}:80", self.family.cluster_ip(10)),
            Family::V6 => format!("[{}]:80", self.family.cluster_ip(10)),
        }
    }

    fn endpoint(&self, number: u8) -> String {
        match self.family {
            Family::V4 => format!("{}:{POD_PORT}", self.family.pod(0, number)),
            Family::V6 => format!("[{}]:{POD_PORT}", self.family.pod(0, number)),
        }
    }

    /// The endpoints that `web` has, as `ipvsadm` writes them.
    fn endpoints_of_web(&self) -> Result<Vec<String>> {
        let begin = format!("-a -t {} -r ", self.web());
        let services = self.services()?;
        let endpoints = services.lines().filter_map(|line| line.strip_prefix(&begin)?.split(' ').next());
        Ok(endpoints.map(str::to_owned).collect())
    }

    /// An address as one of the device.
    fn device(&self, verb: &str, address: std::net::IpAddr) -> Result<()> {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        self.node.ip(&format!("addr {verb} {address}/{prefix} dev {DEVICE}\n"))
    }

    /// A set's name in this family: `set("CLUSTER-IP")`.
    fn set(&self, name: &str) -> String {
        match self.family {
            Family::V4 => format!("KUBE-{name}"),
            Family::V6 => format!("KUBE-6-{name}"),
        }
    }

    /// What `ipset` calls this family.
    fn set_family(&self) -> &'static str {
        match self.family {
            Family::V4 => "inet",
            Family::V6 => "inet6",
        }
    }

    fn services(&self) -> Result<String> {
        self.node.output("ipvsadm", &["-S", "-n"])
    }

    /// Sets and their elements, without what is different each time that a set is made.
    fn sets(&self) -> Result<Vec<String>> {
        let saved = self.node.output("ipset", &["save"])?;
        let mut lines: Vec<_> = saved.lines().map(|line| without(line, &["hashsize", "initval"])).collect();
        lines.sort_unstable();
        Ok(lines)
    }

    /// A device and its addresses; nothing if there is none.
    fn addresses(&self, device: &str) -> Result<Vec<String>> {
        let links = self.node.output("ip", &["-o", "link", "show"])?;
        let there = links.lines().any(|line| line.split(' ').nth(1) == Some(&format!("{device}:")));
        let listed = self.node.output("ip", &["-o", "addr", "show"])?;
        // Indices tell only how many devices there were.
        let lines = listed.lines().filter_map(|line| line.split_once(": ").map(|(_, line)| line));
        let mut lines: Vec<_> =
            lines.filter(|line| line.starts_with(&format!("{device} "))).map(str::to_owned).collect();
        lines.sort_unstable();
        Ok(there.then(|| format!("device {device}")).into_iter().chain(lines).collect())
    }

    pub(super) fn listing(&self) -> Result<String> {
        let services = self.services()?;
        let mut lines: Vec<_> = services.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines.extend(self.sets()?);
        lines.extend(self.addresses(DEVICE)?);
        let rules = Backend::BOTH.map(|backend| iptables::Words(self.tables_of(backend)).listing());
        let rules = rules.into_iter().collect::<Result<String>>()?;
        Ok(lines.iter().map(|line| format!("{line}\n")).collect::<String>() + &rules)
    }

    pub(super) fn check_listable(&self) -> Result<()> {
        for (program, args) in
            [("ipvsadm", &["-S", "-n"][..]), ("ipvsadm", &["-L", "-n"]), ("ipset", &["list"])]
        {
            let listed = self.node.run(|| std::process::Command::new(program).args(args).output())??;
            let complaints = String::from_utf8_lossy(&listed.stderr);
            ensure!(listed.status.success() && complaints.is_empty(), "{program} {args:?}: {complaints}");
        }
        self.iptables()?.check_listable()
    }

    pub(super) fn damage(&self) -> Result<()> {
        let (web, tables, set_family) = (self.web(), self.tables()?, self.set_family());
        let (cluster_ip, loop_back) = (self.set("CLUSTER-IP"), self.set("LOOP-BACK"));
        let stray = match self.family {
            Family::V4 => "192.0.2.9",
            Family::V6 => "2001:db8::9",
        };
        self.ipvsadm(&format!("-d -t {web} -r {}", self.endpoint(1)))?;
        self.ipvsadm(&format!("-e -t {web} -r {} -m -w 7", self.endpoint(2)))?;
        self.ipvsadm(&format!("-a -t {web} -r {} -m -w 1", self.endpoint(3)))?;
        self.ipvsadm(&format!("-E -t {web} -s sh"))?;
        self.device("del", self.family.cluster_ip(11))?;
        self.device("add", stray.parse()?)?;
        self.ipset(&format!(
            "flush {cluster_ip}\n\
             add {cluster_ip} {stray},tcp:80\n\
             flush {loop_back}\n\
             create {} hash:ip family {set_family}\n",
            self.set("STRAY"),
        ))?;
        tables.delete("nat", "KUBE-POSTROUTING", "-j MASQUERADE")?;
        tables.delete("nat", "PREROUTING", "-j KUBE-SERVICES")?;
        tables.delete("filter", "FORWARD", "-j KUBE-FORWARD")?;
        tables.load(&format!(
            "*nat\n\
             -F KUBE-MARK-MASQ\n\
             -I KUBE-SERVICES 1 -d {} -p tcp -j RETURN\n\
             COMMIT\n\
             *filter\n\
             -I KUBE-FORWARD 1 -j DROP\n\
             COMMIT\n",
            self.family.cluster_ip(12),
        ))
    }

    pub(super) fn edit(&self, edit: Edit) -> Result<()> {
        match edit {
            Edit::FlushEverything => {
                self.ipvsadm("-C")?;
                self.iptables()?.edit(edit)?;
                self.node.output("ipset", &["flush"])?;
                self.edit(Edit::RemoveTable)
            }
            Edit::RemoveTable => self.node.ip(&format!("link delete {DEVICE}\n")),
            Edit::FlushServices => self.ipvsadm("-C"),
            Edit::RemoveEndpoints => {
                let endpoints = self.endpoints_of_web()?;
                endpoints.iter().try_for_each(|to| self.ipvsadm(&format!("-d -t {} -r {to}", self.web())))
            }
            Edit::RemoveService => self.ipvsadm(&format!("-D -t {}", self.web())),
            Edit::RemoveEntry => self.device("del", self.family.cluster_ip(10)),
            // Endpoints of no weight get no connections.
            Edit::BlockService => self
                .endpoints_of_web()?
                .iter()
                .try_for_each(|to| self.ipvsadm(&format!("-e -t {} -r {to} -m -w 0", self.web()))),
            Edit::BlockEverything => self.iptables()?.edit(edit),
        }
    }

    /// With another way of forwarding, and a set of another type under a name that is the proxy's.
    pub(super) fn leave_another_layout(&self) -> Result<()> {
        let (web, tables, cluster_ip) = (self.web(), self.tables()?, self.set("CLUSTER-IP"));
        tables.replace(
            "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-FORMER - [0:0]\n-A KUBE-SERVICES -j KUBE-FORMER\nCOMMIT\n",
        )?;
        tables.replace("*filter\nCOMMIT\n")?;
        self.destroy_set(&cluster_ip)?;
        self.ipset(&format!("create {cluster_ip} hash:ip family {}\n", self.set_family()))?;
        for to in self.endpoints_of_web()? {
            self.ipvsadm(&format!("-d -t {web} -r {to}"))?;
            // Straight to the pod, which has no such address.
            self.ipvsadm(&format!("-a -t {web} -r {} -g -w 1", to.replace(&format!(":{POD_PORT}"), ":80")))?;
        }
        self.ipvsadm(&format!("-E -t {web} -s wlc -p 100"))
    }

    /// iptables-nft has rules taken apart after they are gone, and only then are their sets free.
    fn destroy_set(&self, set: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.node.output("ipset", &["destroy", set]) {
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => {}
                Ok(_) => return Ok(()),
            }
        }
    }

    pub(super) fn add_foreign(&self) -> Result<()> {
        self.iptables()?.add_foreign()?;
        self.ipset("create foreign hash:ip family inet\nadd foreign 192.0.2.1\n")?;
        self.node.ip("link add foreign type dummy\naddr add 192.0.2.1/32 dev foreign\n")
    }

    pub(super) fn change_elsewhere(&self) -> Result<()> {
        self.iptables()?.change_elsewhere()?;
        self.ipset("create elsewhere hash:ip family inet\nadd elsewhere 192.0.2.1\n")?;
        self.node.output("ipset", &["destroy", "elsewhere"])?;
        self.node.ip("link add elsewhere type dummy\nlink delete elsewhere\n")
    }

    pub(super) fn foreign(&self) -> Result<String> {
        let sets = self.sets()?.into_iter().filter(|line| line.contains(" foreign "));
        let lines = sets.chain(self.addresses("foreign")?).map(|line| format!("{line}\n"));
        Ok(lines.collect::<String>() + &self.iptables()?.foreign()?)
    }
}

/// A line of words without some of them, and what stands behind each.
fn without(line: &str, keys: &[&str]) -> String {
    let mut kept = Vec::new();
    let mut words = line.split(' ');
    while let Some(word) = words.next() {
        match keys.contains(&word) {
            true => drop(words.next()),
            false => kept.push(word),
        }
    }
    kept.join(" ")
}
