"""chutney's networks of our link named tor, where the folder CHUTNEY has it."""

import os
from pathlib import Path

from harness.network import scratch
from harness.processes import run
from harness.tools import Missing
from harness.verdict import check, tail

NETWORKS = ["basic", "hs-v3"]


def judge(side, tools):
    folder = os.environ.get("CHUTNEY")
    if not folder or not (Path(folder) / "chutney").exists():
        raise Missing("CHUTNEY names no folder with chutney")
    env = {
        **side.environment(), "CHUTNEY_TOR": str(side.program), "CHUTNEY_TOR_GENCERT": str(side.bin / "tor-gencert"),
        "CHUTNEY_DATA_DIR": str(scratch(side, "chutney")), "CHUTNEY_START_TIME": "120",
    }
    for network in NETWORKS:
        for step in ("configure", "start", "wait_for_bootstrap", "verify", "stop"):
            words = ["./chutney", step, f"networks/{network}"]
            code, out = run(words, side.log_of("chutney"), 200, cwd=folder, env=env)
            if code and step != "stop":
                run(["./chutney", "stop", f"networks/{network}"], side.log_of("chutney"), 60, cwd=folder, env=env)
            check(code == 0, f"{network}: {step}: exit code {code}: {tail(out)}")
