//! Two relays that say that they are one family, one of ours and one of `tor`: by lists, and by a
//! key that `tor --keygen-family` has made (proposal 321).

use std::process::Command;

use crate::among_theirs::ROUNDS_MAX;
use crate::matrix::{self, Board, Column};
use crate::support::fetch::document;
use crate::support::until;
use crate::tor::Tor;
use crate::world::{Ours, World};

/// How many relays this adds to a network.
pub(crate) const RELAYS: usize = 2;
pub(crate) const OURS: &str = "ourfamily";
pub(crate) const THEIRS: &str = "torfamily";

/// The two relays.
pub(crate) struct Family {
    _ours: Ours,
    _theirs: Tor,
    id: String,
    members: [String; RELAYS],
}

impl Family {
    /// Starts them.
    pub(crate) fn start(world: &World) -> Self {
        let keys = world.folder("family");
        std::fs::create_dir_all(&keys).unwrap();
        let mut keygen = Command::new("tor");
        keygen.args(["--keygen-family", "shared", "--quiet"]);
        let made = keygen.current_dir(&keys).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let id = std::fs::read_to_string(keys.join("shared.public_family_id")).unwrap();
        let id = id.trim().to_owned();
        let [ours, theirs] = [OURS, THEIRS].map(|name| world.made_by_tor(name));
        let lines = format!(
            "MyFamily ${ours}\nFamilyId {id}\nFamilyKeyDirectory {}\n",
            keys.display()
        );
        let tor = world.tor_relay(THEIRS, 111, &lines);
        let lines = format!(
            "family = [\"${theirs}\"]\nfamily_keys = [\"family/shared.secret_family_key\"]"
        );
        let relay = world.relay(OURS, 104, &lines);
        Self {
            _ours: relay,
            _theirs: tor,
            id,
            members: [ours, theirs],
        }
    }

    /// The authorities' microdescriptors of both relays say so.
    pub(crate) fn cells(&self, board: &Board, column: Column, world: &World) {
        board.cell(matrix::FAMILY_LISTS, column, || {
            let mut members = self.members.clone();
            members.sort();
            let line = format!("\nfamily ${} ${}\n", members[0], members[1]);
            // Method 36 leaves lists out of microdescriptors.
            let has_lists = method(world) < 36;
            for name in [OURS, THEIRS] {
                until(ROUNDS_MAX, name, || {
                    let is_right = |text: &String| match has_lists {
                        true => text.contains(&line),
                        false => text.contains("\nfamily-ids ") && !text.contains("\nfamily "),
                    };
                    microdesc(world, name).filter(is_right)
                });
            }
        });
        board.cell(matrix::FAMILY_KEYS, column, || {
            let line = format!("\nfamily-ids ed25519:{}\n", self.id);
            for name in [OURS, THEIRS] {
                until(ROUNDS_MAX, name, || {
                    microdesc(world, name).filter(|text| text.contains(&line))
                });
            }
        });
    }
}

/// The method by which the consensus was made.
fn method(world: &World) -> u32 {
    let text = until(ROUNDS_MAX, "a consensus", || {
        document(
            world.dirs()[0],
            "/tor/status-vote/current/consensus-microdesc",
        )
    });
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("consensus-method "));
    line.unwrap().parse().unwrap()
}

/// The microdescriptor of a relay that the consensus in force lists.
fn microdesc(world: &World, nickname: &str) -> Option<String> {
    let dir = world.dirs()[0];
    let text = document(dir, "/tor/status-vote/current/consensus-microdesc")?;
    let start = format!("{nickname} ");
    let entry = text.split("\nr ").find(|entry| entry.starts_with(&start))?;
    let digest = entry.lines().find_map(|line| line.strip_prefix("m "))?;
    document(dir, &format!("/tor/micro/d/{digest}"))
}
