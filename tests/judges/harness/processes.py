"""Processes that a run starts, each ended by its number."""

import contextlib
import os
import signal
import subprocess
import time

STARTED = []


def start(words, log, **more):
    """Starts a program whose output goes to a file, as the leader of a group of its own."""
    with open(log, "ab") as out:
        more = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": subprocess.STDOUT, **more}
        process = subprocess.Popen([str(word) for word in words], start_new_session=True, **more)
    STARTED.append(process)
    return process


def stop(process, first=signal.SIGINT, seconds=15):
    """Ends a process and what it has started."""
    if process.poll() is None:
        process.send_signal(first)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process in STARTED:
        STARTED.remove(process)


def stop_all(since=0):
    """Ends all that was started after the first `since`, the last first."""
    for process in reversed(STARTED[since:]):
        stop(process)


class Overdue(Exception):
    """Something did not happen in its time."""


def until(seconds, what, ask, pause=0.2):
    """What `ask` gives, once it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = ask()
        if got:
            return got
        time.sleep(pause)
    raise Overdue(f"not within {seconds} s: {what}")


def run(words, log, seconds, **more):
    """Runs a program to its end; its exit code, and all that it printed."""
    more = {"stdin": subprocess.DEVNULL, **more}
    offset = os.path.getsize(log) if os.path.exists(log) else 0
    process = start(words, log, **more)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        code = "too slow"
    stop(process)
    with open(log, "rb") as file:
        file.seek(offset)
        return code, file.read().decode(errors="replace")
