//! The rules of kube-proxy v1.36 in iptables mode, as it writes them, for the Service `web` with two endpoints.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::Result;
use testbed::{Family, Iptables, POD_PORT, Subject};

use crate::names::suffix;
use crate::tables;
use crate::textbook::{HOOKS, bits};

/// What kube-proxy restores.
pub(crate) struct KubeProxy {
    script: String,
}

impl KubeProxy {
    /// Serving `web` on these two pods of the node.
    pub(crate) fn serving_web(s: &Subject, pods: [u8; 2]) -> Result<Self> {
        let mut endpoints: Vec<SocketAddr> =
            pods.iter().map(|pod| (s.bed.pod(*pod).ip(s.family()), POD_PORT).into()).collect();
        endpoints.sort_by_key(SocketAddr::to_string);
        let family = s.family();
        Ok(Self { script: format!("{}{}", filter(family), nat(family, &endpoints)?) })
    }

    /// Writes its rules as it does when it starts: chains that are there are emptied and filled again, each table in one
    /// go; jumps that are missing are put in front.
    pub(crate) fn sync(&self, s: &Subject) -> Result<()> {
        let tables = tables(s)?;
        for table in ["mangle", "nat", "filter"] {
            ensure_chain(&tables, table, "KUBE-PROXY-CANARY")?;
        }
        for (table, chain, rule) in HOOKS {
            let target = rule.split(' ').next_back().unwrap_or_default();
            ensure_chain(&tables, table, target)?;
            ensure_rule(&tables, table, chain, rule)?;
        }
        if s.family() == Family::V4 {
            ensure_chain(&tables, "filter", "KUBE-FIREWALL")?;
            for chain in ["INPUT", "OUTPUT"] {
                ensure_rule(&tables, "filter", chain, "-j KUBE-FIREWALL")?;
            }
            s.bed.node.sysctl("net/ipv4/conf/all/route_localnet", "1")?;
        }
        tables.load(&self.script)
    }
}

fn ensure_chain(tables: &Iptables<'_>, table: &str, chain: &str) -> Result<()> {
    match tables.chains(table)?.iter().any(|name| name == chain) {
        true => Ok(()),
        false => tables.run(&["-t", table, "-N", chain]).map(drop),
    }
}

fn ensure_rule(tables: &Iptables<'_>, table: &str, chain: &str, rule: &str) -> Result<()> {
    match tables.chain(table, chain)?.contains(&format!("-A {chain} {rule}")) {
        true => Ok(()),
        false => tables.load(&format!("*{table}\n-I {chain} {rule}\nCOMMIT\n")),
    }
}

fn filter(family: Family) -> String {
    let (guard, guarded) = match family {
        Family::V4 => (
            "-A KUBE-FIREWALL -m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8 \
             ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n",
            ":KUBE-FIREWALL - [0:0]\n",
        ),
        Family::V6 => ("", ""),
    };
    format!(
        "*filter\n\
         :KUBE-NODEPORTS - [0:0]\n\
         :KUBE-SERVICES - [0:0]\n\
         :KUBE-EXTERNAL-SERVICES - [0:0]\n\
         {guarded}\
         :KUBE-FORWARD - [0:0]\n\
         :KUBE-PROXY-FIREWALL - [0:0]\n\
         {guard}\
         -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 \
         -j ACCEPT\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack \
         --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         COMMIT\n"
    )
}

fn nat(family: Family, endpoints: &[SocketAddr]) -> Result<String> {
    let (ip, bits, range) = (family.cluster_ip(10), bits(family), family.cluster_cidr());
    let svc = format!("KUBE-SVC-{}", suffix("test/web:httptcp")?);
    let frontend =
        format!("-m comment --comment \"test/web:http cluster IP\" -m tcp -p tcp -d {ip} --dport 80");
    let loopback = if family == Family::V6 { "! -d ::1/128 " } else { "" };
    let (mut chains, mut rules) = (String::new(), String::new());
    writeln!(rules, "-A {svc} {frontend} ! -s {range} -j KUBE-MARK-MASQ")?;
    for (index, endpoint) in endpoints.iter().enumerate() {
        let sep = format!("KUBE-SEP-{}", suffix(&format!("test/web:httptcp{endpoint}"))?);
        let left = endpoints.len() - index;
        let chance = match left {
            1 => String::new(),
            left => format!("-m statistic --mode random --probability {:.10} ", 1.0 / left as f64),
        };
        writeln!(chains, ":{sep} - [0:0]")?;
        writeln!(rules, "-A {svc} -m comment --comment \"test/web:http -> {endpoint}\" {chance}-j {sep}")?;
        let about = "-m comment --comment test/web:http";
        writeln!(rules, "-A {sep} {about} -s {}/{bits} -j KUBE-MARK-MASQ", endpoint.ip())?;
        writeln!(rules, "-A {sep} {about} -m tcp -p tcp -j DNAT --to-destination {endpoint}")?;
    }
    Ok(format!(
        "*nat\n\
         :KUBE-NODEPORTS - [0:0]\n\
         :KUBE-SERVICES - [0:0]\n\
         :KUBE-MARK-MASQ - [0:0]\n\
         :KUBE-POSTROUTING - [0:0]\n\
         :{svc} - [0:0]\n\
         {chains}\
         -A KUBE-SERVICES {frontend} -j {svc}\n\
         -A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule \
         in this chain\" -m addrtype --dst-type LOCAL {loopback}-j KUBE-NODEPORTS\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n\
         -A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" \
         -j MASQUERADE --random-fully\n\
         -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n\
         {rules}\
         COMMIT\n"
    ))
}
