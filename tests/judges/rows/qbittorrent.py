"""qBittorrent with our SOCKS port as its proxy: a file from a web seed, which is reached through the network."""

import hashlib
import json
import re
import urllib.parse
import urllib.request

from harness.network import ask, free_port, scratch
from harness.processes import start, until
from harness.verdict import check, tail

LENGTH = 5_000_000
PIECE = 65_536
# Who asks from this host needs no password, and nothing is spoken to the internet.
CONFIG = """[LegalNotice]
Accepted=true
[BitTorrent]
Session\\DHTEnabled=false
Session\\LSDEnabled=false
Session\\PeXEnabled=false
[Preferences]
WebUI\\Address=127.0.0.1
WebUI\\Port={port}
WebUI\\LocalHostAuth=false
WebUI\\CSRFProtection=false
"""


def judge(side, tools):
    program, folder = tools.debian("qbittorrent-nox"), scratch(side, "qbittorrent")
    profile, port = folder / "qBittorrent/config", free_port()
    profile.mkdir(parents=True)
    (profile / "qBittorrent.conf").write_text(CONFIG.format(port=port))
    out, client = side.log_of("qbittorrent"), side.client
    process = start([program, f"--profile={folder}"], out, env={**side.environment(), "HOME": str(folder)})
    api = f"http://127.0.0.1:{port}/api/v2"

    def asked(path, body=None, kind="application/x-www-form-urlencoded"):
        check(process.poll() is None, f"it has ended: {tail(out.read_text(errors='replace'))}")
        try:
            request = urllib.request.Request(f"{api}/{path}", body, {"Content-Type": kind})
            return urllib.request.urlopen(request, timeout=20).read().decode()
        except ConnectionError:
            return ""
        except urllib.error.URLError as error:
            check(isinstance(error.reason, ConnectionError), f"{path}: {error}")
            return ""

    version = until(60, "its interface", lambda: asked("app/version"))
    # What its types of proxies are called has changed.
    old = tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < (4, 6)
    wanted = {
        "proxy_type": 2 if old else "SOCKS5", "proxy_ip": "127.0.0.1", "proxy_port": client.socks,
        "proxy_peer_connections": True, "proxy_torrents_only": False, "proxy_bittorrent": True,
        "proxy_hostname_lookup": True, "save_path": str(folder),
    }
    asked("app/setPreferences", urllib.parse.urlencode({"json": json.dumps(wanted)}).encode())
    kept = json.loads(asked("app/preferences"))
    check(kept["proxy_port"] == client.socks and kept["proxy_type"] == wanted["proxy_type"], f"its proxy: {kept}")
    before = carried(client)
    form = (
        b'--judged\r\nContent-Disposition: form-data; name="torrents"; filename="judged.torrent"\r\n'
        b"Content-Type: application/x-bittorrent\r\n\r\n" + torrent(side.network.web) + b"\r\n--judged--\r\n"
    )
    added = asked("torrents/add", form, "multipart/form-data; boundary=judged")
    check(added.startswith("Ok"), f"the torrent: {added}")

    def is_whole():
        states = json.loads(asked("torrents/info") or "[]")
        return any(one["progress"] == 1 for one in states)
    until(150, "the whole file", is_whole, 0.5)
    through = carried(client) - before
    check(through >= LENGTH, f"only {through} bytes of it came through the network")
    return f"{version}, {LENGTH} bytes"


def carried(client):
    """The bytes that a client has read from the network."""
    told = re.search(r"traffic/read=(\d+)", ask(client.control, "GETINFO traffic/read"))
    return int(told.group(1)) if told else 0


def torrent(web):
    """A file of `x`, whose pieces but for the last are all the same."""
    lengths = [PIECE] * (LENGTH // PIECE) + [LENGTH % PIECE]
    pieces = b"".join(hashlib.sha1(b"x" * length).digest() for length in lengths if length)
    return coded({
        "info": {"length": LENGTH, "name": str(LENGTH), "piece length": PIECE, "pieces": pieces},
        "url-list": f"http://127.0.0.1:{web}/bytes/{LENGTH}",
    })


def coded(value):
    """A value as torrents have it; keys are sorted."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, dict):
        return b"d" + b"".join(coded(key) + coded(value[key]) for key in sorted(value)) + b"e"
    value = value.encode() if isinstance(value, str) else value
    return b"%d:%s" % (len(value), value)
