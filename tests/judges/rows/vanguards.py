"""vanguards: guards of the second and third layer by hand, beside a service that is visited."""

import os
import time

from harness.network import scratch
from harness.processes import run, start, stop, until
from harness.verdict import check, tail

# How long it runs with tor, and with ours unless JUDGE_SECONDS says it.
SECONDS = 90


def judge(side, tools):
    seconds = int(os.environ.get("JUDGE_SECONDS", SECONDS)) if side.name == "ours" else SECONDS
    program, folder = tools.debian("vanguards"), scratch(side, "vanguards")
    web, visitor = side.network.web, side.network.visitor.client
    service = [f"HiddenServiceDir {folder}/service", f"HiddenServicePort 80 127.0.0.1:{web}"]
    daemon = side.start("vanguards-service", *service).wait()
    out = folder / "out"
    words = [program, "--control_port", daemon.control, "--state", folder / "state", "--retry_limit", 1]
    process = start([*words, "--loglevel", "INFO"], out, cwd=folder)
    curl = ["curl", "-sS", "--fail", "--max-time", 30, "--socks5-hostname", f"127.0.0.1:{visitor.socks}"]
    address = until(60, "a name", lambda: (folder / "service/hostname").exists() and (folder / "service/hostname").read_text().strip())
    curl += ["-o", "/dev/null", f"http://{address}/bytes/1000000"]
    end, visits = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        text = out.read_text()
        check(process.poll() is None, f"vanguards has ended: {tail(text)}")
        visits += run(curl, side.log_of("vanguards"), 40)[0] == 0
        time.sleep(2)
    stop(process)
    text = out.read_text()
    # Among its lines are events, in which ERROR may be a part of a word.
    wrong = [line for line in text.splitlines() if line.startswith("ERROR") or "Traceback" in line]
    check(not wrong, f"{wrong[:3]}")
    check(visits, "no visit")
    return f"{visits} visits in {seconds} s; {text.count('WARN')} warnings"
