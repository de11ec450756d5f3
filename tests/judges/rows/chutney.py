"""chutney's networks of our link named tor, where the folder CHUTNEY has it."""

import os
from pathlib import Path

from harness.network import scratch
from harness.processes import run
from harness.tools import Missing
from harness.verdict import check, tail

NETWORKS = ["basic", "hs-v3"]
# Its nodes have fixed ports: a network of their own, in which each step is tried and named.
STEPS = """
ip link set lo up
trap './chutney stop "networks/$network"' EXIT
step() { ./chutney "$1" "networks/$network" || { echo "failed: $1"; exit 1; }; }
network=$1
eval "$(./chutney print_phases "networks/$network" | grep =)"
step configure
for CHUTNEY_LAUNCH_PHASE in $(seq "$CHUTNEY_LAUNCH_PHASES"); do
    export CHUTNEY_LAUNCH_PHASE
    step start
    step wait_for_bootstrap
done
step verify
"""


def judge(side, tools):
    folder = os.environ.get("CHUTNEY")
    if not folder or not (Path(folder) / "chutney").exists():
        raise Missing("CHUTNEY names no folder with chutney")
    unshare = tools.debian("unshare", "util-linux")
    tools.debian("ip", "iproute2")
    env = {
        **side.environment(), "CHUTNEY_TOR": str(side.program), "CHUTNEY_TOR_GENCERT": str(side.bin / "tor-gencert"),
        "CHUTNEY_DATA_DIR": str(scratch(side, "chutney")), "CHUTNEY_START_TIME": "180",
    }
    as_root = [] if os.getuid() == 0 else ["--map-root-user"]
    for network in NETWORKS:
        words = [unshare, "--net", *as_root, "bash", "-c", STEPS, "chutney", network]
        code, out = run(words, side.log_of("chutney"), 400, cwd=folder, env=env)
        check(code == 0, f"{network}: exit code {code}: {tail(out, 800)}")
