"""Has stem start a tor: usage: torrc.py TOR TORRC DATA_DIR WEB_PORT.

Fetches a page through it and leaves it running, for its end with this process to be seen: prints its number.
"""

import os
import socket
import sys

import stem.process
from stem.control import Controller

from written import options

TOR, TORRC, DATA, WEB = sys.argv[1:]
WRITTEN = DATA + ".port"

config = options(TORRC)
config.update(
    DataDirectory=DATA,
    SocksPort="auto",
    ControlPort="auto",
    ControlPortWriteToFile=WRITTEN,
    CookieAuthentication="1",
    PidFile=DATA + ".pid",
    Sandbox="1",
)

lines = []
process = stem.process.launch_tor_with_config(
    config, tor_cmd=TOR, init_msg_handler=lines.append, take_ownership=True, timeout=90
)
for wanted in ("Opened Socks listener", "Opened Control listener", "Bootstrapped 100% (done): Done"):
    assert sum(wanted in line for line in lines) == 1, (wanted, lines)
# Who waits for the first word of its way connects at once.
[opened, begun] = [
    next(at for at, line in enumerate(lines) if word in line) for word in ("Opened Control", "Bootstrapped 0%")
]
assert opened < begun, lines
assert int(open(DATA + ".pid").read()) == process.pid
assert "Seccomp:\t2\n" in open(f"/proc/{process.pid}/status").read()

# It stays connected: stem takes the ownership by this connection, in place of that by its number.
controller = Controller.from_port(port=int(open(WRITTEN).read().rsplit(":", 1)[1]))
controller.authenticate()
assert controller.get_conf("__OwningControllerProcess") is None
[(address, port)] = controller.get_listeners("SOCKS")
assert controller.get_info("status/bootstrap-phase").endswith('SUMMARY="Done"')

with socket.create_connection((address, port)) as proxy:
    proxy.settimeout(60)
    proxy.sendall(b"\x05\x01\x00")
    assert proxy.recv(2) == b"\x05\x00"
    host = b"127.0.0.1"
    request = b"\x05\x01\x00\x03" + bytes([len(host)]) + host + int(WEB).to_bytes(2, "big")
    proxy.sendall(request)
    reply = b""
    while len(reply) < 10:
        piece = proxy.recv(10 - len(reply))
        assert piece, reply
        reply += piece
    assert reply[1] == 0, reply
    proxy.sendall(b"GET /bytes/1000 HTTP/1.0\r\n\r\n")
    page = b""
    while piece := proxy.recv(65536):
        page += piece
assert len(page.split(b"\r\n\r\n", 1)[1]) == 1000

print(f"pid {process.pid}\nstem is content")
sys.stdout.flush()
# Without the clean-up of Python, which would end it otherwise.
os._exit(0)
