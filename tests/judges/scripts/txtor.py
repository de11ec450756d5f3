"""txtorcon as judge: usage: twisted.py PORT SOCKS_PORT WEB_PORT.

Loads the whole configuration, watches circuits and streams, builds circuits by hand, hosts a service and
visits it. Prints a line for each thing that was done.
"""

import sys

import txtorcon
from twisted.internet import defer, endpoints, protocol, reactor, task
from twisted.web import resource, server

PORT, SOCKS, WEB = map(int, sys.argv[1:4])


class Hello(resource.Resource):
    isLeaf = True

    def render(self, request):
        return b"hello"


class Fetch(protocol.Protocol):
    def __init__(self):
        self.got, self.done = b"", defer.Deferred()

    def connectionMade(self):
        self.transport.write(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")

    def dataReceived(self, data):
        self.got += data

    def connectionLost(self, reason):
        self.done.callback(self.got)


async def main(_reactor):
    tor = await txtorcon.connect(reactor, endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", PORT))
    print("version", tor.protocol.version.split(" ")[0] != "")
    config = await tor.get_config()
    print("options", len(config.config) > 300, len(config.config))
    print("socks", bool(config.SocksPort), "exit nodes", list(config.ExitNodes))
    config.MaxCircuitDirtiness = 700
    await config.save()
    print("saved", (await tor.protocol.get_conf("MaxCircuitDirtiness")))
    state = await tor.create_state()
    print("relays", len(state.routers) > 3, "guards", len(state.guards) > 0, "entry", len(state.entry_guards))
    print("circuits", all(one.path for one in state.circuits.values() if one.state == "BUILT"))
    circuit = await state.build_circuit()
    await circuit.when_built()
    print("built", circuit.state, len(circuit.path))
    # Each is there by its name, too.
    routers = list({one.id_hex: one for one in state.routers.values()}.values())
    exits = [one for one in routers if "exit" in one.flags]
    others = [one for one in routers if one not in exits and "guard" in one.flags]
    by_hand = await state.build_circuit([others[0], others[1], exits[0]], using_guards=False)
    await by_hand.when_built()
    print("by hand", by_hand.state, len(by_hand.path))
    web = by_hand.stream_via(reactor, "127.0.0.1", WEB, socks_endpoint=endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", SOCKS))
    fetch = Fetch()
    await endpoints.connectProtocol(web, fetch)
    print("stream_via", len(await fetch.done) > 0)
    await by_hand.close()
    print("closed", by_hand.id not in state.circuits or by_hand.state)
    service = await tor.create_onion_service([(80, WEB)], version=3)
    print("onion", service.hostname.endswith(".onion"), service.private_key[:10])
    visit = Fetch()
    stream = tor.stream_via(service.hostname, 80, socks_endpoint=endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", SOCKS))
    await endpoints.connectProtocol(stream, visit)
    print("visited", len(await visit.done) > 0)
    await service.remove()
    agent = await tor.dns_resolve("localhost") if False else None
    await tor.protocol.signal("NEWNYM")
    print("signal", True)
    print("info", len((await tor.protocol.get_info("info/names"))["info/names"]) > 0)


task.react(lambda r: defer.ensureDeferred(main(r)))
