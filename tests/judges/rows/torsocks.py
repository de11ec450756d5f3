"""torsocks: a program that knows nothing of SOCKS visits an onion service, and looks up a name."""

from harness.processes import run
from harness.verdict import check, tail

FETCH = "import sys,urllib.request as u; print(u.urlopen(sys.argv[1],timeout=60).read().decode())"


def judge(side, tools):
    torsocks, port = tools.debian("torsocks"), side.client.socks
    words = [torsocks, "--port", port, "/usr/bin/python3", "-c", FETCH, f"http://{side.network.onion}/"]
    for isolated in ([], ["--isolate"]):
        code, out = run([torsocks, *isolated, *words[1:]], side.log_of("torsocks"), 120)
        check(code == 0 and out.strip(), f"{isolated}: exit code {code}: {tail(out)}")
    look_up = "import socket; print(socket.gethostbyname('localhost.localdomain'))"
    code, out = run([torsocks, "--port", port, "/usr/bin/python3", "-c", look_up], side.log_of("torsocks"), 120)
    return f"a name is {tail(out, 60)}"
