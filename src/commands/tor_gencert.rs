//! This program by the name `tor-gencert`: the keys and certificates of authorities, by the
//! arguments of the program of that name.

use std::fs::File;
use std::io::Read as _;
use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use clap::Parser;
use zeroize::Zeroizing;

use crate::error::{Failure, fail};
use crate::keyfiles::authority::{CertificateTerms, KeyPaths, KeySizes, make};
use crate::{clock, terminal};

/// The longest passphrase that is read.
const PASSPHRASE_LEN_MAX: u64 = 1023;

/// Makes keys and certificates of directory authorities.
#[derive(Debug, Parser)]
#[command(name = "tor-gencert")]
pub struct GencertArgs {
    /// Says more.
    #[arg(short)]
    verbose: bool,
    /// Makes a new certificate of the signing key that is there.
    #[arg(short, long)]
    reuse: bool,
    /// Makes an identity key, which must not be there yet.
    #[arg(long)]
    create_identity_key: bool,
    /// The file of the identity key: keep it offline.
    #[arg(short, value_name = "FILE", default_value = "./authority_identity_key")]
    identity: PathBuf,
    /// The file of the signing key.
    #[arg(short, value_name = "FILE", default_value = "./authority_signing_key")]
    signing: PathBuf,
    /// The file of the certificate.
    #[arg(short, value_name = "FILE", default_value = "./authority_certificate")]
    certificate: PathBuf,
    /// Months for which the certificate is good.
    #[arg(short, value_name = "N", default_value_t = 12,
          value_parser = clap::value_parser!(u16).range(1..=24))]
    months: u16,
    /// The directory port that the certificate names.
    #[arg(short, value_name = "ADDRESS:PORT")]
    address: Option<String>,
    /// Where the passphrase of the identity key is read, up to an end of line; without it, at the
    /// terminal.
    #[arg(long, value_name = "FD")]
    passphrase_fd: Option<u32>,
}

/// Whether this program was called by that name.
pub fn is_meant(program: Option<&std::ffi::OsStr>) -> bool {
    program.and_then(|program| Path::new(program).file_name()) == Some("tor-gencert".as_ref())
}

/// Makes what is asked for.
pub fn run(args: &GencertArgs) -> Result<(), Failure> {
    let paths = KeyPaths {
        identity: args.identity.clone(),
        signing: args.signing.clone(),
        certificate: args.certificate.clone(),
    };
    if !args.create_identity_key && !paths.identity.exists() {
        let advice = "name its file by -i, or make one by --create-identity-key";
        return fail("there is no identity key", paths.identity.display(), advice);
    }
    let terms = CertificateTerms {
        address: args.address.as_deref().map(address).transpose()?,
        months: args.months,
        sizes: KeySizes::default(),
        reuse: args.reuse,
        create_identity: args.create_identity_key,
        under_passphrase: true,
    };
    let mut ask = || passphrase(args);
    let identity = make(&paths, terms, &mut ask, clock::now(), &mut clock::rng()?)?;
    if args.verbose {
        let certificate = paths.certificate.display();
        let months = args.months;
        terminal::say(&format!(
            "{certificate}: {identity}, good for {months} months"
        ));
    }
    Ok(())
}

/// The passphrase, from where the arguments say.
fn passphrase(args: &GencertArgs) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let Some(fd) = args.passphrase_fd else {
        return terminal::ask_secret("Passphrase of the identity key: ");
    };
    let place = format!("--passphrase-fd {fd}");
    let wrong = |error| Failure::new("cannot read the passphrase", &place, error);
    let file = File::open(format!("/proc/self/fd/{fd}")).map_err(wrong)?;
    let mut text = Zeroizing::new(Vec::new());
    // No further: whoever writes it may have more to say, or wait with the end for ours.
    let mut input = file.take(PASSPHRASE_LEN_MAX);
    let mut byte = [0];
    while input.read(&mut byte).map_err(wrong)? == 1 && !matches!(byte, [b'\n' | 0]) {
        text.extend(byte);
    }
    Ok(text)
}

/// The IPv4 address that a text names, or the first one of its host.
fn address(text: &str) -> Result<SocketAddrV4, Failure> {
    let found = text.to_socket_addrs();
    let found = found.map_err(|error| Failure::new("wrong address", text, error))?;
    let mut four = found.filter_map(|address| match address {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    });
    match four.next() {
        Some(address) => Ok(address),
        None => fail("wrong address", text, "expected an IPv4 address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_and_certificates_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "a passphrase\nand no more of it").unwrap();
        let run_with = |extra: &[&str]| {
            let secret = File::open(&secret).unwrap();
            let fd = std::os::fd::AsRawFd::as_raw_fd(&secret).to_string();
            let file = |name: &str| dir.path().join(name).display().to_string();
            let (id, sign, cert) = (file("id"), file("sign"), file("cert"));
            let mut words = vec!["tor-gencert", "-i", &id, "-s", &sign, "-c", &cert];
            words.extend(["--passphrase-fd", &fd, "-a", "127.0.0.1:7000"]);
            words.extend(extra);
            run(&GencertArgs::try_parse_from(words).unwrap())
        };
        let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let none = run_with(&[]).unwrap_err().to_string();
        assert!(none.contains("--create-identity-key"), "{none}");
        run_with(&["--create-identity-key", "-m", "3"]).unwrap();
        assert!(text("id").contains("ENCRYPTED"));
        assert!(text("cert").contains("\ndir-address 127.0.0.1:7000\n"));
        let (signing, identity) = (text("sign"), text("id"));
        let again = run_with(&["--create-identity-key"]).unwrap_err();
        assert!(
            again.to_string().contains("there is an identity key"),
            "{again}"
        );
        run_with(&["--reuse"]).unwrap();
        assert_eq!((text("sign"), text("id")), (signing.clone(), identity));
        run_with(&[]).unwrap();
        assert_ne!(text("sign"), signing);
        std::fs::write(&secret, "another").unwrap();
        let wrong = run_with(&[]).unwrap_err().to_string();
        assert!(wrong.contains("passphrase"), "{wrong}");
    }
}
