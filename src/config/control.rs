//! The table `[control]`: where controllers are listened to, what they prove, what they may do.
//!
//! `listen` is `auto` (a free port of loopback), a port of loopback, `ADDRESS:PORT`, or `unix:` and
//! a path. Without `cookie = false` there is a cookie: a port that asks for nothing has to be asked
//! for. A profile is one that comes along or one of `[[control.profiles]]`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cepa_control::Profile;
use cepa_control::auth::HashedPassword;
use cepa_control::profile::{Allowed, TargetRule};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::source::Source;
use crate::error::Failure;

/// The cookie's file in a data folder, by `tor`'s name.
const COOKIE_FILE: &str = "control_auth_cookie";
const LISTEN: &str = "auto, PORT, ADDRESS:PORT or unix:PATH, and behind that perhaps \
    GroupWritable or WorldWritable";
const HASH: &str = "16: and 58 hexadecimal digits, as of tor --hash-password";

/// Where controllers are listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlListen {
    /// At a TCP address; its port may be 0, for any that is free.
    Tcp(SocketAddr),
    /// At a unix socket, with the mode of its file.
    Unix(PathBuf, u32),
}

impl ControlListen {
    /// Whether other machines may reach it.
    fn is_open_to_others(&self) -> bool {
        matches!(self, ControlListen::Tcp(addr) if !addr.ip().is_loopback())
    }
}

/// The cookie.
#[derive(Debug, Clone)]
pub struct ControlCookie {
    /// Its file.
    pub path: PathBuf,
    /// Whether the file's group may read it, too.
    pub is_group_readable: bool,
    /// What it is good for.
    pub profile: Arc<Profile>,
}

/// How controllers are let in.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// Where; one at least.
    pub listen: Vec<ControlListen>,
    /// A file for what was listened on, as `ControlPortWriteToFile` has it.
    pub write_to_file: Option<PathBuf>,
    /// Whether the group may read that file (`ControlPortFileGroupReadable`).
    pub is_file_group_readable: bool,
    /// The cookie, if there is one.
    pub cookie: Option<ControlCookie>,
    /// Passwords, and what each is good for.
    pub passwords: Vec<(HashedPassword, Arc<Profile>)>,
    /// What everybody may do where there is neither.
    pub without: Arc<Profile>,
}

/// The table `[control]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlTable {
    /// `auto`, `PORT`, `ADDRESS:PORT` or `unix:PATH`.
    pub listen: Vec<Spanned<String>>,
    /// A file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_to_file: Option<PathBuf>,
    /// Whether the group may read that file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub file_group_readable: bool,
    /// Whether there is a cookie.
    #[serde(default = "yes")]
    pub cookie: bool,
    /// A file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie_file: Option<PathBuf>,
    /// Whether the cookie's group may read it.
    #[serde(default)]
    pub cookie_file_group_readable: bool,
    /// The profile of the cookie, or of everybody where there is no secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Spanned<String>>,
    /// The passwords.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passwords: Vec<PasswordTable>,
    /// Profiles beside those that come along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<ProfileTable>,
}

/// The table `[[control.passwords]]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordTable {
    /// As `tor --hash-password` prints it.
    pub hash: Spanned<String>,
    /// The name of a profile; all may be done without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Spanned<String>>,
}

/// The table `[[control.profiles]]`: what is not given is not allowed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileTable {
    /// Its name.
    pub name: String,
    /// Commands.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Keys of GETINFO.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Options of GETCONF.
    #[serde(default)]
    pub options_told: Vec<String>,
    /// Options of SETCONF and RESETCONF.
    #[serde(default)]
    pub options_set: Vec<String>,
    /// Signals.
    #[serde(default)]
    pub signals: Vec<String>,
    /// Events.
    #[serde(default)]
    pub events: Vec<String>,
    /// Where onion services may lead.
    #[serde(default)]
    pub targets: Vec<Spanned<String>>,
    /// Whether an onion service may outlive its connection.
    #[serde(default)]
    pub detach: bool,
}

impl ControlTable {
    /// Checks it; `data_dir` is where the cookie is, if nothing else is said.
    pub fn checked(self, source: &Source, data_dir: &Path) -> Result<ControlConfig, Failure> {
        let mut profiles = BTreeMap::new();
        for table in self.profiles {
            profiles.insert(table.name.clone(), Arc::new(table.checked(source)?));
        }
        let profile = |name: Option<&Spanned<String>>| -> Result<Arc<Profile>, Failure> {
            let Some(name) = name else {
                return Ok(Arc::default());
            };
            let ours = profiles.get(name.get_ref()).cloned();
            let known = ours.or_else(|| Profile::built_in(name.get_ref()).map(Arc::new));
            let names = Profile::BUILT_IN.join(", ");
            known.ok_or_else(|| source.wrong(name, "profile", &format!("one of {names}")))
        };
        let read = |text: &Spanned<String>| {
            let listen = read_listen(text.get_ref(), source);
            listen.ok_or_else(|| source.wrong(text, "listen", LISTEN))
        };
        let mut passwords = Vec::new();
        for table in &self.passwords {
            let hash = HashedPassword::parse(table.hash.get_ref());
            let hash = hash.map_err(|_| source.wrong(&table.hash, "hash", HASH))?;
            passwords.push((hash, profile(table.profile.as_ref())?));
        }
        let without = profile(self.profile.as_ref())?;
        let path = self.cookie_file.map(|path| source.resolve(&path));
        let cookie = self.cookie.then(|| ControlCookie {
            path: path.unwrap_or_else(|| data_dir.join(COOKIE_FILE)),
            is_group_readable: self.cookie_file_group_readable,
            profile: Arc::clone(&without),
        });
        let listen: Vec<_> = self.listen.iter().map(read).collect::<Result<_, _>>()?;
        if listen.is_empty() {
            return Err(source.lacks("listen of control", LISTEN));
        }
        if cookie.is_none() && passwords.is_empty() {
            let mut texts = self.listen.iter().zip(&listen);
            if let Some((text, _)) = texts.find(|(_, place)| place.is_open_to_others()) {
                return Err(source.wrong(text, "listen", "loopback or a socket, without secrets"));
            }
        }
        Ok(ControlConfig {
            listen,
            write_to_file: self.write_to_file.map(|path| source.resolve(&path)),
            is_file_group_readable: self.file_group_readable,
            cookie,
            passwords,
            without,
        })
    }
}

fn read_listen(text: &str, source: &Source) -> Option<ControlListen> {
    let loopback = |port| ControlListen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    if let Some(path) = text.strip_prefix("unix:") {
        let mut words = path.split_whitespace();
        let path = source.resolve(Path::new(words.next()?));
        let mut mode = 0o600;
        for flag in words {
            match flag {
                "GroupWritable" => mode |= 0o060,
                "WorldWritable" => mode |= 0o066,
                _ => return None,
            }
        }
        return Some(ControlListen::Unix(path, mode));
    }
    if text.eq_ignore_ascii_case("auto") {
        return Some(loopback(0));
    }
    match text.parse::<u16>() {
        Ok(port) => (port != 0).then(|| loopback(port)),
        Err(_) => text.parse().ok().map(ControlListen::Tcp),
    }
}

impl ProfileTable {
    fn checked(self, source: &Source) -> Result<Profile, Failure> {
        let rule = |text: &Spanned<String>| {
            let rule = text.get_ref().parse::<TargetRule>();
            rule.map_err(|_| source.wrong(text, "targets", "ADDRESS:PORTS or unix:PATH"))
        };
        Ok(Profile {
            targets: Some(self.targets.iter().map(rule).collect::<Result<_, _>>()?),
            name: self.name,
            commands: Allowed::Only(self.commands),
            keys: Allowed::Only(self.keys),
            options_told: Allowed::Only(self.options_told),
            options_set: Allowed::Only(self.options_set),
            signals: Allowed::Only(self.signals),
            events: Allowed::Only(self.events),
            may_not_detach: !self.detach,
        })
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ControlConfig, Failure> {
        let source = Source::from_text(Path::new("/x/client.toml"), text);
        let table: ControlTable = source.parse()?;
        table.checked(&source, Path::new("/data"))
    }

    #[test]
    fn reads_what_controllers_may() {
        let config = read(
            "listen = [\"auto\", \"9051\", \"[::1]:9051\", \"unix:c\"]\nprofile = \"mine\"\n\
             [[passwords]]\n\
             hash = \"16:660537E3E1CD49996044A3BF558097A981F539FEA2F9DA662B4626C1C2\"\n\
             profile = \"nyx\"\n[[profiles]]\nname = \"mine\"\ncommands = [\"GETINFO\"]\n\
             keys = [\"status/*\"]\ntargets = [\"127.0.0.1:80\"]\n",
        )
        .unwrap();
        assert_eq!(
            config.listen[0],
            ControlListen::Tcp("127.0.0.1:0".parse().unwrap())
        );
        assert_eq!(
            config.listen[1],
            ControlListen::Tcp("127.0.0.1:9051".parse().unwrap())
        );
        assert_eq!(
            config.listen[2],
            ControlListen::Tcp("[::1]:9051".parse().unwrap())
        );
        assert_eq!(config.listen[3], ControlListen::Unix("/x/c".into(), 0o600));
        let cookie = config.cookie.unwrap();
        assert_eq!(cookie.path, Path::new("/data/control_auth_cookie"));
        assert_eq!(cookie.profile.name, "mine");
        assert_eq!(config.passwords[0].1.name, "nyx");
    }

    #[test]
    fn wrong_lines_are_named() {
        for (text, line) in [
            ("listen = [\"auto\",\n\"x\"]\n", "line 2"),
            ("listen = [\"0\"]\n", "line 1"),
            ("cookie = false\nlisten = [\"10.0.0.1:9051\"]\n", "line 2"),
            ("listen = [\"auto\"]\nprofile = \"nobody\"\n", "line 2"),
            (
                "listen = [\"auto\"]\n[[passwords]]\nhash = \"foo\"\n",
                "line 3",
            ),
            (
                "listen = [\"auto\"]\n[[profiles]]\nname = \"a\"\ntargets = [\"x\"]\n",
                "line 4",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
        }
    }
}
