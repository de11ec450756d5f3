"""Has stem drive a relay that is a client, too: usage: relay_and_client.py TOR TORRC DATA_DIR WEB_PORT."""

import os
import socket
import sys
import threading

import stem.process
from stem import CircStatus
from stem.control import Controller, EventType

from written import options

TOR, TORRC, DATA, WEB = sys.argv[1:]
WRITTEN = DATA + ".port"
ADDRESS = "127.77.0.1"
# The port of a relay must be known before it runs.

with socket.socket() as free:
    free.bind(("", 0))
    or_port = free.getsockname()[1]

config = options(TORRC)
config.update(
    DataDirectory=DATA,
    Nickname="both",
    Address=ADDRESS,
    ORPort=str(or_port),
    ExitRelay="0",
    AssumeReachable="1",
    SocksPort="auto",
    ControlPort="auto",
    ControlPortWriteToFile=WRITTEN,
    HiddenServiceDir=DATA + ".onion",
    HiddenServicePort=f"80 127.0.0.1:{WEB}",
)

lines = []
process = stem.process.launch_tor_with_config(
    config, tor_cmd=TOR, init_msg_handler=lines.append, take_ownership=True, timeout=90
)
for wanted in ("Opened OR listener connection (ready) on 0.0.0.0", "Opened Socks listener", "Bootstrapped 0%", "Bootstrapped 100% (done): Done"):
    assert sum(wanted in line for line in lines) == 1, (wanted, lines)
assert not any("[warn]" in line for line in lines), lines

controller = Controller.from_port(port=int(open(WRITTEN).read().rsplit(":", 1)[1]))
controller.authenticate()

# It answers as relay and as client.
fingerprint = controller.get_info("fingerprint")
[(socks_address, socks_port)] = controller.get_listeners("SOCKS")
# It is listened to at all addresses, IPv6 among them where there is any.
[at_any, *at_v6] = controller.get_listeners("OR")
assert at_any == ("0.0.0.0", or_port) and at_v6 in ([], [("::", or_port)]), at_v6
if at_v6:
    socket.create_connection(("::1", or_port)).close()
assert controller.get_exit_policy().is_exiting_allowed() is False
assert " 127.77.0.1 " in controller.get_info("status/fresh-relay-descs").splitlines()[0]
assert controller.get_info("address") == ADDRESS
assert controller.get_info("accounting/enabled") == "0"
circuits = [one for one in controller.get_circuits() if one.status == CircStatus.BUILT]
assert circuits
# No path goes over itself.
assert not any(fingerprint in [hop for hop, _ in one.path] for one in circuits)
links = controller.get_info("orconn-status").splitlines()
assert links and all(line.startswith("$") for line in links), links
names = controller.get_info("info/names")
assert names.count("\nfingerprint -- ") == names.count("\ncircuit-status -- ") == 1
assert "STATUS_SERVER" in controller.get_info("events/names") and "STREAM" in controller.get_info("events/names")

# Options of both are changed, or none.
controller.set_options([("RelayBandwidthRate", "1 MB"), ("MaxCircuitDirtiness", "700")])
assert controller.get_conf("RelayBandwidthRate") == "1048576", controller.get_conf("RelayBandwidthRate")
assert controller.get_conf("MaxCircuitDirtiness") == "700"
for fixed in ("Nickname", "ORPort"):
    try:
        controller.set_options([("MaxCircuitDirtiness", "800"), (fixed, "9")])
    except stem.ControllerError as refused:
        assert fixed in str(refused), refused
    else:
        raise AssertionError(f"{fixed} was changed")
assert controller.get_conf("MaxCircuitDirtiness") == "700"
controller.set_conf("SocksPort", "0")
assert controller.get_listeners("SOCKS") == []
controller.set_conf("SocksPort", f"{socks_address}:{socks_port}")
assert controller.get_listeners("SOCKS") == [(socks_address, socks_port)]

# The bytes of both are told together, once a second.
told = threading.Event()
controller.add_event_listener(lambda event: told.set(), EventType.BW)
service = controller.create_ephemeral_hidden_service({80: int(WEB)}, await_publication=True)
assert told.wait(30)
# Controllers hear the log of both, each line once: each of them says that it has read the configuration.
read, all_read = [], threading.Semaphore(0)


def heard(event):
    if "Configuration read again" in event.message:
        read.append(event.message)
        all_read.release()


controller.add_event_listener(heard, EventType.NOTICE)
for _ in range(8):
    before = len(read)
    controller.signal("RELOAD")
    assert all_read.acquire(timeout=30) and all_read.acquire(timeout=30), read
    assert len(read) == before + 2, read
controller.remove_event_listener(heard)
controller.signal("DUMP")
# A key that is asked for twice is answered twice.
twice = str(controller.msg("GETINFO fingerprint fingerprint"))
assert twice.count(fingerprint) == 2, twice
# Asked by hand: stem keeps what it was told before.
assert str(controller.msg("GETCONF MaxCircuitDirtiness")) == "MaxCircuitDirtiness=600"
assert controller.is_alive()

# It is free again what "auto" means.
[line] = str(controller.msg("GETINFO net/listeners/socks")).splitlines()[:1]
print("socks " + line.split('"')[1])
print(f"onion {service.service_id}.onion")
print("onion " + open(DATA + ".onion/hostname").read().strip())
print(f"pid {process.pid}\nstem is content")
sys.stdout.flush()
# It goes on until whoever reads this has visited it.
sys.stdin.read()
os._exit(0)
