//! `cepa authority keygen`: the three key files of a directory authority.

use std::net::{SocketAddr, SocketAddrV4};

use crate::args::KeygenArgs;
use crate::error::{Failure, fail};
use crate::keyfiles::authority::{AuthorityFiles, CertificateTerms, KeySizes, make};
use crate::{clock, folder, terminal};

/// Makes the files and says what they are.
pub fn run(args: &KeygenArgs) -> Result<(), Failure> {
    folder::make_private(&args.dir)?;
    let address = args.address.map(ipv4).transpose()?;
    let terms = CertificateTerms {
        address,
        months: args.months,
        sizes: KeySizes::default(),
    };
    let files = AuthorityFiles::of(&args.dir);
    let had_identity = files.identity.exists();
    let mut ask = || terminal::ask_secret("Passphrase of the identity key: ");
    let rng = &mut clock::rng()?;
    let identity = make(&files, terms, &mut ask, clock::now(), rng)?;
    let dir = args.dir.display();
    if had_identity {
        terminal::say(&format!("Renewed the certificate in {dir}"));
    } else {
        terminal::say(&format!(
            "Made {dir}/authority_identity_key: keep it offline"
        ));
    }
    terminal::say(&format!("v3_ident = \"{identity}\""));
    Ok(())
}

fn ipv4(address: SocketAddr) -> Result<SocketAddrV4, Failure> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(address) => fail(
            "wrong address",
            format!("--address {address}"),
            "expected an IPv4 address",
        ),
    }
}
