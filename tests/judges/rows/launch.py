"""stem.process.launch_tor_with_config starts the daemon, and hears how far it is."""

from harness.network import free_port, scratch
from harness.processes import run
from harness.verdict import check, tail


def judge(side, tools):
    folder = scratch(side, "launch")
    (folder / "torrc").write_text("\n".join(side.network.torrc) + "\n")
    words = [tools.python("stem"), side.scripts / "launch.py", side.program, folder, free_port(), free_port()]
    code, out = run(words, side.log_of("launch"), 200, env=side.environment())
    check(code == 0 and "controlled" in out, f"exit code {code}: {tail(out)}")
