"""sbws: measures all relays, and writes a file that an authority of ours reads."""

import base64
import contextlib
import hashlib
import os
import signal
import urllib.request
from pathlib import Path

from harness.network import scratch
from harness.processes import run, until
from harness.verdict import check, tail

CONFIG = """[paths]
sbws_home = {folder}
[general]
data_period = 1
[scanner]
nickname = judged
country = DE
initial_read_request = 1000
download_toofast = 0.001
download_min = 0.01
download_target = 0.1
download_max = 5
num_downloads = 1
max_download_size = 2000000
[destinations]
usability_test_interval = 60
one = on
[destinations.one]
url = http://127.0.0.1:{web}/bytes/2000000
verify = False
country = DE
[tor]
extra_lines =
{lines}
[relayprioritizer]
measure_authorities = on
fraction_relays = 1
[logging]
level = debug
to_file = no
to_stdout_level = debug
"""


def judge(side, tools):
    program, folder = tools.debian("sbws"), scratch(side, "sbws")
    lines = "\n".join(f"    {line}" for line in side.network.torrc)
    config, out = folder / "sbws.ini", folder / "out"
    config.write_text(CONFIG.format(folder=folder, web=side.network.web, lines=lines))
    env = {**side.environment(), "HOME": str(folder)}
    words = [program, "-c", config]
    # In a test network the scanner ends after its first round.
    code, text = run([*words, "scanner"], out, 300, env=env)
    measured = text.count("Success measurement")
    check(code == 0 and measured, f"{measured} relays were measured; exit code {code}: {tail(text)}")
    code, text = run([*words, "generate"], side.log_of("sbws"), 60, env=env)
    written = sorted((folder / "v3bw").glob("*.v3bw"))
    check(code == 0 and written, f"generate: exit code {code}: {tail(text)}")
    lines = [line for line in written[-1].read_text().splitlines() if line.startswith(("bw=", "node_id="))]
    votes(side.network, written[-1], len(lines))
    return f"{len(lines)} relays in its file, which an authority of ours votes by"


def votes(network, file, count):
    """Waits until an authority's vote has the bandwidths of a file."""
    authority = next(node for node in network.summary["nodes"] if node["role"] == "authority")
    config = Path(authority["config"])
    lines = [line for line in config.read_text().splitlines() if not line.startswith("bandwidth_file")]
    at = lines.index("[authority]") + 1
    config.write_text("\n".join([*lines[:at], f'bandwidth_file = "{file}"', *lines[at:], ""]))
    os.kill(authority["pid"], signal.SIGHUP)
    digest = base64.b64encode(hashlib.sha256(file.read_bytes()).digest()).decode().rstrip("=")
    url = f"http://{authority['dir']}/tor/status-vote/current/authority"

    def is_voted():
        with contextlib.suppress(OSError):
            vote = urllib.request.urlopen(url, timeout=20).read().decode()
            return f"sha256={digest}" in vote and vote.count(" Measured")
    measured = until(90, "a vote with these bandwidths", is_voted)
    check(measured == count, f"{measured} of {count} relays of the file are measured in the vote")
