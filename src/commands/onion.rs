//! `cepa onion key` and `cepa onion status`. (`serve` is a client with a service.)

use cepa_crypto::client_auth::ClientAuthPrivate;
use cepa_crypto::curve25519::SecretKey;
use cepa_crypto::onion::OnionAddress;
use zeroize::Zeroizing;

use crate::args::{KeyArgs, StatusArgs};
use crate::error::{Failure, fail};
use crate::keyfiles::write_secret;
use crate::status::{self, HsDir, IntroPoint, OnionStatus};
use crate::{clock, folder, terminal};

/// Makes a pair of keys and says where each half belongs.
pub fn key(args: &KeyArgs) -> Result<(), Failure> {
    let address: OnionAddress = args.address.parse().map_err(|error| {
        Failure::new(
            error,
            &args.address,
            "copy it whole from the service's hostname file",
        )
    })?;
    folder::make_private(&args.dir)?;
    let service = args.dir.join(format!("{}.auth", args.name));
    let client = args.dir.join(format!("{}.auth_private", args.name));
    for path in [&service, &client] {
        if path.exists() {
            return fail(
                "this file is there already",
                path.display(),
                "choose another --name",
            );
        }
    }
    let secret = ClientAuthPrivate {
        address,
        key: SecretKey::generate(&mut clock::rng()?),
    };
    let public = secret.public().encode();
    write_secret(&service, format!("{public}\n").as_bytes())?;
    write_secret(
        &client,
        Zeroizing::new(format!("{}\n", *secret.encode())).as_bytes(),
    )?;
    let (service, client) = (service.display(), client.display());
    terminal::say(&format!(
        "{service}: for the service, into its authorized_clients/"
    ));
    terminal::say(&format!(
        "{client}: for the client, into its onion_auth_dir; keep it secret"
    ));
    Ok(())
}

/// Asks a running process how its services are.
pub fn status(args: &StatusArgs) -> Result<(), Failure> {
    let path = if args.no_probe {
        "/onion"
    } else {
        "/onion?probe"
    };
    let body = status::ask(&args.data_dir, path)?;
    if args.json {
        terminal::say(String::from_utf8_lossy(&body).trim_end());
        return Ok(());
    }
    let onions: Vec<OnionStatus> = serde_json::from_slice(&body).map_err(|error| {
        let advice = format!("is it of the same version as this program? ({error})");
        Failure::new("cannot read the answer", args.data_dir.display(), advice)
    })?;
    if onions.is_empty() {
        terminal::say("This process hosts no onion service.");
    }
    for onion in &onions {
        say_onion(onion);
    }
    Ok(())
}

fn say_onion(onion: &OnionStatus) {
    let probe = match &onion.probe {
        None => String::new(),
        Some(probe) => match &probe.error {
            None => format!(", reached by a visit of our own in {} ms", probe.took_ms),
            Some(error) => format!(", NOT reached by a visit of our own: {error}"),
        },
    };
    let published = if onion.published {
        "published"
    } else {
        "not published yet"
    };
    terminal::say(&format!("{}: {published}{probe}", onion.address));
    for one in &onion.descriptors {
        let revision = shown(one.revision);
        let holding = one
            .hsdirs
            .iter()
            .filter(|dir| dir.revision.is_some())
            .count();
        let next = one.next_upload_secs.map_or(String::new(), |secs| {
            format!(", made anew in {} min", secs / 60)
        });
        terminal::say(&format!(
            "  descriptor of period {}: revision {revision}, at {holding} of {} directories{next}",
            one.period,
            one.hsdirs.len()
        ));
        one.hsdirs.iter().for_each(say_hsdir);
    }
    onion.intro_points.iter().for_each(say_intro_point);
    let dropped: u64 = onion.dropped.iter().map(|(_, count)| count).sum();
    terminal::say(&format!(
        "  introductions {} ({dropped} dropped), visitors now {} of {} in all, {} not met",
        onion.introductions, onion.visitors, onion.visitors_total, onion.not_met
    ));
}

fn say_hsdir(dir: &HsDir) {
    let held = match (dir.revision, dir.since_secs) {
        (Some(revision), Some(secs)) => format!("revision {revision} since {secs} s"),
        _ => format!("nothing, {} uploads failed", dir.failures),
    };
    terminal::say(&format!("    directory {}: {held}", dir.relay));
}

fn say_intro_point(point: &IntroPoint) {
    let since = point
        .since_secs
        .map_or(String::new(), |secs| format!(" since {secs} s"));
    terminal::say(&format!(
        "  introduction point {}: {}{since}, {} introductions",
        point.relay, point.state, point.introductions
    ));
}

fn shown(revision: Option<u64>) -> String {
    revision.map_or_else(|| "none".to_owned(), |revision| revision.to_string())
}
