"""aiostem: its strict models read each reply and event."""

from harness.processes import run
from harness.verdict import check, compared, tail, without_numbers

# Events that come whenever all is asked of a client.
ALWAYS = set(
    "CIRC CIRC_MINOR CIRC_BW STREAM STREAM_BW BW ADDRMAP INFO CONF_CHANGED SIGNAL HS_DESC HS_DESC_CONTENT "
    "BUILDTIMEOUT_SET".split()
)


def judge(side, tools):
    python, client = tools.python("aiostem"), side.start("aiostem-client").wait()
    words = [python, side.scripts / "strict.py", client.control, client.socks, side.network.web]
    code, out = run(words, side.log_of("aiostem"), 300)
    check(code == 0, f"exit code {code}: {tail(out)}")
    check("unread" not in out, tail(out[out.find("unread") :], 600))
    return compared(side, "aiostem", sorted(set(map(without_numbers, out.splitlines()))), is_by_chance)


def is_by_chance(line):
    """Whether a line depends on what happens in half a minute, or on which keys a client has a name for."""
    if line.startswith("event "):
        return line.split(" ")[1].rstrip(":") not in ALWAYS
    return line.startswith("GETINFO") and ": N " in line
