"""qbittorrent over SOCKS: a file from a web seed, with the tracker asked, too."""

import hashlib

from harness.network import free_port, scratch
from harness.processes import start, until

LENGTH = 3_000_000
CONFIG = """[LegalNotice]
Accepted=true
[BitTorrent]
Session\\SSRFMitigation=false
Session\\DefaultSavePath={folder}/got
Session\\Port={port}
Session\\DHTEnabled=false
Session\\LSDEnabled=false
Session\\ProxyPeerConnections=true
[Network]
Proxy\\Type=SOCKS5
Proxy\\IP=127.0.0.1
Proxy\\Port={socks}
Proxy\\HostnameLookupEnabled=true
Proxy\\OnlyForTorrents=false
PortForwardingEnabled=false
[Preferences]
WebUI\\Address=127.0.0.1
WebUI\\Port={web}
"""


def encoded(value):
    if isinstance(value, int):
        return f"i{value}e".encode()
    if isinstance(value, dict):
        return b"d" + b"".join(encoded(key) + encoded(value[key]) for key in sorted(value)) + b"e"
    value = value if isinstance(value, bytes) else value.encode()
    return f"{len(value)}:".encode() + value


def judge(side, tools):
    program, folder = tools.debian("qbittorrent-nox"), scratch(side, "qbittorrent")
    client, web = side.client, side.network.web
    config = folder / "qBittorrent/config"
    config.mkdir(parents=True)
    text = CONFIG.format(folder=folder, port=free_port(), socks=client.socks, web=free_port())
    (config / "qBittorrent.conf").write_text(text)
    piece, body = 2**18, b"x" * LENGTH
    pieces = b"".join(hashlib.sha1(body[at : at + piece]).digest() for at in range(0, LENGTH, piece))
    info = {"length": LENGTH, "name": str(LENGTH), "piece length": piece, "pieces": pieces}
    base = f"http://127.0.0.1:{web}"
    torrent = {"announce": f"{base}/page", "url-list": f"{base}/bytes/", "info": info}
    (folder / "one.torrent").write_bytes(encoded(torrent))
    env = {**side.environment(), "HOME": str(folder)}
    start([program, f"--profile={folder}", folder / "one.torrent"], side.log_of("qbittorrent"), env=env)
    done = folder / "got" / str(LENGTH)
    until(150, "the file of the web seed", lambda: done.exists() and done.read_bytes() == body)
