"""proxychains: a program that knows nothing of SOCKS fetches, from an exit and from an onion service."""

from harness.network import scratch
from harness.processes import run
from harness.verdict import check, tail


def judge(side, tools):
    program, config = tools.debian("proxychains4"), scratch(side, "proxychains") / "conf"
    fetch = "import sys,urllib.request as u; print(len(u.urlopen(sys.argv[1],timeout=60).read()))"
    for version in ("socks5", "socks4"):
        lines = ["strict_chain", "proxy_dns", "[ProxyList]", f"{version} 127.0.0.1 {side.client.socks}"]
        config.write_text("\n".join(lines) + "\n")
        urls = [f"http://127.0.0.1:{side.network.web}/bytes/100000"]
        # Names are no matter of version 4.
        urls += [f"http://{side.network.onion}/"] if version == "socks5" else []
        for url in urls:
            words = [program, "-q", "-f", config, "/usr/bin/python3", "-c", fetch, url]
            code, out = run(words, side.log_of("proxychains"), 120)
            check(code == 0, f"{version} {url}: exit code {code}: {tail(out)}")
