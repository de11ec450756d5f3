"""onionshare-cli: shares and receives 50 MB, with and without a client key, to a visitor through tor."""

import json
import re

from harness.network import ask, scratch
from harness.processes import run, start, stop, until
from harness.verdict import check, tail

LENGTH = 50_000_000
ADDRESS = re.compile(r"http://([a-z2-7]{56})\.onion")
KEY = re.compile(r"Private key: ([A-Z2-7]{52})")


def judge(side, tools):
    program = tools.python("onionshare-cli").parent / "onionshare-cli"
    client, visitor, folder = side.start("onionshare-client").wait(), side.network.visitor.client, scratch(side, "onionshare")
    settings = {
        "connection_type": "control_port", "control_port_address": "127.0.0.1", "control_port_port": client.control,
        "socks_address": "127.0.0.1", "socks_port": client.socks, "auth_type": "no_auth", "auto_connect": True,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    shared = folder / "shared.bin"
    shared.write_bytes(bytes(range(250)) * (LENGTH // 250))
    env, log = {**side.environment(), "HOME": str(folder)}, side.log_of("onionshare")
    curl = ["curl", "-sS", "--fail", "--max-time", 240, "--socks5-hostname", f"127.0.0.1:{visitor.socks}"]
    for public in (True, False):
        how = ["--public"] if public else []
        out = folder / f"out{int(public)}"
        common = [program, "--config", folder / "config.json", "--verbose", *how]

        process = start([*common, shared], out, env=env)
        address = served(out, visitor, public, process)
        got = folder / "got.bin"
        code, said = fetched([*curl, "-o", got, f"http://{address}.onion/download"], log)
        check(code == 0 and got.read_bytes() == shared.read_bytes(), f"download: {code} {tail(said)}")
        stop(process)

        out = folder / f"received{int(public)}"
        process = start([*common, "--receive", "--data-dir", folder / "data"], out, env=env)
        address = served(out, visitor, public, process)
        code, said = fetched([*curl, "-F", f"file[]=@{shared}", f"http://{address}.onion/upload"], log)
        received = [path for path in (folder / "data").rglob("*") if path.is_file()]
        check(code == 0, f"upload: {code} {tail(said)}")
        check(any(path.read_bytes() == shared.read_bytes() for path in received), f"received {received}")
        for path in received:
            path.unlink()
        stop(process)


def served(out, visitor, public, process):
    """The address that it hosts; the visitor is given the key to it."""
    def told():
        text = out.read_text(errors="replace") if out.exists() else ""
        check(process.poll() is None, f"onionshare has ended: {tail(text)}")
        return ADDRESS.search(text) and "Press Ctrl+C to stop" in text and text
    text = until(240, "an address", told)
    address = ADDRESS.search(text).group(1)
    if not public:
        key = KEY.search(text)
        check(key, f"no private key: {tail(text)}")
        told = ask(visitor.control, f"ONION_CLIENT_AUTH_ADD {address} x25519:{encoded(key.group(1))}")
        check("250 OK" in told or "251" in told or "252" in told, f"the visitor: {told}")
    return address


def encoded(key):
    import base64

    return base64.b64encode(base64.b32decode(key + "=" * (-len(key) % 8))).decode()


def fetched(words, log):
    """A service that is just told may not be at all its directories yet."""
    for _ in range(3):
        code, said = run(words, log, 300)
        if code == 0:
            break
    return code, said
