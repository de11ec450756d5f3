"""txtorcon: loads the whole configuration, builds circuits by hand, hosts, listens."""

from harness.processes import run
from harness.verdict import check, compared, tail, without_numbers


def judge(side, tools):
    python, client = tools.python("txtorcon"), side.start("txtorcon-client").wait()
    words = [python, side.scripts / "txtor.py", client.control, client.socks, side.network.web]
    code, out = run(words, side.log_of("txtorcon"), 300)
    check(code == 0, f"exit code {code}: {tail(out)}")
    lines = [without_numbers(line) for line in out.splitlines()]
    return compared(side, "txtorcon", [line.split(" key ")[0] for line in lines])
