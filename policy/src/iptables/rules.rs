//! The rules of every chain, in the very form in which `iptables-save` prints them, so that what is there can be compared
//! with what should be.

use endpoint_cache::Family;
use kernel::iptables::comment;

use super::names::{ALLOW, DENY, FORWARD, OUTPUT, UNKNOWN, Way};
use super::{marks, names, sets};
use crate::generations::Generations;
use crate::policy::Direction;
use crate::program::{Clause, PolicyKey, PortMatch, Profile};
use crate::settings::{Denied, LOG_GROUP, Settings, UnknownPods};

/// Denied packets of a kind that are logged in a second; the others are counted all the same.
const LOGGED_PER_SECOND: u32 = 50;
/// Bytes of a denied packet that are looked at: its headers.
const LOGGED_BYTES: u32 = 128;

/// Types of ICMPv6 that find neighbours and routers.
const NEIGHBOUR_DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

/// A classic BPF program (`linux/filter.h`) that is true if a packet's source is its destination, which no other match
/// can tell: of each address it loads the first word into A, moves it to X, loads the second word and compares.
const TO_ITSELF_V4: &str = "6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 65535,6 0 0 0";
const TO_ITSELF_V6: &str = "18,32 0 0 8,7 0 0 0,32 0 0 24,29 0 13 0,32 0 0 12,7 0 0 0,32 0 0 28,29 0 9 0,\
                            32 0 0 16,7 0 0 0,32 0 0 32,29 0 5 0,32 0 0 20,7 0 0 0,32 0 0 36,29 0 1 0,6 0 0 65535,6 0 0 0";

/// What packets come through on their way to us: a chain of everybody's, and a rule in it.
pub(super) fn hooks() -> [(&'static str, String); 3] {
    let bridged = comment("network policies of bridged pods");
    let policies = comment("network policies");
    [
        ("FORWARD", format!("-m physdev --physdev-is-bridged {bridged} -j {FORWARD}")),
        ("FORWARD", format!("-m physdev ! --physdev-is-bridged {policies} -j {FORWARD}")),
        ("OUTPUT", format!("{policies} -j {OUTPUT}")),
    ]
}

/// Which end of a packet is meant.
#[derive(Clone, Copy)]
enum End {
    Client,
    Server,
}

impl End {
    /// The one that a policy isolates.
    fn subject(direction: Direction) -> Self {
        match direction {
            Direction::Ingress => Self::Server,
            Direction::Egress => Self::Client,
        }
    }

    fn peer(direction: Direction) -> Self {
        match direction {
            Direction::Ingress => Self::Client,
            Direction::Egress => Self::Server,
        }
    }

    /// Where it stands in a packet, in the words of the extension `set`.
    fn of_packet(self, way: Way) -> &'static str {
        match (self, way) {
            (Self::Client, Way::Original) | (Self::Server, Way::Reply) => "src",
            (Self::Server, Way::Original) | (Self::Client, Way::Reply) => "dst",
        }
    }
}

/// Whether a bytecode of the extension `bpf` is the question of ours whether a pod reaches itself.
#[must_use]
pub fn asks_whether_to_itself(bytecode: &str) -> bool {
    [TO_ITSELF_V4, TO_ITSELF_V6].contains(&bytecode)
}

/// What rules depend on beside policies.
pub(super) struct Style<'a> {
    pub(super) family: Family,
    pub(super) settings: &'a Settings,
}

impl Style<'_> {
    /// The chains that are there whatever the policies and the generation. Chains that lead to judges are to be
    /// followed by the rules of [`Style::dispatch`].
    pub(super) fn fixed(&self) -> Vec<(&'static str, Vec<String>)> {
        let local =
            format!("-m addrtype --src-type LOCAL {} -j RETURN", comment("a node may reach its pods"));
        let mut chains = vec![
            (OUTPUT, vec![local, format!("-j {FORWARD}")]),
            (ALLOW, vec![format!("-j MARK --set-xmark {0}/{0}", self.allowed_bit())]),
            (DENY, self.denied()),
            (UNKNOWN, self.unknown()),
        ];
        chains.extend(Way::BOTH.map(|way| (way.dispatch(), self.dispatch_head())));
        chains
    }

    /// The chain that all packets come through.
    pub(super) fn forward(&self, generations: &Generations) -> Vec<String> {
        let mut rules = marks::accepting(generations, self.settings);
        rules.push("-m conntrack --ctstate RELATED -j RETURN".to_owned());
        if self.family == Family::V6 {
            let rule = |kind| format!("-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j RETURN");
            rules.extend(NEIGHBOUR_DISCOVERY.map(rule));
        }
        for (matching, way) in [
            ("--ctdir ORIGINAL", Way::Original),
            ("--ctdir REPLY", Way::Reply),
            ("--ctstate INVALID,UNTRACKED", Way::Original),
        ] {
            rules.push(format!("-m conntrack {matching} -j {}", way.dispatch()));
        }
        rules.push(self.clear_allowed());
        rules.push(marks::marking(generations, self.settings));
        rules
    }

    /// What comes before the rules that lead to judges.
    fn dispatch_head(&self) -> Vec<String> {
        let program = match self.family {
            Family::V4 => TO_ITSELF_V4,
            Family::V6 => TO_ITSELF_V6,
        };
        let mut rules =
            vec![format!("-m bpf --bytecode \"{program}\" {} -j RETURN", comment("a pod may reach itself"))];
        if self.settings.unknown_pods == UnknownPods::Deny {
            let (ranges, pods) = (names::ranges_set(self.family), names::pods_set(self.family));
            rules.extend(["src", "dst"].map(|end| {
                format!("-m set --match-set {ranges} {end} -m set ! --match-set {pods} {end} -j {UNKNOWN}")
            }));
        }
        rules
    }

    /// The rule that leads packets of a profile's pods to their judge.
    pub(super) fn dispatch(&self, profile: &Profile, way: Way) -> String {
        let set = names::subjects_set(profile, self.family);
        let end = End::subject(profile.direction).of_packet(way);
        format!("-m set --match-set {set} {end} -j {}", names::profile_chain(profile, way))
    }

    /// Asks one policy after the other, and denies what none allows.
    pub(super) fn profile(&self, profile: &Profile, way: Way) -> Vec<String> {
        let mut rules = vec![self.clear_allowed()];
        for policy in &profile.policies {
            let chain = names::policy_chain(&(profile.direction, policy.clone()), way);
            rules.push(format!("{} -j {chain}", comment(&policy.to_string())));
            rules.push(format!("-m mark --mark {0}/{0} -j RETURN", self.allowed_bit()));
        }
        rules.extend(self.log(&profile.log_prefix()));
        rules.push(format!("{} -j {DENY}", comment(&format!("not allowed by {profile}"))));
        rules
    }

    /// What a policy allows.
    pub(super) fn policy(&self, key: &PolicyKey, clauses: &[Clause], way: Way) -> Vec<String> {
        let (direction, name) = key;
        let rule = |clause: &Clause| {
            let place = comment(&format!("{name} spec.{}[{}]", direction.as_str(), clause.rule));
            let peer = match &clause.peer {
                None => String::new(),
                Some(set) if sets::exists(set, self.family) => {
                    let set = names::members_set(set, self.family);
                    format!(" -m set --match-set {set} {}", End::peer(*direction).of_packet(way))
                }
                // Nobody of this family is meant.
                Some(_) => return None,
            };
            let (protocol, port) = self.port(&clause.port, way);
            Some(format!("{protocol}{place}{port}{peer} -g {ALLOW}"))
        };
        clauses.iter().filter_map(rule).collect()
    }

    /// What comes before the comment, and what after it.
    fn port(&self, port: &PortMatch, way: Way) -> (String, String) {
        let option = match way {
            Way::Original => "--dport",
            Way::Reply => "--sport",
        };
        match port {
            PortMatch::All => (String::new(), String::new()),
            PortMatch::Every(protocol) => (format!("-p {protocol} "), String::new()),
            PortMatch::Numbers(protocol, first, last) => {
                let range = if first == last { first.to_string() } else { format!("{first}:{last}") };
                (format!("-p {protocol} "), format!(" -m {protocol} {option} {range}"))
            }
            PortMatch::Named(set) => {
                let set = names::members_set(set, self.family);
                let end = End::Server.of_packet(way);
                (String::new(), format!(" -m set --match-set {set} {end},{end}"))
            }
        }
    }

    /// A packet that belongs to no connection is not answered: a reset would end a connection that only lost its way.
    fn denied(&self) -> Vec<String> {
        if self.settings.audit {
            return Vec::new();
        }
        let unreachable = match self.family {
            Family::V4 => "icmp-port-unreachable",
            Family::V6 => "icmp6-port-unreachable",
        };
        match self.settings.denied {
            Denied::Drop => vec!["-j DROP".to_owned()],
            Denied::Reject => vec![
                "-m conntrack --ctstate INVALID,UNTRACKED -j DROP".to_owned(),
                "-p tcp -j REJECT --reject-with tcp-reset".to_owned(),
                format!("-j REJECT --reject-with {unreachable}"),
            ],
        }
    }

    /// Dropped without a word: whoever tries again gets through once the pod is known.
    fn unknown(&self) -> Vec<String> {
        let fate = if self.settings.audit { "RETURN" } else { "DROP" };
        let last = format!("{} -j {fate}", comment("no known pod has this address"));
        self.log("policy/unknown").into_iter().chain([last]).collect()
    }

    fn log(&self, prefix: &str) -> Option<String> {
        let logs = self.settings.log_denied || self.settings.audit;
        logs.then(|| {
            format!(
                "-m limit --limit {LOGGED_PER_SECOND}/sec --limit-burst {LOGGED_PER_SECOND} -j NFLOG \
                 --nflog-prefix \"{prefix}\" --nflog-group {LOG_GROUP} --nflog-size {LOGGED_BYTES}"
            )
        })
    }

    fn clear_allowed(&self) -> String {
        format!("-j MARK --set-xmark 0x0/{}", self.allowed_bit())
    }

    /// The bit of a packet's mark by which a policy tells that it allows it: one of those that are ours in connections'.
    fn allowed_bit(&self) -> String {
        format!("{:#x}", 1_u32 << self.settings.mark_mask.trailing_zeros())
    }
}
