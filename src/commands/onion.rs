//! `cepa onion key` and `cepa onion status`. (`serve` is a client with a service.)

use cepa_crypto::client_auth::ClientAuthPrivate;
use cepa_crypto::curve25519::SecretKey;
use cepa_crypto::onion::OnionAddress;
use zeroize::Zeroizing;

use crate::args::{KeyArgs, StatusArgs};
use crate::error::{Failure, fail};
use crate::keyfiles::write_secret;
use crate::status::{self, Question, Subject};
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
    let question = Question {
        is_json: args.json,
        probes: !args.no_probe,
        ..Question::about(Subject::Onion)
    };
    let told = status::ask(&args.data_dir, question)?;
    terminal::say(String::from_utf8_lossy(&told).trim_end());
    Ok(())
}
