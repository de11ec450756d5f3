"""onionbalance: two services behind one address; a visit survives the death of one."""

from harness.network import ask, scratch
from harness.processes import run, start, until
from harness.verdict import check, tail


def judge(side, tools):
    python = tools.python("onionbalance", "setuptools<80")
    visitor, folder = side.network.visitor.client, scratch(side, "onionbalance")
    backs = [side.start(f"back{number}", *service(side, folder, number)) for number in (1, 2)]
    front = side.start("front").wait()
    for back in backs:
        back.wait()
    names = [until(60, "a name", lambda at=at: hostname(folder, at)) for at in (1, 2)]
    # The key of the address in front is made by the script that onionbalance has for it.
    config = python.parent / "onionbalance-config"
    log = side.log_of("onionbalance")
    words = [config, "--hs-version", "v3", "-n", 2, "--no-interactive", "--output", folder / "config"]
    code, out = run(words, log, 60)
    keys = [*folder.rglob("*.key")]
    check(keys, f"onionbalance-config: {code} {tail(out)}")
    address = keys[0].stem
    instances = "".join(f"        - address: {name}\n          name: node{at}\n" for at, name in enumerate(names))
    text = f"services:\n    - instances:\n{instances}      key: {keys[0]}\n"
    (folder / "config.yaml").write_text(text)
    # Back ends take requests for the address in front, once they know of it.
    for number, back in enumerate(backs, 1):
        (folder / f"service{number}/ob_config").write_text(f"MasterOnionAddress {address}.onion\n")
        with open(back.torrc, "a") as file:
            file.write("HiddenServiceOnionBalanceInstance 1\n")
        back.stop()
        back.start()
        back.wait()
    program = python.parent / "onionbalance"
    words = [program, "-c", folder / "config.yaml", "-p", front.control, "-v", "debug", "--is-testnet"]
    out = folder / "out"
    process = start(words, out, cwd=folder)
    curl = ["curl", "-sS", "--fail", "--max-time", 30, "--socks5-hostname", f"127.0.0.1:{visitor.socks}"]
    curl += [f"http://{address}.onion/bytes/100000", "-o", "/dev/null"]

    def visited():
        check(process.poll() is None, f"onionbalance has ended: {tail(out.read_text())}")
        return run(curl, log, 40)[0] == 0
    until(300, "a visit to the address in front", visited, 3)
    text = out.read_text()
    check("Traceback" not in text, tail(text[text.find("Traceback"):], 600))
    backs[0].stop()
    for _ in range(3):
        ask(visitor.control, "SIGNAL NEWNYM")
        until(180, "a visit after one back end's death", visited, 3)


def service(side, folder, number):
    return [f"HiddenServiceDir {folder}/service{number}", f"HiddenServicePort 80 127.0.0.1:{side.network.web}"]


def hostname(folder, number):
    path = folder / f"service{number}/hostname"
    return path.exists() and path.read_text().strip()
