"""How judges say what they saw."""

import re


class Failed(Exception):
    """What a judge says against a daemon."""


def check(is_so, why):
    if not is_so:
        raise Failed(why)


def tail(text, count=300):
    return text.strip()[-count:]


def compared(side, name, lines, may_lack=lambda line: False):
    """Lines that are to be the same with both; those of tor, which comes first, are what is expected.

    Where `may_lack` says so of a line, either may be without it.
    """
    if side.name == "tor":
        side.network.expected[name] = lines
        return f"{len(lines)} lines"
    expected = side.network.expected.get(name)
    check(expected is not None, "tor has told nothing to compare with")
    missing = [line for line in expected if line not in lines and not may_lack(line)]
    more = [line for line in lines if line not in expected and not may_lack(line)]
    check(not missing and not more, f"tor: {missing}; ours: {more}")
    return f"{len(lines)} lines, as with tor"


def without_numbers(text):
    """A line less what differs from run to run."""
    text = re.sub(r"\$?[0-9A-F]{40}(~\w+)?", "RELAY", text)
    text = re.sub(r"\b[a-z2-7]{56}\b", "ONION", text)
    return re.sub(r"\d+", "N", text)
