//! What votes say of a relay, and in what they differ, in words.

use std::fmt::Write as _;

use cepa_authority::diff::Differences;
use cepa_authority::why::{Check, FlagVote, FlagWhy, OwnView, Quantity, Why};
use cepa_netdoc::timestamp;

/// Why a relay has the flags that it has.
pub(crate) fn why(why: &Why) -> String {
    let nickname = why.nickname.as_deref().unwrap_or("in no vote");
    let mut text = format!("{nickname} ({})\n", why.relay);
    match why
        .consensus
        .map(|one| (timestamp::encode(one.valid_after), one.flags))
    {
        Some((time, Some(flags))) => {
            let _ = writeln!(text, "  consensus of {time}: {flags}");
        }
        Some((time, None)) => {
            let _ = writeln!(text, "  consensus of {time}: NOT listed");
        }
        None => {}
    }
    let lists = why.votes.iter().filter(|vote| vote.lists).count();
    let needed = why.authorities / 2 + 1;
    let _ = writeln!(
        text,
        "  listed by {lists} of {} votes, {needed} are needed to be in the consensus",
        why.votes.len()
    );
    for vote in &why.votes {
        let number = |kilobytes: Option<u32>| match kilobytes {
            Some(kilobytes) => format!("{kilobytes} kB/s"),
            None => "none".to_owned(),
        };
        let _ = match vote.lists {
            true => writeln!(
                text,
                "    {}: bandwidth {}, measured {}, {}",
                vote.authority,
                number(vote.bandwidth),
                number(vote.measured),
                vote.stats.as_deref().unwrap_or("no stats")
            ),
            false => writeln!(text, "    {}: does not list it", vote.authority),
        };
    }
    // Whom nobody lists has no flags to tell of.
    if lists > 0 {
        why.flags.iter().for_each(|one| text += &flag(one));
    }
    if let Some(own) = &why.own {
        text += &own_view(own);
    }
    text
}

fn flag(one: &FlagWhy) -> String {
    let outcome = match one.is_given {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };
    let mut text = format!(
        "  {}: {outcome}; given by {} of {} that have an opinion, {} needed\n",
        one.flag,
        one.given_by.len(),
        one.opinions,
        one.needed
    );
    for vote in &one.votes {
        let given = match vote.is_given {
            Some(true) => "yes",
            Some(false) => "no",
            None => "no opinion",
        };
        let _ = writeln!(text, "    {}: {given}{}", vote.authority, reasons(vote));
    }
    text
}

fn reasons(vote: &FlagVote) -> String {
    let checks = vote.checks.iter().map(check);
    let lacks = vote.lacks.iter().map(|flag| format!("it lacks {flag}"));
    let all: Vec<String> = checks.chain(lacks).collect();
    match all.is_empty() {
        true => String::new(),
        false => format!("; {}", all.join(", ")),
    }
}

fn check(check: &Check) -> String {
    let (name, unit) = check.what.words();
    let number = |value: f64| match check.what {
        Quantity::Wfu => format!("{value:.6}"),
        _ => format!("{value:.0}"),
    };
    let needed = number(check.needed);
    match check.value {
        None => format!("{name} of {needed}{unit} needed (votes do not say it)"),
        Some(value) if check.missed_by > 0.0 => format!(
            "{name} {} of {needed}{unit}, too little by {}",
            number(value),
            number(check.missed_by)
        ),
        Some(value) => format!("{name} {} of {needed}{unit}", number(value)),
    }
}

fn own_view(own: &OwnView) -> String {
    let time = |at: Option<std::time::SystemTime>| at.map_or("never".to_owned(), timestamp::encode);
    let mut text = format!(
        "  this authority: {}; last reached {}{}, tested {}, {} failures since\n",
        if own.is_running {
            "it runs"
        } else {
            "it does NOT run"
        },
        time(own.reached),
        match own.reached_over_ipv6 {
            Some(true) => ", over IPv6 too",
            Some(false) => ", NOT over IPv6",
            None => "",
        },
        time(own.tested),
        own.failures
    );
    let _ = writeln!(
        text,
        "    descriptor of {}; up for {} s by its own account, {} s by our tests",
        timestamp::encode(own.published),
        own.uptime_declared_seconds,
        own.uptime_measured_seconds
    );
    if own.is_sybil {
        text += "    one too many on its address or in its network: Sybil\n";
    }
    for rule in &own.rules {
        let why = match rule.comment.as_str() {
            "" => "no comment",
            comment => comment,
        };
        let _ = writeln!(text, "    rule: {} {} ({why})", rule.verdict, rule.subject);
    }
    text
}

/// In what votes differ.
pub(crate) fn differences(found: &Differences) -> String {
    let mut text = String::new();
    for vote in &found.votes {
        let _ = writeln!(
            text,
            "{} ({}): made at {}, {} relays, {} measured",
            vote.authority,
            vote.identity,
            timestamp::encode(vote.published),
            vote.relays,
            vote.measured
        );
        if let Some(thresholds) = &vote.thresholds {
            let _ = writeln!(text, "  {thresholds}");
        }
    }
    for line in &found.lines {
        let _ = writeln!(text, "{}:", line.line);
        for (form, authorities) in &line.forms {
            let form = form.as_deref().unwrap_or("(missing)");
            let _ = writeln!(text, "  {}: {form}", authorities.join(" "));
        }
    }
    for one in &found.partial {
        let (relay, by) = (&one.relay, one.listed_by.join(" "));
        let _ = writeln!(text, "{} ({}): only in {by}", relay.nickname, relay.relay);
    }
    for relay in &found.descriptors {
        let _ = writeln!(
            text,
            "{} ({}): different descriptors",
            relay.nickname, relay.relay
        );
    }
    for one in &found.flags {
        let _ = writeln!(
            text,
            "{} ({}): {} given by {}, not by {}",
            one.relay.nickname,
            one.relay.relay,
            one.flag,
            one.given_by.join(" "),
            one.withheld_by.join(" ")
        );
    }
    if found.lines.is_empty()
        && found.partial.is_empty()
        && found.descriptors.is_empty()
        && found.flags.is_empty()
    {
        text += "the votes do not differ\n";
    }
    text
}
