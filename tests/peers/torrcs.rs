//! `--verify-config` of `tor` and of ours, on the same torrcs: `torrcs.txt` has one a line, with
//! `|` between its lines and, behind ` ~ `, why ours judges otherwise where it does.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::network::CEPA;
use crate::tor;

const TORRCS: &str = include_str!("torrcs.txt");

/// Whether a program takes a torrc, and what it says.
fn judged(program: &Path, dir: &Path) -> (bool, String) {
    let output = Command::new(program)
        .arg("-f")
        .arg(dir.join("torrc"))
        .args(["--verify-config", "--DataDirectory"])
        .arg(dir.join("data"))
        .env_remove("CEPA_NETWORK")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_valid = output.status.success();
    let words = match is_valid {
        true => "Configuration was valid",
        false => "[err] Reading config failed--see warnings above.",
    };
    assert!(said.contains(words), "{}: {said}", program.display());
    (is_valid, said)
}

#[test]
fn both_judge_the_same_torrcs_alike() {
    if !tor::is_tor_here() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let link = place.path().join("tor");
    std::os::unix::fs::symlink(CEPA, &link).unwrap();
    let (mut wrong, mut differ, mut refused) = (Vec::new(), 0, 0);
    for line in TORRCS.lines() {
        let (text, reason) = line.split_once(" ~ ").unwrap_or((line, ""));
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::write(dir.path().join("more"), "Nickname more\n").unwrap();
        let shown = dir.path().display().to_string();
        let torrc = text.replace('|', "\n").replace("DIR", &shown);
        fs::write(dir.path().join("torrc"), format!("{torrc}\n")).unwrap();
        let (theirs, they) = judged(Path::new("tor"), dir.path());
        let (ours, we) = judged(&link, dir.path());
        differ += usize::from(theirs != ours);
        refused += usize::from(!theirs && !ours);
        if (theirs == ours) != reason.is_empty() {
            wrong.push(format!("{line}\n{they}{we}"));
        }
        // What is refused names the line, or the option.
        if !ours && !we.contains("line ") && !we.contains('\'') && !we.contains("is missing") {
            wrong.push(format!("{line}: no place is named\n{we}"));
        }
    }
    let all = TORRCS.lines().count();
    println!("{all} torrcs: {refused} refused by both, {differ} judged otherwise for a reason");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
