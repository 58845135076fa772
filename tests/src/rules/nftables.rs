//! The nftables mode's rules, in the words of `nft`.

use anyhow::{Context, Result, ensure};

use super::Edit;
use crate::bed::Family;
use crate::namespace::Namespace;

const FOREIGN: &str = "table inet foreign { set s { type ipv4_addr; elements = { 192.0.2.1 }; }; \
                       chain c { type filter hook forward priority 10; ip daddr @s drop; }; }";

pub(super) struct Words<'a> {
    pub(super) node: &'a Namespace,
    pub(super) family: Family,
}

impl Words<'_> {
    fn nft(&self, command: &str) -> Result<()> {
        self.node.output("nft", &[command]).map(drop)
    }

    fn table(&self) -> &'static str {
        match self.family {
            Family::V4 => "ip pointsman",
            Family::V6 => "ip6 pointsman",
        }
    }

    pub(super) fn listing(&self) -> Result<String> {
        self.node.output("nft", &["list", "ruleset"])
    }

    pub(super) fn check_listable(&self) -> Result<()> {
        // A tool that stumbles over one table shows nobody's rules any more: every line must make sense to it.
        let list =
            |args: &'static [&str]| self.node.run(|| std::process::Command::new("nft").args(args).output());
        let text = list(&["list", "ruleset"])??;
        let complaints = String::from_utf8_lossy(&text.stderr);
        ensure!(text.status.success() && complaints.is_empty(), "nft list ruleset: {complaints}");
        let json = list(&["--json", "list", "ruleset"])??;
        ensure!(json.status.success(), "nft --json list ruleset: {}", String::from_utf8_lossy(&json.stderr));
        serde_json::from_slice::<serde_json::Value>(&json.stdout).context("nft prints no JSON")?;
        Ok(())
    }

    pub(super) fn damage(&self) -> Result<()> {
        let table = self.table();
        let ip = match self.family {
            Family::V4 => "198.51.100.1",
            Family::V6 => "fd00:198::1",
        };
        let commands = [
            format!("flush map {table} endpoints"),
            format!("flush chain {table} services"),
            format!("add element {table} cluster-ips {{ {ip} }}"),
            format!("flush map {table} picks"),
            format!("add element {table} service-ips {{ {ip} . tcp . 80 : 0x00000063 }}"),
            format!("delete chain {table} nat-output"),
            format!("add chain {table} stray"),
            format!("add rule {table} stray drop"),
            format!("add set {table} odd {{ type inet_service; }}"),
        ];
        commands.iter().try_for_each(|command| self.nft(command))
    }

    pub(super) fn edit(&self, edit: Edit) -> Result<()> {
        let (table, web) = (self.table(), self.family.cluster_ip(10));
        self.nft(&match edit {
            Edit::FlushEverything => "flush ruleset".to_owned(),
            Edit::RemoveTable => format!("delete table {table}"),
            Edit::FlushServices => format!("flush chain {table} services"),
            Edit::RemoveEndpoints => format!("flush map {table} endpoints"),
            Edit::RemoveService => format!("delete element {table} service-ips {{ {web} . tcp . 80 }}"),
            Edit::RemoveEntry => format!("delete element {table} cluster-ips {{ {web} }}"),
            Edit::BlockService => {
                format!("add element {table} no-endpoint-services {{ {web} . tcp . 80 : drop }}")
            }
            Edit::BlockEverything => format!("insert rule {table} services drop"),
        })
    }

    pub(super) fn leave_another_layout(&self) -> Result<()> {
        let table = self.table();
        self.nft(&format!(
            "delete table {table}; add table {table}; \
             add set {table} cluster-ips {{ type inet_service; }}; \
             add set {table} former {{ type inet_service; }}; \
             add chain {table} services {{ type filter hook input priority 0; }}; \
             add rule {table} services tcp dport @former drop"
        ))
    }

    pub(super) fn add_foreign(&self) -> Result<()> {
        self.nft(FOREIGN)
    }

    pub(super) fn change_elsewhere(&self) -> Result<()> {
        self.nft(FOREIGN)?;
        self.nft("delete table inet foreign")
    }

    pub(super) fn foreign(&self) -> Result<String> {
        self.node.output("nft", &["list", "table", "inet", "foreign"])
    }
}
