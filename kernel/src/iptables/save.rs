//! Reading what `iptables-save` lists.

use std::io::{self, BufRead, BufReader, Read};
use std::process::Stdio;
use std::thread;

use super::restore::{note, read_bounded};
use super::{Iptables, Table, complaint};
use crate::Error;

/// Where a line is cut, in bytes. The longest that a rule makes by itself is a fraction of it.
const LINE: u64 = 64 << 10;

/// A line of a table's listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedLine<'a> {
    /// `:KUBE-SERVICES - [0:0]`: the chain's name.
    Chain(&'a str),
    /// `-A KUBE-SERVICES -d 10.96.0.1/32 …`
    Rule {
        /// The chain it is in.
        chain: &'a str,
        /// The rest of the line after one space; may be empty.
        rule: &'a str,
    },
}

impl<'a> SavedLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        if let Some(chain) = line.strip_prefix(':') {
            return Some(Self::Chain(chain.split(' ').next()?));
        }
        let rule = line.strip_prefix("-A ")?;
        let (chain, rule) = rule.split_once(' ').unwrap_or((rule, ""));
        Some(Self::Rule { chain, rule })
    }
}

/// Reads a rule with its packets out of `[12:345] -A KUBE-SERVICES …`.
pub(super) fn counted(line: &str) -> Option<(u64, SavedLine<'_>)> {
    let (counters, rule) = line.strip_prefix('[')?.split_once("] ")?;
    let (packets, _) = counters.split_once(':')?;
    Some((packets.parse().ok()?, SavedLine::parse(rule)?))
}

impl Iptables {
    /// Lists one table or all that exist, each line with the name of its table.
    pub(super) fn run_save(
        &self,
        table: Option<Table>,
        mut each: impl FnMut(&str, SavedLine<'_>),
    ) -> Result<(), Error> {
        self.run_listing(table, &[], |name, line| {
            if let Some(saved) = SavedLine::parse(line) {
                each(name, saved);
            }
        })
    }

    /// The same, with the lines as they are.
    pub(super) fn run_listing(
        &self,
        table: Option<Table>,
        args: &[&str],
        each: impl FnMut(&str, &str),
    ) -> Result<(), Error> {
        let mut command = self.save.command();
        command.args(args);
        if let Some(table) = table {
            command.args(["-t", table.as_str()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let operation = match table {
            Some(table) => format!("list table {table} by {}", self.save.name),
            None => format!("list tables by {}", self.save.name),
        };
        let failed = |cause| Error::io(operation.as_str(), cause);
        let mut child = command.spawn().map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (listed, said) = thread::scope(|scope| {
            let reader = scope.spawn(|| stderr.map(read_bounded).unwrap_or_default());
            // Closed when it is not read any longer, so that the program ends.
            let listed = stdout.map_or(Ok(None), |stdout| take_in(BufReader::new(stdout), each));
            (listed, reader.join().unwrap_or_default())
        });
        let status = child.wait().map_err(failed)?;
        if !status.success() {
            return Err(complaint::failure(&operation, &said, status));
        }
        note(&self.save.name, &said);
        // A table that was asked for must not look empty; of all that exist, it may be nobody's business.
        match listed.map_err(failed)?.filter(|_| table.is_some()) {
            Some(foreign) => Err(failed(io::Error::other(foreign))),
            None => Ok(()),
        }
    }
}

/// Hands over the lines of a listing. Returns what the program said in place of a table that it cannot list.
fn take_in(mut listing: impl BufRead, mut each: impl FnMut(&str, &str)) -> io::Result<Option<String>> {
    let (mut line, mut table, mut foreign) = (Vec::new(), String::new(), None);
    while next_line(&mut listing, &mut line)? {
        let text = String::from_utf8_lossy(&line);
        if let Some(name) = text.strip_prefix('*') {
            name.clone_into(&mut table);
            continue;
        }
        if text.starts_with("# Table ") && text.contains("incompatible") {
            foreign = Some(text.trim_start_matches("# ").to_owned());
        }
        each(&table, &text);
    }
    Ok(foreign)
}

/// Reads a line, less what it has beyond the limit and its end. False at the end of the listing.
fn next_line(listing: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if listing.by_ref().take(LINE).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else {
        listing.skip_until(b'\n')?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(listing: &str) -> (Vec<String>, Option<String>) {
        let mut seen = Vec::new();
        let foreign = take_in(listing.as_bytes(), |table, line| {
            seen.extend(SavedLine::parse(line).map(|line| format!("{table} {line:?}")));
        });
        (seen, foreign.unwrap())
    }

    #[test]
    fn chains_and_rules_are_told_with_their_table() {
        let (seen, foreign) = read(
            "# Generated by iptables-save v1.8.9\n*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-A - [0:0]\n-A KUBE-A\n\
             -A KUBE-A -m comment --comment \"a b\" -j RETURN\nCOMMIT\n*raw\n:OUTPUT ACCEPT [1:2]",
        );
        assert_eq!(
            seen,
            [
                "nat Chain(\"PREROUTING\")",
                "nat Chain(\"KUBE-A\")",
                "nat Rule { chain: \"KUBE-A\", rule: \"\" }",
                "nat Rule { chain: \"KUBE-A\", rule: \"-m comment --comment \\\"a b\\\" -j RETURN\" }",
                "raw Chain(\"OUTPUT\")",
            ]
        );
        assert_eq!(foreign, None);
    }

    #[test]
    fn rules_are_told_with_their_packets() {
        let rule = SavedLine::Rule { chain: "KUBE-A", rule: "-j RETURN" };
        assert_eq!(counted("[12:345] -A KUBE-A -j RETURN"), Some((12, rule)));
        assert_eq!(counted(":KUBE-A - [12:345]"), None);
    }

    #[test]
    fn a_table_that_cannot_be_listed_is_told_of() {
        let (seen, foreign) = read("# Table `nat' is incompatible, use 'nft' tool.\n");
        assert_eq!(
            (seen, foreign.as_deref()),
            (Vec::new(), Some("Table `nat' is incompatible, use 'nft' tool."))
        );
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_is_whole() {
        let limit = usize::try_from(LINE).unwrap();
        let (seen, _) = read(&format!("*nat\n-A A {}\n:B - [0:0]\n", "x".repeat(3 * limit)));
        assert!(seen[0].len() < limit + 50, "{}", seen[0].len());
        assert_eq!(seen[1..], ["nat Chain(\"B\")"]);
    }
}
