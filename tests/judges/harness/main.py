"""Runs judges and prints the table."""

import importlib
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

from . import processes
from .network import Network, Side
from .tools import Missing, Tools, here
from .verdict import Failed

# All judges, the quick and much used ones first.
JUDGES = [
    "stem", "stem_tests", "launch", "nyx", "onionshare", "onionbalance", "txtorcon", "aiostem", "carml", "granax",
    "torsocks", "proxychains", "chromium", "apt", "qbittorrent", "sbws", "vanguards", "chutney",
]


def tried(judge, side, tools):
    """What came of a judge with one daemon: a word, and why."""
    before, began = len(processes.STARTED), time.monotonic()
    try:
        told = judge.judge(side, tools) or ""
        word = "works"
    except Missing as why:
        word, told = "skipped", str(why)
    except (Failed, processes.Overdue) as why:
        word, told = "fails", str(why)
    except Exception as error:
        traceback.print_exc()
        word, told = "fails", f"{type(error).__name__}: {error}"
    # The client that is shared stays.
    shared = side.shared.process if side.shared else None
    for process in reversed(processes.STARTED[before:]):
        if process is not shared:
            processes.stop(process)
    here(f"{judge.__name__.split('.')[-1]} {side.name}: {word} after {time.monotonic() - began:.0f} s: {told}")
    return word, " ".join(told.split())


def main(here_is, words):
    if len(words) < 2 or words[0].startswith("-"):
        print(__import__("__main__").__doc__)
        return 2
    ours, tor = (Path(word).resolve() for word in words[:2])
    asked = words[2:] or JUDGES
    unknown = [name for name in asked if name not in JUDGES]
    if unknown:
        print(f"no such judge: {' '.join(unknown)}; there are: {' '.join(JUDGES)}")
        return 2
    root = here_is.parent.parent
    folder = Path(os.environ.get("JUDGES_DIR") or root / "target/judges").absolute()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = []
    try:
        tools = Tools(folder / "tools")
        network = Network(ours, folder / "run")
        gencert = shutil.which("tor-gencert")
        # What is expected of ours is what tor does, which is asked first.
        sides = [
            Side(network, "tor", tor, gencert and Path(gencert), "127.202.0.1"),
            Side(network, "ours", ours, ours, "127.201.0.1"),
        ]
        network.visitor = sides[0]
        for name in asked:
            judge = importlib.import_module(f"rows.{name}")
            rows.append((name, [tried(judge, side, tools) for side in sides]))
    finally:
        processes.stop_all()
    print("\n| judge | ours | tor |\n|---|---|---|")
    for name, told in rows:
        cells = [f"{word}: {why}" if why else word for word, why in reversed(told)]
        print(f"| {name} | {' | '.join(cells)} |")
    good = [[word == "works" for word, _ in told] for _, told in rows]
    return int(any(theirs and not ours for theirs, ours in good))
