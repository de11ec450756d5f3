//! `cepa authority keygen`: the three key files of a directory authority.

use std::net::{SocketAddr, SocketAddrV4};

use crate::args::KeygenArgs;
use crate::error::{Failure, fail};
use crate::keyfiles::authority::{CertificateTerms, KeyPaths, KeySizes, make};
use crate::{clock, folder, terminal};

/// Makes the files and says what they are.
pub fn run(args: &KeygenArgs) -> Result<(), Failure> {
    folder::make_private(&args.dir)?;
    let address = args.address.map(ipv4).transpose()?;
    let terms = CertificateTerms {
        address,
        months: args.months,
        sizes: KeySizes::default(),
        reuse: args.reuse,
        create_identity: args.create_identity_key,
        under_passphrase: false,
    };
    let usual = KeyPaths::within(&args.dir);
    let paths = KeyPaths {
        identity: args.identity_key.clone().unwrap_or(usual.identity),
        signing: args.signing_key.clone().unwrap_or(usual.signing),
        certificate: args.certificate.clone().unwrap_or(usual.certificate),
    };
    let had_identity = paths.identity.exists();
    let mut ask = || terminal::ask_secret("Passphrase of the identity key: ");
    let identity = make(&paths, terms, &mut ask, clock::now(), &mut clock::rng()?)?;
    if had_identity {
        let certificate = paths.certificate.display();
        terminal::say(&format!("Renewed the certificate {certificate}"));
    } else {
        let made = paths.identity.display();
        terminal::say(&format!("Made {made}: keep it offline"));
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
