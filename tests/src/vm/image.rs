//! What the machine runs: an archive with suites, programs, libraries and modules.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Plan;
use super::archive::Archive;
use super::kernel::{Kernel, output};

/// Programs of the host that suites use, and what the first process needs; the rest is busybox.
const PROGRAMS: [&str; 16] = [
    "base32",
    "basenc",
    "busybox",
    "conntrack",
    "flock",
    "ip",
    "ipset",
    "ipvsadm",
    "kmod",
    "nft",
    "nsenter",
    "prlimit",
    "setpriv",
    "sha256sum",
    "ss",
    "unshare",
];
/// Programs that are one file under many names.
const MULTI: [(&str, &str); 2] = [("xtables-nft-multi", "nft"), ("xtables-legacy-multi", "legacy")];
/// What `iptables` alone means, as on Debian.
const DEFAULT_BACK_END: &str = "nft";
/// Where Debian's iptables has its extensions.
const EXTENSIONS: &str = "/usr/lib/x86_64-linux-gnu/xtables";
/// What lets a program see another time, under one of the host's folders of libraries.
const FAKETIME: &str = "faketime/libfaketime.so.1";
/// Modules that suites may need.
const MODULES: [&str; 5] = ["net", "lib", "crypto", "arch", "drivers/net"];
const NOT_NEEDED: [&str; 3] = ["drivers/net/ethernet", "arch/x86/kvm", "drivers/net/wireless"];
/// Modules that are loaded at the start. Without one of these, the machine is not what suites were written for.
const LOADED: &str = "af_packet bridge br_netfilter dummy ip6_tables ip6table_filter ip6table_mangle ip6table_nat \
    ip_tables iptable_filter iptable_mangle iptable_nat nf_conntrack nf_conntrack_netlink nf_nat nf_reject_ipv4 \
    nf_reject_ipv6 nf_tables nft_chain_nat nft_compat nft_ct nft_fib nft_fib_inet nft_fib_ipv4 nft_fib_ipv6 nft_hash \
    nft_limit nft_log nft_masq nft_nat nft_numgen nft_quota nft_redir nft_reject nft_reject_inet nft_reject_ipv4 \
    nft_reject_ipv6 sctp veth xt_addrtype xt_comment xt_conntrack xt_ipvs xt_mark xt_MASQUERADE xt_nat xt_physdev \
    xt_recent xt_sctp xt_set xt_statistic xt_tcpudp ipt_REJECT ip6t_REJECT ip_set ip_set_bitmap_port ip_set_hash_ip \
    ip_set_hash_ipport ip_set_hash_ipportip ip_set_hash_ipportnet ip_vs ip_vs_dh ip_vs_fo ip_vs_lblc ip_vs_lblcr \
    ip_vs_lc ip_vs_mh ip_vs_nq ip_vs_ovf ip_vs_rr ip_vs_sed ip_vs_sh ip_vs_wlc ip_vs_wrr";
/// Modules that are loaded where there are such; Debian builds its kernels without.
const OPTIONAL: &str = "ip_vs_twos";
/// Where suites and the binary are in the machine.
const SUITES: &str = "/opt";

/// Packs everything.
pub(super) fn build(plan: &Plan, kernel: &Kernel, into: &Path) -> Result<()> {
    let mut archive = Archive::create(into)?;
    for folder in ["proc", "sys", "dev", "run", "tmp", "root", "etc", "var"] {
        archive.folder(&Path::new("/").join(folder))?;
    }
    archive.text(Path::new("/init"), include_str!("guest/init.sh"), true)?;
    archive.text(Path::new("/etc/runs"), &runs(plan), false)?;
    archive.text(Path::new("/etc/modules"), LOADED, false)?;
    archive.text(Path::new("/etc/modules-optional"), OPTIONAL, false)?;
    archive.text(Path::new("/etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n", false)?;
    for file in ["/etc/protocols", "/etc/services"] {
        if Path::new(file).exists() {
            archive.file(Path::new(file), Path::new(file))?;
        }
    }
    programs(&mut archive)?;
    modules(&mut archive, kernel)?;
    let work = into.with_extension("stripped");
    fs::create_dir_all(&work)?;
    let built = plan.runs.iter().map(|run| (run.suite.as_str(), &run.program));
    // A suite may run several times.
    let built: BTreeMap<_, _> = built.chain([("pointsman", &plan.binary)]).collect();
    for (name, program) in built {
        let stripped = work.join(name);
        output(Command::new("strip").arg("-o").arg(&stripped).arg(program))?;
        archive.file(&Path::new(SUITES).join(name), &stripped)?;
        libraries(&mut archive, program)?;
    }
    archive.finish()
}

/// A line for each run, as the first process's shell reads it: its number, the suite, and its arguments.
fn runs(plan: &Plan) -> String {
    plan.runs.iter().enumerate().fold(String::new(), |mut lines, (number, run)| {
        let quoted = run.args.iter().map(|arg| format!(" '{}'", arg.replace('\'', "'\\''")));
        let _ = writeln!(lines, "run {number} {}{}", run.suite, quoted.collect::<String>());
        lines
    })
}

fn programs(archive: &mut Archive) -> Result<()> {
    for name in PROGRAMS {
        program(archive, name)?;
    }
    for (file, back_end) in MULTI {
        program(archive, file)?;
        for family in ["iptables", "ip6tables"] {
            for verb in ["", "-save", "-restore"] {
                let name = Path::new("/sbin").join(format!("{family}-{back_end}{verb}"));
                archive.link(&name, &format!("/bin/{file}"))?;
                if back_end == DEFAULT_BACK_END {
                    let plain = Path::new("/sbin").join(format!("{family}{verb}"));
                    archive.link(&plain, &format!("/bin/{file}"))?;
                }
            }
        }
    }
    let extensions = Path::new(EXTENSIONS);
    archive.tree(extensions, extensions, &|_| true)?;
    faketime(archive)?;
    for name in ["modprobe", "insmod", "lsmod"] {
        archive.link(&Path::new("/sbin").join(name), "/bin/kmod")?;
    }
    let applets = output(Command::new(find("busybox")?).arg("--list"))?;
    for applet in applets.lines().filter(|applet| !PROGRAMS.contains(applet)) {
        archive.link(&Path::new("/bin").join(applet), "/bin/busybox")?;
    }
    Ok(())
}

fn faketime(archive: &mut Archive) -> Result<()> {
    let mut folders = fs::read_dir("/usr/lib")?.filter_map(|entry| Some(entry.ok()?.path()));
    let library = folders.find_map(|folder| Some(folder.join(FAKETIME)).filter(|file| file.is_file()));
    let library = library.context("faketime is not installed: run cargo xtask setup")?;
    archive.file(&library, &library)?;
    libraries(archive, &library)
}

fn program(archive: &mut Archive, name: &str) -> Result<()> {
    let path = find(name)?;
    archive.file(&Path::new("/bin").join(name), &path)?;
    libraries(archive, &path)
}

/// Where a program is, in `PATH` or where administrators' programs are.
fn find(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()));
    found.with_context(|| format!("{name} is not installed: run cargo xtask setup"))
}

/// The libraries of a program, where it looks for them.
fn libraries(archive: &mut Archive, program: &Path) -> Result<()> {
    // Of one that is linked statically, ldd says so and fails.
    let Ok(listed) = output(Command::new("ldd").arg(program)) else { return Ok(()) };
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(Path::new).try_for_each(|path| archive.file(path, path))
}

fn modules(archive: &mut Archive, kernel: &Kernel) -> Result<()> {
    let version = kernel.modules.file_name().context("a kernel without a version")?;
    let inside = Path::new("/lib/modules").join(version);
    for entry in fs::read_dir(&kernel.modules)? {
        let path = entry?.path();
        if path.is_file()
            && let Some(name) = path.file_name()
        {
            archive.file(&inside.join(name), &path)?;
        }
    }
    let needed = |path: &Path| !NOT_NEEDED.iter().any(|folder| path.ends_with(folder));
    for folder in MODULES {
        let folder = Path::new("kernel").join(folder);
        archive.tree(&inside.join(&folder), &kernel.modules.join(&folder), &needed)?;
    }
    Ok(())
}
