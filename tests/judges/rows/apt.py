"""apt-transport-tor: apt-get update and download from tor+http."""

import functools
import gzip
import hashlib
import http.server

from harness.network import scratch, serve
from harness.processes import run
from harness.tools import Missing
from harness.verdict import check, tail

CONTROL = "Package: judged\nVersion: 1\nArchitecture: all\nMaintainer: Judges <judged@example.org>\nDescription: judged\n"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def judge(side, tools):
    tools.debian("/usr/lib/apt/methods/tor+http", "apt-transport-tor")
    tools.debian("dpkg-deb", "dpkg")
    folder = scratch(side, "apt")
    site, log = folder / "site", side.log_of("apt")
    (folder / "judged/DEBIAN").mkdir(parents=True)
    site.mkdir()
    (folder / "judged/DEBIAN/control").write_text(CONTROL)
    code, out = run(["dpkg-deb", "--build", folder / "judged", site / "judged.deb"], log, 60)
    if code:
        raise Missing(f"dpkg-deb: {tail(out)}")
    package = (site / "judged.deb").read_bytes()
    entry = f"{CONTROL}Filename: ./judged.deb\nSize: {len(package)}\nSHA256: {hashlib.sha256(package).hexdigest()}\n"
    (site / "Packages.gz").write_bytes(gzip.compress(entry.encode()))
    port = serve(functools.partial(Quiet, directory=str(site)))
    (folder / "sources").write_text(f"deb [trusted=yes] tor+http://127.0.0.1:{port}/ ./\n")
    for inner in ("state/lists/partial", "cache/archives/partial", "etc"):
        (folder / inner).mkdir(parents=True)
    (folder / "state/status").touch()
    options = {
        "Dir::Etc::sourcelist": folder / "sources",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "state/status",
        "Dir::Cache": folder / "cache",
        "Acquire::tor::proxy": f"socks5h://apt-transport-tor@127.0.0.1:{side.client.socks}",
        "Acquire::http::Proxy": "false",
        "APT::Sandbox::User": "root",
    }
    options = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    code, out = run(["apt-get", *options, "update"], log, 120)
    check(code == 0, f"update: {tail(out)}")
    code, out = run(["apt-get", *options, "download", "judged"], log, 120, cwd=folder)
    check(code == 0 and list(folder.glob("*.deb")), f"download: {tail(out)}")
