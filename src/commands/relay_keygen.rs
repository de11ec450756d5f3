//! `cepa relay keygen`: a master identity key to be kept offline, and signing keys by it.

use cepa_crypto::ed25519::{ExpandedKeypair, Keypair};
use cepa_netdoc::timestamp;
use cepa_relay::key_files::{self, KeyFile};
use cepa_relay::make_signing_files;

use crate::args::RelayKeygenArgs;
use crate::error::{Failure, fail};
use crate::{clock, folder, keyfiles, terminal};

/// Makes the files and says what they are.
pub(super) fn run(args: &RelayKeygenArgs) -> Result<(), Failure> {
    let dir = args.dir.display();
    let mut rng = clock::rng()?;
    let master = match (read_master(args)?, args.renew) {
        (Some(_), false) => {
            return fail(
                "there is a master key already",
                dir,
                "give --renew for another signing key, or another folder",
            );
        }
        (None, true) => {
            return fail(
                format!("there is no {} to renew by", name(key_files::MASTER_SECRET)),
                dir,
                "run this where the master key is kept",
            );
        }
        (Some(master), true) => master,
        (None, false) => {
            folder::make_private(&args.dir)?;
            let master = Keypair::generate(&mut rng).expand();
            write(args, &key_files::write_master(&master))?;
            let secret = name(key_files::MASTER_SECRET);
            terminal::say(&format!("Made {dir}/{secret}: keep it offline"));
            master
        }
    };
    let (files, until) = make_signing_files(&master, args.days.into(), clock::now(), &mut rng);
    write(args, &files)?;
    let names = files.map(|file| name(file.path));
    let until = timestamp::encode(until);
    terminal::say(&format!(
        "Made {} and {} in {dir}, good until {until}: copy them to keys/ of the relay, then SIGHUP",
        names[0], names[1]
    ));
    terminal::say(&format!("ed25519 = \"{}\"", master.public().id()));
    Ok(())
}

/// The master key, if it is there.
fn read_master(args: &RelayKeygenArgs) -> Result<Option<ExpandedKeypair>, Failure> {
    let path = args.dir.join(name(key_files::MASTER_SECRET));
    let Some(secret) = keyfiles::read_secret(&path)? else {
        return Ok(None);
    };
    let public = keyfiles::read_public(&args.dir.join(name(key_files::MASTER_PUBLIC)))?;
    match key_files::read_master(&secret, public.as_deref()) {
        Ok(master) => Ok(Some(master)),
        Err(error) => fail(error, path.display(), "restore it from a copy"),
    }
}

fn write(args: &RelayKeygenArgs, files: &[KeyFile]) -> Result<(), Failure> {
    for file in files {
        if let Some(bytes) = &file.bytes {
            keyfiles::write_secret(&args.dir.join(name(file.path)), bytes)?;
        }
    }
    Ok(())
}

/// A file's name without the folder that it has in a relay's data folder.
fn name(path: &'static str) -> &'static str {
    path.strip_prefix("keys/").unwrap_or(path)
}
