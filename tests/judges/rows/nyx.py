"""nyx in tmux: each of its pages, with a client and with a relay; a setting changed, NEWNYM; no error."""

import shlex
import time

from harness.network import scratch
from harness.processes import Overdue, run, until
from harness.verdict import check, tail

# Keys, and words that the screen is to show soon after; ENTER, RIGHT and so on are keys' names.
PAGES = {
    "first": ([], ["Tor 0.4.9", "Bandwidth", "Events"]),
    "connections": (["Right"], ["page 2 / 5", "Connections ("]),
    "configuration": (["Right"], ["page 3 / 5", "ControlPort"]),
    "torrc": (["Right"], ["page 4 / 5", "DataDirectory"]),
    "interpreter": (["Right"], ["page 5 / 5", "Control Interpreter"]),
}


class Screen:
    """A terminal with nyx in it."""

    def __init__(self, side, tmux, folder, words):
        self.words = [tmux, "-S", folder / "socket", "-f", "/dev/null"]
        self.log, self.shown, self.width = side.log_of("nyx"), folder / "screens", 130
        nyx = " ".join(shlex.quote(str(word)) for word in words)
        command = f"HOME={folder} LC_ALL=C.UTF-8 {nyx} 2>{folder}/stderr; echo nyx is over; sleep 1000"
        self.tell("new-session", "-d", "-x", self.width, "-y", "50", command)

    def tell(self, *words):
        return run([*self.words, *words], self.log, 20)[1]

    def press(self, *keys):
        for key in keys:
            self.tell("send-keys", key)
            time.sleep(0.3)

    def text(self):
        return self.tell("capture-pane", "-p")

    def see(self, name, *words):
        """Waits until the screen shows some words; it is kept under a name."""
        try:
            until(60, name, lambda: self.shows(words), 0.5)
        except Overdue as overdue:
            raise Overdue(f"{overdue}: {self.text().rstrip()}") from None
        finally:
            text = self.text()
            with open(self.shown, "a") as file:
                file.write(f"== {name}\n{text}\n")
        return text

    def shows(self, words):
        """Whether the screen shows some words; nyx draws again for the next look where it does not.

        Its threads may draw over each other as it begins (one line of the log in place of the header's first,
        once in forty starts under load), and none of them draws there again before the window changes.
        """
        if all(word in self.text() for word in words):
            return True
        self.width = 129 + self.width % 2
        self.tell("resize-window", "-x", self.width)
        return False

    def end(self):
        self.tell("kill-server")


def judge(side, tools):
    programs = tools.debian("nyx"), tools.debian("tmux")
    looked(side, programs, side.start("nyx-client").wait(), "client", ["SocksPort"])
    # It is published, and listed in the consensus after the next.
    relay = side.start_relay("nyxrelay").wait()
    looked(side, programs, relay, "relay", ["fingerprint: ", "flags: "])


def looked(side, programs, daemon, kind, header):
    nyx, tmux = programs
    folder = scratch(side, f"nyx-{kind}")
    screen = Screen(side, tmux, folder, [nyx, "-i", daemon.control])
    try:
        if kind == "relay":
            screen.see("header", *header)
        for name, (keys, words) in PAGES.items():
            screen.press(*keys)
            text = screen.see(name, *words)
            check("nyx is over" not in text, f"{kind} {name}: nyx has ended: {tail(text)}")
        screen.press("Enter")
        screen.press("GETINFO version", "Enter")
        screen.see("an answer", "0.4.9")
        screen.press("/info", "Enter")
        time.sleep(2)
        screen.see("/info")
        screen.press("SETCONF MaxCircuitDirtiness=700", "Enter")
        time.sleep(1)
        screen.press("GETCONF MaxCircuitDirtiness", "Enter")
        screen.see("a setting", "MaxCircuitDirtiness=700")
        # Back to the first page, which has keys of its own.
        screen.press("Enter", "Right")
        screen.see("first again", "Bandwidth")
        screen.press("n")
        time.sleep(1)
        screen.see("new identity", "Bandwidth")
        screen.press("q", "q")
        until(60, "nyx has ended", lambda: "nyx is over" in screen.text(), 0.5)
        screen.see("ended")
    finally:
        screen.end()
    said = (folder / "stderr").read_text().strip()
    check(not said, f"{kind}: {tail(said)}")
    lines = screen.shown.read_text().splitlines()
    wrong = [line for line in lines if any(word in line for word in ("NYX_ERR", "NYX_WARN", "Traceback"))]
    check(not wrong, f"{kind}: {wrong[:3]}")
