//! Rules as text, in the very form in which `iptables-save` prints them, so that what is there can be compared with what
//! should be.

use std::fmt::{self, Display, Write};
use std::net::IpAddr;

use endpoint_cache::{Family, Protocol};
use ipnet::IpNet;
use kernel::iptables::comment;

use crate::context::{Context, Detector};

/// Whether something must match or must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Is {
    /// It must.
    Yes,
    /// It must not.
    Not,
}

impl Display for Is {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Not { "! " } else { "" })
    }
}

/// A rule without the chain that it stands in. Matches on addresses, interface and protocol come first, whatever the
/// order of the calls; extensions follow in that order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rule {
    source: Option<(Is, IpNet)>,
    destination: Option<(Is, IpNet)>,
    input: Option<(Is, String)>,
    protocol: Option<Protocol>,
    extensions: String,
}

impl Rule {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn from(self, is: Is, net: impl Into<IpNet>) -> Self {
        Self { source: Some((is, net.into())), ..self }
    }

    pub(crate) fn to(self, is: Is, net: impl Into<IpNet>) -> Self {
        Self { destination: Some((is, net.into())), ..self }
    }

    /// Came in on an interface; a trailing `+` stands for any ending.
    pub(crate) fn came_in_on(self, is: Is, interface: &str) -> Self {
        Self { input: Some((is, interface.to_owned())), ..self }
    }

    pub(crate) fn protocol(self, protocol: Protocol) -> Self {
        Self { protocol: Some(protocol), ..self }
    }

    pub(crate) fn comment(self, text: impl Display) -> Self {
        self.with(comment(&text.to_string()))
    }

    /// Loads the extension of the protocol, which the save format names even where nothing of it is asked for.
    pub(crate) fn of_protocol(self, protocol: Protocol) -> Self {
        self.protocol(protocol).with(format_args!("-m {protocol}"))
    }

    pub(crate) fn port(self, protocol: Protocol, port: u16) -> Self {
        self.of_protocol(protocol).with(format_args!("--dport {port}"))
    }

    /// Anything else, as it is saved.
    pub(crate) fn with(mut self, text: impl Display) -> Self {
        // Writing to a string cannot fail.
        let _ = write!(self.extensions, " {text}");
        self
    }

    /// Every packet is for this chain or target.
    pub(crate) fn jump(self, target: impl Display) -> String {
        self.with(format_args!("-j {target}")).done()
    }

    /// Translates the destination.
    pub(crate) fn dnat(self, endpoint: impl Display) -> String {
        self.jump(format_args!("DNAT --to-destination {endpoint}"))
    }

    /// A rule that does nothing with its packets.
    pub(crate) fn done(self) -> String {
        let mut text = String::with_capacity(48 + self.extensions.len());
        let net = |text: &mut String, option: &str, value: &Option<(Is, IpNet)>| {
            if let Some((is, net)) = value {
                let _ = write!(text, " {is}{option} {net}");
            }
        };
        net(&mut text, "-s", &self.source);
        net(&mut text, "-d", &self.destination);
        if let Some((is, interface)) = &self.input {
            let _ = write!(text, " {is}-i {interface}");
        }
        if let Some(protocol) = self.protocol {
            let _ = write!(text, " -p {protocol}");
        }
        if text.is_empty() {
            text.push_str(self.extensions.trim_start());
        } else {
            text.push_str(&self.extensions);
            text.remove(0);
        }
        text
    }
}

/// `REJECT` with the error that a closed port would answer with.
pub(crate) fn reject(family: Family) -> &'static str {
    match family {
        Family::V4 => "REJECT --reject-with icmp-port-unreachable",
        Family::V6 => "REJECT --reject-with icmp6-port-unreachable",
    }
}

/// One in `count` packets, `None` for all of them. The kernel holds a probability as so many 2^31sts.
pub(crate) fn one_in(count: usize) -> Option<String> {
    const WHOLE: f64 = 2_147_483_648.0;
    let count = u32::try_from(count).ok().filter(|count| *count > 1)?;
    let share = (WHOLE / f64::from(count)).round() / WHOLE;
    Some(format!("-m statistic --mode random --probability {share:.11}"))
}

/// All bits of an address, as the `recent` extension prints its mask.
pub(crate) fn full_mask(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([0xff; 4]),
        Family::V6 => IpAddr::from([0xff; 16]),
    }
}

/// The mark that asks for masquerading and its mask, as in `0x4000/0x4000`.
pub(crate) fn mark(context: &Context) -> String {
    let mark = context.masquerade_mark;
    format!("{mark:#x}/{mark:#x}")
}

/// Rules that masquerade what is marked, and nothing else.
pub(crate) fn masquerade_marked(context: &Context) -> [String; 3] {
    [
        format!("-m mark ! --mark {} -j RETURN", mark(context)),
        // Taken off again, so that nothing is masqueraded twice where it comes by once more (overlays).
        format!("-j MARK --set-xmark {:#x}/0x0", context.masquerade_mark),
        Rule::new().comment("kubernetes service traffic requiring SNAT").jump("MASQUERADE --random-fully"),
    ]
}

/// Adds a match on whether a packet comes from one of this node's pods; `None` if that cannot be told.
pub(crate) fn told_from_pods(context: &Context, is: Is, rule: Rule) -> Option<Rule> {
    match &context.detector {
        Detector::None => None,
        Detector::Source(range) => Some(rule.from(is, *range)),
        Detector::Interface(name) => Some(rule.came_in_on(is, name)),
        Detector::InterfacePrefix(prefix) => Some(rule.came_in_on(is, &format!("{prefix}+"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_printed_as_saved() {
        assert_eq!(one_in(1), None);
        for (count, probability) in [(2, "0.50000000000"), (3, "0.33333333349"), (10, "0.10000000009")] {
            assert!(one_in(count).unwrap().ends_with(&format!("--probability {probability}")), "{count}");
        }
    }

    #[test]
    fn matches_stand_where_iptables_save_puts_them() {
        let net: IpNet = "10.0.0.0/8".parse().unwrap();
        let ip: IpAddr = "172.30.0.1".parse().unwrap();
        let rule = Rule::new().comment("a/b c").port(Protocol::Tcp, 80).to(Is::Yes, ip).from(Is::Not, net);
        let expected =
            "! -s 10.0.0.0/8 -d 172.30.0.1/32 -p tcp -m comment --comment \"a/b c\" -m tcp --dport 80 -j X";
        assert_eq!(rule.jump("X"), expected);
    }
}
