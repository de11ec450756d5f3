"""carml: its commands that need no internet."""

from harness.network import scratch
from harness.processes import run
from harness.verdict import check, tail

# The command, and what it is to print.
COMMANDS = [
    ("circ --list", ""),
    ("circ --list --verbose", ""),
    ("circ --build auto", "built"),
    ("stream --list", ""),
    ("events --list", "HS_DESC_CONTENT"),
    ("events BW", " "),
    ("newid", ""),
    ("cmd getinfo version", "0.4."),
    ("cmd getconf SocksPort", "SocksPort"),
    ("monitor --once", ""),
    ("relay --list", ""),
]


def judge(side, tools):
    python, client = tools.python("carml==23.11.1", "setuptools<80"), side.client
    carml, env = python.parent / "carml", {**side.environment(), "HOME": str(scratch(side, "carml"))}
    for command, word in COMMANDS:
        words = [carml, "--debug", "--connect", f"tcp:127.0.0.1:{client.control}", *command.split()]
        code, out = run(words, side.log_of("carml"), 20, env=env)
        # Events go on until they are ended.
        check(code in (0, "too slow") and word in out, f"carml {command}: exit code {code}: {tail(out)}")
