"""aiostem as judge of syntax: usage: strict.py PORT SOCKS_PORT WEB_PORT.

Its models parse each reply and event strictly; a line for each command and event that it could read
or not.
"""

import asyncio
import logging
import sys

from aiostem import Controller
from aiostem.command import *
from aiostem.event import EventUnknown, EventWord

PORT, SOCKS, WEB = map(int, sys.argv[1:4])
WRONG = []


class Wrong(logging.Handler):
    def emit(self, record):
        WRONG.append(record.getMessage()[:400] + (str(record.exc_info[1])[:400] if record.exc_info else ""))


logging.getLogger("aiostem").addHandler(Wrong())


async def fetch(name):
    reader, writer = await asyncio.open_connection("127.0.0.1", SOCKS)
    # tor reads on only when more comes.
    writer.write(b"\x05\x01\x02")
    await reader.readexactly(2)
    writer.write(b"\x01" + bytes([len(name)]) + name.encode() + b"\x01x")
    await reader.readexactly(2)
    writer.write(b"\x05\x01\x00\x01\x7f\0\0\1" + WEB.to_bytes(2, "big"))
    reply = await reader.readexactly(10)
    writer.write(b"GET /bytes/1000 HTTP/1.0\r\n\r\n")
    got = await reader.read(-1)
    writer.close()
    return reply[1], len(got)


async def tell(name, coroutine):
    try:
        reply = await asyncio.wait_for(coroutine, 60)
        print(f"{name}: {type(reply).__name__} {reply.status} {getattr(reply, 'status_text', '')}", flush=True)
        return reply
    except Exception as error:
        print(f"{name}: {type(error).__name__} {str(error)[:300]}", flush=True)


async def main():
    events, unread = {}, []
    async with Controller.from_port("127.0.0.1", PORT) as c:
        await tell("PROTOCOLINFO", c.protocol_info())
        await tell("AUTHENTICATE", c.authenticate())
        for word in EventWord:
            def hear(event, word=word):
                events.setdefault(word.name, []).append(event)
            try:
                await c.add_event_handler(word, hear)
            except Exception as error:
                print(f"SETEVENTS {word}: {error}")
        await fetch("strict")
        names = await c.get_info("info/names")
        for line in names.data["info/names"].splitlines():
            key = line.split(" -- ")[0]
            if "*" not in key and "<" not in key:
                try:
                    reply = await c.get_info(key)
                    if not reply.is_success:
                        print(f"GETINFO {key}: {reply.status} {reply.status_text}")
                except Exception as error:
                    print(f"GETINFO {key}: {type(error).__name__} {error}")
        await tell("GETCONF", c.get_conf("SocksPort", "ExitPolicy", "Log"))
        await tell("SETCONF", c.set_conf({"MaxCircuitDirtiness": "700"}))
        await tell("RESETCONF", c.reset_conf({"MaxCircuitDirtiness": None}))
        await tell("SAVECONF", c.save_conf())
        text = (await c.get_info("config-text")).data["config-text"]
        await tell("LOADCONF", c.load_conf(text))
        await tell("DROPGUARDS", c.drop_guards())
        await tell("DROPTIMEOUTS", c.drop_timeouts())
        made = await tell("ADD_ONION", c.add_onion("NEW:ED25519-V3", [f"80,127.0.0.1:{WEB}"]))
        await asyncio.sleep(20)
        if made and made.is_success:
            await tell("HSFETCH", c.hs_fetch(made.data.address))
            await asyncio.sleep(5)
            await tell("DEL_ONION", c.del_onion(made.data.address))
        key = "GLDQQpfrLvMaFEf6YCsY1AVqkzwFySPSYy0K2GVMSE4="
        service = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd"
        from aiostem.structures import OnionClientAuthFlags
        import base64
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
        await tell("ONION_CLIENT_AUTH_ADD", c.onion_client_auth_add(service, X25519PrivateKey.from_private_bytes(base64.b64decode(key))))
        await tell("ONION_CLIENT_AUTH_VIEW", c.onion_client_auth_view())
        await tell("ONION_CLIENT_AUTH_REMOVE", c.onion_client_auth_remove(service))
        built = await tell("EXTENDCIRCUIT", c.extend_circuit(0, []))
        if built and built.is_success:
            number = built.data.circuit if hasattr(built, "data") else 1
            await tell("SETCIRCUITPURPOSE", c.set_circuit_purpose(number, "controller"))
            await asyncio.sleep(2)
            await tell("CLOSECIRCUIT", c.close_circuit(number))
        await tell("CLOSESTREAM", c.close_stream(70000, 1))
        await tell("ATTACHSTREAM", c.attach_stream(70000, 0))
        await tell("REDIRECTSTREAM", c.redirect_stream(70000, "127.0.0.1"))
        await tell("RESOLVE", c.resolve(["127.0.0.1"]))
        await tell("MAPADDRESS", c.map_address({"0.0.0.0": "example.com"}))
        await tell("POSTDESCRIPTOR", c.post_descriptor("router x\n"))
        for signal in ("NEWNYM", "CLEARDNSCACHE", "HEARTBEAT", "ACTIVE", "DORMANT", "ACTIVE", "RELOAD", "DUMP"):
            await tell(f"SIGNAL {signal}", c.signal(signal))
        await fetch("strict again")
        await asyncio.sleep(3)
        await tell("TAKEOWNERSHIP", c.take_ownership())
        await tell("DROPOWNERSHIP", c.drop_ownership())
    for name in sorted(events):
        kinds = sorted({type(event).__name__ for event in events[name]})
        print(f"event {name}: {'/'.join(kinds)}")
    for wrong in WRONG:
        print("unread:", wrong)


asyncio.run(main())
