//! Differences of votes of `tor` that disagree, and of a vote with itself.

use super::*;
use crate::why::tests::votes;

#[test]
fn a_vote_does_not_differ_from_itself() {
    let vote = votes().remove(0);
    let found = Differences::of(&[Arc::clone(&vote), vote]);
    assert_eq!(found.lines, []);
    assert!(found.partial.is_empty() && found.flags.is_empty());
    assert!(found.descriptors.is_empty() && found.votes.len() == 2);
    assert_eq!(Differences::of(&[]), Differences::default());
}

#[test]
fn each_difference_is_found() {
    let one = votes().remove(0);
    let mut other = (*one).clone();
    other.dir_source.nickname = "other".to_owned();
    let gone = other.routers.remove(0);
    let (name, before) = (
        &other.routers[0].status.rsa_id.clone(),
        &other.routers[0].clone(),
    );
    let flag = before.status.flags.names().next().unwrap();
    let flag = cepa_netdoc::routerstatus::Flags::from_name(flag).unwrap();
    other.routers[0].status.flags.remove(flag);
    other.routers[1].status.descriptor_digest = [9; 20];
    other.params.set("made-up", 7);
    let found = Differences::of(&[Arc::clone(&one), Arc::new(other)]);
    let author = one.dir_source.nickname.clone();
    assert_eq!(found.partial.len(), 1);
    assert_eq!(found.partial[0].relay.relay, gone.status.rsa_id);
    assert_eq!(found.partial[0].listed_by, [author.as_str()]);
    assert_eq!(found.flags.len(), 1);
    let disputed = &found.flags[0];
    assert_eq!(
        (disputed.relay.relay, &disputed.flag),
        (*name, &flag.to_string())
    );
    assert_eq!(disputed.given_by, [author.as_str()]);
    assert_eq!(disputed.withheld_by, ["other"]);
    assert_eq!(found.flag_counts(), BTreeMap::from([(flag.to_string(), 1)]));
    assert_eq!(found.descriptors.len(), 1);
    let lines: Vec<&str> = found.lines.iter().map(|line| line.line.as_str()).collect();
    assert_eq!(lines, ["params made-up"]);
    assert_eq!(found.lines[0].forms[0], (None, vec![author]));
    assert_eq!(
        found.lines[0].forms[1],
        (Some("7".to_owned()), vec!["other".to_owned()])
    );
}
