//! Votes as wild as a generator made them: 400 sets, with the consensus that `tor` 0.4.9.11
//! computed of each in both flavours, up to the signatures.

use std::collections::BTreeMap;

use super::super::*;

const ARCHIVE: &[u8] = include_bytes!("../../../../tests/vectors/authority/votes-wild.tar.zst");

/// The files of a tar archive, by the last two parts of their names.
fn files(archive: &[u8]) -> BTreeMap<String, String> {
    const BLOCK: usize = 512;
    let mut files = BTreeMap::new();
    let mut at = 0;
    while let Some(header) = archive.get(at..at + BLOCK).filter(|header| header[0] != 0) {
        let text = |from: usize, to: usize| {
            let field = header[from..to].split(|byte| *byte == 0).next().unwrap();
            String::from_utf8(field.to_vec()).unwrap()
        };
        let len = usize::from_str_radix(text(124, 136).trim(), 8).unwrap();
        let body = &archive[at + BLOCK..at + BLOCK + len];
        let name = text(0, 100);
        let (_, name) = name.split_once('/').unwrap();
        files.insert(name.to_owned(), String::from_utf8(body.to_vec()).unwrap());
        at += BLOCK + len.div_ceil(BLOCK) * BLOCK;
    }
    files
}

#[test]
fn the_bytes_are_tors_whatever_the_votes_say() {
    let files = files(&zstd::decode_all(ARCHIVE).unwrap());
    let mut differ = Vec::new();
    let mut equal = 0;
    for line in files["list"].lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [set, authorities, voted] = words[..] else {
            panic!("{line}");
        };
        let votes: Vec<VoteText> = (0..voted.parse().unwrap())
            .map(|index: usize| {
                let text = files[&format!("{set}/vote-{index}")].as_str();
                VoteText::parse(text).unwrap_or_else(|error| panic!("{set}/{index}: {error}"))
            })
            .collect();
        assert!(
            votes
                .iter()
                .all(|vote| vote.is_signed(vote.vote().published))
        );
        let computed = compute(&Ballot {
            votes: &votes,
            authorities: authorities.parse().unwrap(),
            is_shared_random_fresh: false,
            method_max: 35,
        })
        .unwrap();
        for consensus in [computed.ns, computed.microdesc] {
            let name = format!("{set}/{}", consensus.flavour.name());
            match consensus.encode_unsigned() == files[&name] {
                true => equal += 1,
                false => differ.push(name),
            }
        }
    }
    assert!(differ.is_empty(), "{} differ: {differ:?}", differ.len());
    assert_eq!(equal, 800);
}
