"""Chromium over SOCKS: a page from an exit, and one of an onion service."""

from harness.network import scratch
from harness.processes import run
from harness.verdict import check, tail


def judge(side, tools):
    program = tools.debian("chromium")
    words = [
        program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom",
        f"--user-data-dir={scratch(side, 'chromium')}", "--proxy-bypass-list=<-loopback>",
        f"--proxy-server=socks5://127.0.0.1:{side.client.socks}",
    ]
    for url, word in ((f"http://127.0.0.1:{side.network.web}/page", "It works."), (f"http://{side.network.onion}/", "")):
        code, out = run([*words, url], side.log_of("chromium"), 120)
        check(code == 0 and word in out and "ERR_" not in out, f"{url}: exit code {code}: {tail(out)}")
