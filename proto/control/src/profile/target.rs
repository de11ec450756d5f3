//! Where an onion service may lead: `ADDRESS:PORTS` or `unix:PATH`, a `*` for any.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::command::OnionTarget;

/// A text is not a rule for targets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no target: it is ADDRESS:PORT, ADDRESS:PORT-PORT, ADDRESS:* or unix:PATH")]
pub struct BadTargetRule(pub String);

/// A rule for targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetRule {
    /// Ports of an address, the first and the last of them.
    Tcp(IpAddr, u16, u16),
    /// A socket of the file system; with `true` any whose path begins so.
    Unix(PathBuf, bool),
}

impl TargetRule {
    /// Whether a target is by this rule.
    #[must_use]
    pub fn allows(&self, target: &OnionTarget) -> bool {
        match (self, target) {
            (TargetRule::Tcp(ip, first, last), OnionTarget::Tcp(address)) => {
                *ip == address.ip() && (*first..=*last).contains(&address.port())
            }
            (TargetRule::Unix(path, false), OnionTarget::Unix(target)) => path == target,
            // Whole components, and none of them back up.
            (TargetRule::Unix(path, true), OnionTarget::Unix(target)) => {
                let is_up = |part| part == std::path::Component::ParentDir;
                target.starts_with(path) && !target.components().any(is_up)
            }
            _ => false,
        }
    }
}

impl FromStr for TargetRule {
    type Err = BadTargetRule;

    fn from_str(text: &str) -> Result<TargetRule, BadTargetRule> {
        let bad = || BadTargetRule(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let folder = path.strip_suffix("/*");
            return Ok(TargetRule::Unix(
                folder.unwrap_or(path).into(),
                folder.is_some(),
            ));
        }
        let (ip, ports) = text.rsplit_once(':').ok_or_else(bad)?;
        let ip = ip
            .strip_prefix('[')
            .and_then(|ip| ip.strip_suffix(']'))
            .unwrap_or(ip);
        let ip = ip.parse().map_err(|_| bad())?;
        let (first, last) = match ports.split_once('-') {
            _ if ports == "*" => ("1", "65535"),
            Some(range) => range,
            None => (ports, ports),
        };
        let port = |text: &str| text.parse().map_err(|_| bad());
        Ok(TargetRule::Tcp(ip, port(first)?, port(last)?))
    }
}
