//! What the machine lets a process have: descriptors, memory, ports of its own.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{Level, Report, Role};

/// Descriptors that a relay should have: a link and a stream take one each.
const RELAY_FILES_MIN: u64 = 16_384;
/// Descriptors that a client should have.
const CLIENT_FILES_MIN: u64 = 1024;
/// Memory that a relay should find, in KiB.
const RELAY_MEMORY_KIB_MIN: u64 = 512 << 10;
/// Ports from which an exit may connect: one for each stream to the same place.
const EXIT_PORTS_MIN: u64 = 16_384;
/// Connections that wait to be accepted.
const BACKLOG_MIN: u64 = 1024;
/// Connections that the firewall follows, if it does.
const TRACKED_MIN: u64 = 65_536;

pub(super) fn look(role: &Role, report: &mut Report) {
    look_at_files(role.relay().is_some(), report);
    let Some(relay) = role.relay() else {
        return;
    };
    look_at_memory(report);
    look_at_least("net.core.somaxconn", BACKLOG_MIN, report);
    look_at_least("net.netfilter.nf_conntrack_max", TRACKED_MIN, report);
    if relay.exit.is_exit() {
        look_at_ports(report);
    }
}

fn look_at_files(is_relay: bool, report: &mut Report) {
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current, limit.maximum);
    let shown = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
    let wanted = if is_relay {
        RELAY_FILES_MIN
    } else {
        CLIENT_FILES_MIN
    };
    let found = format!("{} now, at most {}", shown(soft), shown(hard));
    // The soft limit is raised to the hard one at the start.
    let (level, remedy) = match hard.is_none_or(|hard| hard >= wanted) {
        true => (Level::Ok, String::new()),
        false => {
            let remedy = format!("raise it to {wanted}: LimitNOFILE= of the unit, or ulimit -Hn");
            (Level::Warn, remedy)
        }
    };
    report.add(level, "descriptors", "RLIMIT_NOFILE", found, remedy);
}

fn look_at_memory(report: &mut Report) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let Some(kib) = kib else { return };
    let (level, remedy) = match kib >= RELAY_MEMORY_KIB_MIN {
        true => (Level::Ok, ""),
        false => (Level::Warn, "a relay wants 512 MiB: add memory or swap"),
    };
    let found = format!("{} MiB are available", kib >> 10);
    report.add(level, "memory", "/proc/meminfo", found, remedy);
}

/// A sysctl that should not be lower; one that is not there is nobody's.
fn look_at_least(name: &'static str, least: u64, report: &mut Report) {
    let text = read_sysctl(name);
    let Some(value) = text.and_then(|text| text.trim().parse::<u64>().ok()) else {
        return;
    };
    let (level, remedy) = match value >= least {
        true => (Level::Ok, String::new()),
        false => (Level::Warn, format!("sysctl -w {name}={least}")),
    };
    report.add(level, "sysctl", name, value, remedy);
}

fn look_at_ports(report: &mut Report) {
    let name = "net.ipv4.ip_local_port_range";
    let text = read_sysctl(name).unwrap_or_default();
    let mut ends = text.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(low)), Some(Ok(high))) = (ends.next(), ends.next()) else {
        return;
    };
    let count = (high + 1).saturating_sub(low);
    let (level, remedy) = match count >= EXIT_PORTS_MIN {
        true => (Level::Ok, String::new()),
        false => (Level::Warn, format!("sysctl -w {name}=\"10240 65535\"")),
    };
    let found = format!("{low} to {high}: {count} ports for an exit to connect from");
    report.add(level, "sysctl", name, found, remedy);
}

fn read_sysctl(name: &str) -> Option<String> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    std::fs::read_to_string(path).ok()
}
