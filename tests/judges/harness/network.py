"""A network of ours, and the daemons that judges drive: each a client or a relay of one program."""

import contextlib
import http.server
import json
import os
import re
import shutil
import socket
import threading
from pathlib import Path

from . import processes
from .processes import until

# Seconds from one consensus of the network to the next.
INTERVAL = 20
READY_SECONDS = 180


def free_port(address="127.0.0.1"):
    with contextlib.closing(socket.socket()) as one:
        one.bind((address, 0))
        return one.getsockname()[1]


class Web(http.server.BaseHTTPRequestHandler):
    """`/bytes/N`: so many bytes, or a range of them; `/page`: a page; POST counts what it is sent."""

    # Web seeds are asked for many ranges over one connection.
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        is_bytes = self.path.startswith("/bytes/")
        body = b"x" * int(self.path[7:]) if is_bytes else b"<title>judged</title><p>It works.</p>"
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if is_bytes else None
        status, more = 200, {}
        if span:
            first, last, whole = int(span.group(1)), int(span.group(2)), len(body)
            body, status = body[first : last + 1], 206
            more = {"Content-Range": f"bytes {first}-{first + len(body) - 1}/{whole}"}
        self.answer(body, "application/octet-stream" if is_bytes else "text/html", status, more)

    do_HEAD = do_GET

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        self.answer(str(len(self.rfile.read(length))).encode(), "text/plain")

    def answer(self, body, kind, status=200, more=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in dict(more).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve(handler=Web, address="127.0.0.1"):
    """Serves in a thread; the port."""
    server = http.server.ThreadingHTTPServer((address, 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


class Network:
    """A running network of ours."""

    def __init__(self, program, folder):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        words = [program, "testnet", "up", "--dir", folder / "net", "--interval", INTERVAL]
        # Vanguards looks without end for twelve relays of its layers where there are fewer.
        words += ["--no-subnet-rule", "--onion-services", 1, "--relays", 16]
        log = folder / "up.log"
        self.process = processes.start(words, log)
        try:
            until(READY_SECONDS, "a network", lambda: self.is_ready(log))
        except processes.Overdue:
            raise SystemExit(log.read_text())
        self.summary = json.loads((folder / "net/testnet.json").read_text())
        # What a client needs to join, less what is each one's own.
        lines = (folder / "net/torrc").read_text().splitlines()
        own = ("DataDirectory", "SocksPort", "#")
        self.torrc = [line for line in lines if line and not line.startswith(own)]
        self.web = serve()
        self.onion = self.summary["onions"][0]
        # What lines judges have printed with tor, by the judge.
        self.expected = {}

    def is_ready(self, log):
        if self.process.poll() is not None:
            raise SystemExit(log.read_text())
        return "ready in" in log.read_text()


class Daemon:
    """A client or relay that a judge drives."""

    def __init__(self, side, name, lines, has_socks=True):
        self.folder = side.folder / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o700)
        self.data = self.folder / "data"
        self.data.mkdir(mode=0o700)
        self.control, self.socks = free_port(), free_port() if has_socks else 0
        own = [
            f"DataDirectory {self.data}",
            f"SocksPort {self.socks}",
            f"ControlPort {self.control}",
            f"Log notice file {self.folder}/log",
        ]
        self.torrc = self.folder / "torrc"
        self.torrc.write_text("\n".join(side.network.torrc + own + lines) + "\n")
        self.program, self.out = side.program, self.folder / "out"
        self.start()

    def start(self):
        self.process = processes.start([self.program, "-f", self.torrc], self.out)

    def stop(self, *how):
        processes.stop(self.process, *how)

    def wait(self, seconds=120):
        """Waits until it has bootstrapped."""
        until(seconds, f"{self.folder} bootstrapped", self.has_bootstrapped)
        return self

    def has_bootstrapped(self):
        if self.process.poll() is not None:
            raise processes.Overdue(f"{self.folder} ended: {self.out.read_text()[-500:]}")
        return "PROGRESS=100" in ask(self.control, "GETINFO status/bootstrap-phase")

    def log(self):
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""


def ask(port, *commands):
    """What a control port without a password answers to commands, or nothing if it is not there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as control:
            said = "".join(f"{command}\r\n" for command in ("AUTHENTICATE", *commands, "QUIT"))
            control.sendall(said.encode())
            got = b""
            while piece := control.recv(65536):
                got += piece
            return got.decode(errors="replace")
    except OSError:
        return ""


class Side:
    """One of the two programs, with a client that all judges share."""

    def __init__(self, network, name, program, gencert, address):
        self.network, self.name, self.address = network, name, address
        self.folder = network.folder / name
        self.scripts = Path(__file__).resolve().parent.parent / "scripts"
        # Each by the names that users have for it.
        self.bin = self.folder / "bin"
        self.bin.mkdir(parents=True)
        for link, target in (("tor", program), ("tor-gencert", gencert)):
            if target:
                (self.bin / link).symlink_to(target)
        self.program = self.bin / "tor"
        self.shared = None

    @property
    def client(self):
        if self.shared is None or self.shared.process.poll() is not None:
            self.shared = self.start("client")
        return self.shared.wait()

    def start(self, name, *lines, **more):
        return Daemon(self, name, list(lines), **more)

    def start_relay(self, name, *lines):
        """A relay at an address of this side's own."""
        port = free_port(self.address)
        own = [
            f"Nickname {self.name}{name}",
            f"Address {self.address}",
            f"ORPort {self.address}:{port}",
            "AssumeReachable 1",
            "ExitRelay 0",
            "ContactInfo judged@example.org",
        ]
        return Daemon(self, name, own + list(lines), has_socks=False)

    def log_of(self, name):
        """A file for what a judge prints."""
        return self.folder / f"{name}.out"

    def environment(self):
        """The variables of a program that is to find this `tor` first."""
        return {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}


def scratch(side, name):
    """An empty folder of a judge's own."""
    folder = Path(side.folder) / f"{name}.d"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder
