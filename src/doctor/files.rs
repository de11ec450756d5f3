//! Folders and keys: whose they are, who else may read them, and how long they are good.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use cepa_crypto::key_file::{self, Kind};
use cepa_netdoc::authcert::AuthCert;
use cepa_wire::cert::UnverifiedCert;
use rustix::fs::{Access, FlockOperation, StatVfsMountFlags};

use super::{Level, Report, Role};
use crate::clock;

/// A file system with less than so many free bytes is warned of: documents of a network of
/// thousands of relays take as much.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// And one with fewer free inodes.
const FREE_INODES_MIN: u64 = 1024;
/// How long before its end a certificate is warned of.
const CERTIFICATE_LEFT_MIN: Duration = Duration::from_secs(28 * DAY_SECS);
/// The same for a relay's signing key, which is renewed by itself where the master key is.
const SIGNING_LEFT_MIN: Duration = Duration::from_secs(7 * DAY_SECS);
const DAY_SECS: u64 = 86_400;
/// What to do about a signing key that ends.
const RENEW: &str = "renew it where the master key is: cepa relay keygen --renew";

pub(super) fn look(role: &Role, report: &mut Report) {
    let data_dir = role.data_dir();
    let existing = data_dir.ancestors().find(|path| path.exists());
    if let Some(existing) = existing {
        look_at_space(existing, report);
    }
    if data_dir.exists() {
        look_at_folder("data_dir", data_dir, report);
    } else {
        let may = existing.is_some_and(|path| rustix::fs::access(path, Access::WRITE_OK).is_ok());
        match may {
            true => report.ok("data_dir", data_dir.display(), "will be made"),
            false => report.add(
                Level::Bad,
                "data_dir",
                data_dir.display(),
                "is not there, and may not be made by this user",
                "make it and give it to this user",
            ),
        }
    }
    if let Role::Client(config) = role {
        for service in &config.onion_services {
            if service.dir.exists() {
                look_at_folder("onion service", &service.dir, report);
            }
        }
        return;
    }
    look_at_keys(&data_dir.join("keys"), report);
    if let Role::Authority(_) = role {
        look_at_certificate(&data_dir.join("keys/authority_certificate"), report);
    }
    for path in role.relay().iter().flat_map(|relay| &relay.family_keys) {
        look_at_secret(path, report);
    }
}

/// Whether a process works in the folder; nothing is written to find out.
pub(super) fn is_in_use(data_dir: &Path) -> bool {
    let lock = std::fs::File::open(data_dir.join("lock"));
    lock.is_ok_and(|lock| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
}

fn look_at_folder(subject: &'static str, path: &Path, report: &mut Report) {
    let shown = path.display();
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) => {
            return report.add(Level::Bad, subject, shown, error, "let this user read it");
        }
    };
    let mode = meta.mode() & 0o777;
    if !meta.is_dir() {
        report.add(Level::Bad, subject, shown, "is no folder", "choose another");
    } else if meta.uid() != rustix::process::geteuid().as_raw() {
        let found = format!("belongs to user {}", meta.uid());
        report.add(
            Level::Bad,
            subject,
            shown,
            found,
            "chown it, or run as that user",
        );
    } else if mode & 0o022 != 0 {
        let found = format!("mode {mode:o}: others may write it");
        report.add(Level::Bad, subject, shown, found, "chmod 700 it");
    } else if rustix::fs::access(path, Access::WRITE_OK).is_err() {
        let found = "cannot be written: nothing new will be kept";
        report.add(
            Level::Warn,
            subject,
            shown,
            found,
            "remount it, or chmod 700 it",
        );
    } else {
        report.ok(subject, shown, format!("is ours, mode {mode:o}"));
    }
}

fn look_at_space(path: &Path, report: &mut Report) {
    let Ok(space) = rustix::fs::statvfs(path) else {
        return;
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let found = format!("{} MiB and {} inodes are free", free >> 20, space.f_favail);
    // Some file systems have no inodes to count.
    let few_inodes = space.f_files > 0 && space.f_favail < FREE_INODES_MIN;
    let (level, remedy) = if space.f_flag.contains(StatVfsMountFlags::RDONLY) {
        (Level::Bad, "it is mounted read-only: remount it")
    } else if free < FREE_BYTES_MIN || few_inodes {
        (Level::Warn, "make room: 256 MiB and 1024 inodes")
    } else {
        (Level::Ok, "")
    };
    report.add(level, "disk", path.display(), found, remedy);
}

fn look_at_keys(keys: &Path, report: &mut Report) {
    if !keys.exists() {
        return report.ok("keys", keys.display(), "will be made at the first start");
    }
    for name in [
        "secret_id_key",
        "ed25519_master_id_secret_key",
        "ed25519_signing_secret_key",
        "secret_onion_key",
        "secret_onion_key_ntor",
        "authority_signing_key",
        "authority_identity_key",
    ] {
        look_at_secret(&keys.join(name), report);
    }
    look_at_signing(keys, report);
}

fn look_at_secret(path: &Path, report: &mut Report) {
    let Ok(meta) = std::fs::metadata(path) else {
        return;
    };
    let (shown, mode) = (path.display(), meta.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        let found = format!("mode {mode:o}: others can read it");
        report.add(
            Level::Bad,
            "key",
            shown,
            found,
            "chmod 600 it if it is still secret",
        );
    } else if path.ends_with("authority_identity_key") {
        let found = "the long-term key of an authority is on the machine that votes";
        report.add(
            Level::Warn,
            "key",
            shown,
            found,
            "move it to a place that is offline",
        );
    } else {
        report.ok("key", shown, format!("mode {mode:o}"));
    }
}

/// How long the relay's signing key is certified.
fn look_at_signing(keys: &Path, report: &mut Report) {
    let path = keys.join("ed25519_signing_cert");
    let Ok(file) = std::fs::read(&path) else {
        return;
    };
    let cert = key_file::read(Kind::SigningCert, &file).ok();
    let cert = cert.and_then(|cert| UnverifiedCert::parse(cert).ok());
    let Some(cert) = cert else {
        let remedy = "restore it, or move it away: it is made anew where the master key is";
        return report.add(
            Level::Bad,
            "certificate",
            path.display(),
            "is damaged",
            remedy,
        );
    };
    let is_renewed = keys.join("ed25519_master_id_secret_key").exists();
    let (left, found) = left_of(cert.unchecked().expires());
    let (level, remedy) = match is_renewed {
        true => (Level::Ok, ""),
        false if left.is_zero() => (Level::Bad, RENEW),
        false if left < SIGNING_LEFT_MIN => (Level::Warn, RENEW),
        false => (Level::Ok, ""),
    };
    report.add(level, "certificate", path.display(), found, remedy);
}

fn look_at_certificate(path: &Path, report: &mut Report) {
    let shown = path.display();
    let remedy = "make one: cepa authority keygen";
    let Ok(text) = std::fs::read_to_string(path) else {
        return report.add(Level::Bad, "certificate", shown, "cannot be read", remedy);
    };
    match AuthCert::parse(&text) {
        Ok(cert) => {
            let (left, found) = left_of(cert.expires);
            let level = match left {
                left if left.is_zero() => Level::Bad,
                left if left < CERTIFICATE_LEFT_MIN => Level::Warn,
                _ => Level::Ok,
            };
            let remedy = match level {
                Level::Ok => "",
                _ => "renew it: cepa authority keygen, where the identity key is",
            };
            report.add(level, "certificate", shown, found, remedy);
        }
        Err(error) => report.add(Level::Bad, "certificate", shown, error, remedy),
    }
}

fn left_of(expires: SystemTime) -> (Duration, String) {
    match expires.duration_since(clock::now().wall) {
        Ok(left) => (left, format!("good for {} days", left.as_secs() / DAY_SECS)),
        Err(ended) => {
            let days = ended.duration().as_secs() / DAY_SECS;
            (Duration::ZERO, format!("ended {days} days ago"))
        }
    }
}
