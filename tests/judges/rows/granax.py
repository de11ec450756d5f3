"""granax: a controller for Node.js."""

from harness.processes import run
from harness.verdict import check, tail


def judge(side, tools):
    folder = tools.npm("granax")
    words = ["node", side.scripts / "granax.js", folder / "node_modules/granax", side.client.control, side.network.web]
    code, out = run(words, side.log_of("granax"), 90)
    check(code == 0 and "all asked" in out, f"exit code {code}: {tail(out)}")
