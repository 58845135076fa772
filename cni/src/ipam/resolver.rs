//! `resolvConf`: a file in the form of `/etc/resolv.conf` that says whom the container may ask for names.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::spec::{Code, Dns, Error};

const MOST_BYTES: u64 = 64 * 1024;

/// What the file says.
pub(super) fn read(path: &Path) -> Result<Dns, Error> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
    read.map_err(|error| {
        Error::new(Code::CONFIG, "ipam.resolvConf cannot be read")
            .with(format!("{}: {error}", path.display()))
    })?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_whitespace();
        let keyword = words.next();
        let mut words = words.map(str::to_owned);
        match keyword {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or_default(),
            // The last one counts, and all options do.
            Some("search") => dns.search = words.collect(),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_is_understood() {
        let dns = parse(
            "# comment\n; another\nnameserver 10.0.0.10\n nameserver fd00::a\nnameserver\ndomain example.org\n\
             search a b\nsearch c d\noptions ndots:5\noptions edns0 trust-ad\nsortlist 1.2.3.4\n",
        );
        assert_eq!(dns.nameservers, ["10.0.0.10", "fd00::a"]);
        assert_eq!(dns.domain, "example.org");
        assert_eq!(dns.search, ["c", "d"]);
        assert_eq!(dns.options, ["ndots:5", "edns0", "trust-ad"]);
        assert!(read(Path::new("/nonexistent")).unwrap_err().details.contains("/nonexistent"));
    }
}
