//! Names and hardware addresses that are derived, so that whoever knows the pod knows them.

use std::net::IpAddr;

use kernel::Mac;
use sha2::{Digest, Sha256};

/// Digits of a digest in a name: with two letters before it, it is as long as a device's name may be. 65 bits.
const DIGITS: usize = 13;
/// What names of the node's ends begin with.
const HOST: &str = "pm";
/// What names of the devices begin with that limit what pods send.
const IFB: &str = "pb";
/// Begins the hardware addresses of pods' ends, as container runtimes have long had it: an address that no
/// manufacturer gave.
const POD_MAC: [u8; 2] = [0x0a, 0x58];

/// The name of the node's end of a pod's interface.
#[must_use]
pub fn host_interface_name(container: &str, interface: &str) -> String {
    // A NUL is in neither.
    format!("{HOST}{}", digits(&digest(&[container, "\0", interface])))
}

/// The name of the device that holds back what a pod sends.
pub(super) fn ifb_name(host_interface: &str) -> String {
    match host_interface.strip_prefix(HOST) {
        Some(digits) if digits.len() == DIGITS => format!("{IFB}{digits}"),
        _ => format!("{IFB}{}", digits(&digest(&[host_interface]))),
    }
}

/// The hardware address of a device of the node: the same for the same words.
pub(super) fn mac(words: &[&str]) -> Mac {
    let digest = digest(words);
    let [a, b, c, d, e, f] = std::array::from_fn(|at| digest[at]);
    // Of one device, and given by nobody who gives them to all.
    Mac([a & 0xfc | 2, b, c, d, e, f])
}

/// The hardware address of a pod's end: that of its address. Whoever has the address next has it too, so nobody's memory
/// of who has the address is wrong.
pub(super) fn pod_mac(address: Option<IpAddr>, host_interface: &str) -> Mac {
    let [a, b] = POD_MAC;
    let [c, d, e, f] = match address {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => first_four(&digest(&[&address.to_string()])),
        None => first_four(&digest(&["pod", host_interface])),
    };
    Mac([a, b, c, d, e, f])
}

fn first_four(digest: &[u8; 32]) -> [u8; 4] {
    std::array::from_fn(|at| digest[at])
}

fn digest(words: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    words.iter().for_each(|word| hasher.update(word.as_bytes()));
    hasher.finalize().into()
}

fn digits(digest: &[u8; 32]) -> String {
    let mut digits = data_encoding::BASE32HEX_NOPAD.encode(digest).to_lowercase();
    digits.truncate(DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let name = host_interface_name("4e5a", "eth0");
        assert_eq!(name.len(), 15);
        assert!(kernel::link::is_link_name(&name) && name.starts_with("pm"), "{name}");
        assert_ne!(name, host_interface_name("4e5a", "eth1"));
        assert_ne!(name, host_interface_name("4e5ae", "th0"));
        assert_eq!(name, host_interface_name("4e5a", "eth0"));
        assert_eq!(ifb_name(&name)[2..], name[2..]);
        assert!(kernel::link::is_link_name(&ifb_name("veth0")));
    }

    #[test]
    fn hardware_addresses_are_of_one_device() {
        for word in ["a", "b", "c", "d"] {
            let mac = mac(&[word]);
            assert!(mac.is_unicast() && mac.0[0] & 2 == 2, "{mac}");
        }
        let pod = pod_mac(Some([10, 244, 1, 2].into()), "pm0");
        assert_eq!(pod.to_string(), "0a:58:0a:f4:01:02");
        assert_ne!(pod_mac(None, "pm0"), pod_mac(None, "pm1"));
    }
}
