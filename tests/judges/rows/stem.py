"""stem: every public method of its Controller gives the same kind of thing."""

from harness.network import scratch
from harness.processes import run
from harness.verdict import check, compared, tail


def judge(side, tools):
    python, client = tools.python("stem"), side.start("stem-client").wait()
    words = [python, side.scripts / "every_method.py", client.control, client.socks, side.network.web]
    code, out = run([*words, scratch(side, "stem")], side.log_of("stem"), 500)
    check(code == 0, f"exit code {code}: {tail(out)}")
    return compared(side, "stem", out.splitlines())
