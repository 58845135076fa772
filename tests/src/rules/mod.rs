//! A mode's rules on a node, as an administrator meets them: how to list them, how to damage them, and how to put rules
//! of others beside them. Each mode has its own words for the same mishaps.

mod iptables;
mod ipvs;
mod nftables;

use anyhow::Result;

use crate::bed::Family;
use crate::iptables::Iptables;
use crate::mode::{Backend, Mode, Tool};
use crate::namespace::Namespace;
use crate::vm;

/// The rules of a mode. Scenarios damage those of one family, and its service at ClusterIP 10, TCP port 80, called `web`
/// here.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    node: &'a Namespace,
    mode: Mode,
    family: Family,
}

/// Something that others may do to the rules while the proxy runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// All rules on the node go, whoever's they are.
    FlushEverything,
    /// The table with the services goes.
    RemoveTable,
    /// What leads from packets to services goes.
    FlushServices,
    /// What leads from `web` to its endpoints goes.
    RemoveEndpoints,
    /// What leads to `web` goes.
    RemoveService,
    /// Something goes without which not all packets are looked at.
    RemoveEntry,
    /// Something comes that keeps packets from `web`.
    BlockService,
    /// Something comes that keeps packets from all services.
    BlockEverything,
}

impl Edit {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::FlushEverything,
        Self::RemoveEndpoints,
        Self::FlushServices,
        Self::RemoveTable,
        Self::RemoveService,
        Self::RemoveEntry,
        Self::BlockService,
        Self::BlockEverything,
    ];
}

/// What does what the others' methods say.
enum Words<'a> {
    Nftables(nftables::Words<'a>),
    Iptables(iptables::Words<'a>),
    Ipvs(ipvs::Words<'a>),
}

impl<'a> Rules<'a> {
    /// The rules of a mode on a node, with an eye to one family.
    #[must_use]
    pub fn new(node: &'a Namespace, mode: Mode, family: Family) -> Self {
        Self { node, mode, family }
    }

    fn words(&self) -> Words<'a> {
        match self.mode.tool {
            Tool::Nft => Words::Nftables(nftables::Words { node: self.node, family: self.family }),
            Tool::Iptables(backend) => {
                Words::Iptables(iptables::Words(Iptables { node: self.node, backend, family: self.family }))
            }
            Tool::Ipvs => Words::Ipvs(ipvs::Words { node: self.node, family: self.family }),
        }
    }

    /// All rules of both families, in a form that can be compared.
    ///
    /// # Errors
    /// When the tool is missing or fails.
    pub fn listing(&self) -> Result<String> {
        match self.words() {
            Words::Nftables(words) => words.listing(),
            Words::Iptables(words) => words.listing(),
            Words::Ipvs(words) => words.listing(),
        }
    }

    /// What there is to see after a failure.
    #[must_use]
    pub fn explain(&self) -> String {
        let commands = match self.mode.tool {
            Tool::Nft => vec!["nft list ruleset"],
            Tool::Iptables(Backend::Nft) => vec!["iptables-nft-save", "ip6tables-nft-save"],
            Tool::Iptables(Backend::Legacy) => vec!["iptables-legacy-save", "ip6tables-legacy-save"],
            Tool::Ipvs => vec![
                "ipvsadm -S -n",
                "ipset save",
                "ip -o addr show",
                "iptables-nft-save",
                "ip6tables-nft-save",
                "iptables-legacy-save",
                "ip6tables-legacy-save",
            ],
        };
        let shown = commands.into_iter().map(|command| {
            let mut words = command.split(' ');
            let (program, args) = (words.next().unwrap_or_default(), words.collect::<Vec<_>>());
            let output = self.node.output(program, &args).unwrap_or_else(|error| format!("{error:#}"));
            format!("--- {command}\n{}\n", output.trim_end())
        });
        shown.collect()
    }

    /// The tools can print every rule, without complaint, and read what they printed.
    ///
    /// # Errors
    /// When they cannot.
    pub fn check_listable(&self) -> Result<()> {
        match self.words() {
            Words::Nftables(words) => words.check_listable(),
            Words::Iptables(words) => words.check_listable(),
            Words::Ipvs(words) => words.check_listable(),
        }
    }

    /// Does many things to the rules that a careless administrator might, while no proxy runs.
    ///
    /// # Errors
    /// When they are not there, or the kernel refuses.
    pub fn damage(&self) -> Result<()> {
        match self.words() {
            Words::Nftables(words) => words.damage(),
            Words::Iptables(words) => words.damage(),
            Words::Ipvs(words) => words.damage(),
        }
    }

    /// Does one thing to the rules.
    ///
    /// # Errors
    /// As [`Rules::damage`].
    pub fn edit(&self, edit: Edit) -> Result<()> {
        match self.words() {
            Words::Nftables(words) => words.edit(edit),
            Words::Iptables(words) => words.edit(edit),
            Words::Ipvs(words) => words.edit(edit),
        }
    }

    /// Whether what the proxy logs about a repair says who made it necessary, as far as that can be known.
    #[must_use]
    pub fn is_blamed_in(&self, log: &str) -> bool {
        match self.mode.tool {
            Tool::Nft => log.contains("nft (process "),
            Tool::Iptables(Backend::Nft) => log.contains("tables-nft") && log.contains(" (process "),
            // These tables do not say who changed them.
            Tool::Iptables(Backend::Legacy) | Tool::Ipvs => log.contains("repairing"),
        }
    }

    /// Whether the kernel tells of every change at once, and by whom it was made. Where it does not, damage is found when
    /// somebody looks, which may be the proxy before its next change.
    #[must_use]
    pub fn are_watched_by_the_kernel(&self) -> bool {
        !matches!(self.mode.tool, Tool::Iptables(Backend::Legacy) | Tool::Ipvs)
    }

    /// How many services of two endpoints can come and go at once within seconds, also in a user namespace. There
    /// iptables-nft takes small scripts only, for each of which it looks at every chain that there is.
    #[must_use]
    pub fn services_at_once(&self) -> u16 {
        let on_a_host = match self.mode.tool {
            Tool::Iptables(Backend::Nft) => 400,
            Tool::Iptables(Backend::Legacy) | Tool::Nft => 5_000,
            // Nobody has measured it on a host.
            Tool::Ipvs => 2_000,
        };
        // Few enough for the emulated machine, and enough to keep the proxy busy there.
        if vm::is_guest() { on_a_host / 2 } else { on_a_host }
    }

    /// Puts rules in place of the proxy's as another version of it might have left them.
    ///
    /// # Errors
    /// As [`Rules::damage`].
    pub fn leave_another_layout(&self) -> Result<()> {
        match self.words() {
            Words::Nftables(words) => words.leave_another_layout(),
            Words::Iptables(words) => words.leave_another_layout(),
            Words::Ipvs(words) => words.leave_another_layout(),
        }
    }

    /// Adds what is not the proxy's.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_foreign(&self) -> Result<()> {
        match self.words() {
            Words::Nftables(words) => words.add_foreign(),
            Words::Iptables(words) => words.add_foreign(),
            Words::Ipvs(words) => words.add_foreign(),
        }
    }

    /// Adds and removes something in a table that the proxy has nothing in.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn change_elsewhere(&self) -> Result<()> {
        match self.words() {
            Words::Nftables(words) => words.change_elsewhere(),
            Words::Iptables(words) => words.change_elsewhere(),
            Words::Ipvs(words) => words.change_elsewhere(),
        }
    }

    /// How that looks now.
    ///
    /// # Errors
    /// As [`Rules::listing`].
    pub fn foreign(&self) -> Result<String> {
        match self.words() {
            Words::Nftables(words) => words.foreign(),
            Words::Iptables(words) => words.foreign(),
            Words::Ipvs(words) => words.foreign(),
        }
    }
}
