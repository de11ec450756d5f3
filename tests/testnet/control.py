"""Drives a control port by stem: usage: control.py PORT PASSWORD SOCKS_PORT WEB_PORT COOKIE_FILE UNIX_SOCKET.

Each step is a function; the first one that fails ends it with a traceback.
"""

import socket
import sys
import threading
import urllib.request

import stem
import stem.control
from stem.control import Controller, EventType

PORT, PASSWORD, SOCKS, WEB, COOKIE, UNIX = sys.argv[1:]
PORT, SOCKS, WEB = int(PORT), int(SOCKS), int(WEB)


def connect():
    return Controller.from_port(port=PORT)


def raises(kind, call, *arguments, **more):
    try:
        call(*arguments, **more)
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def authenticates_in_each_way():
    with connect() as controller:
        methods = [str(method) for method in controller.get_protocolinfo().auth_methods]
        assert sorted(methods) == ["Cookie", "Password", "Safecookie"], methods
        controller.authenticate(password=PASSWORD)
        assert controller.is_authenticated()
    with connect() as controller:
        stem.connection.authenticate_cookie(controller, COOKIE)
    with connect() as controller:
        stem.connection.authenticate_safecookie(controller, COOKIE)
    with connect() as controller:
        refused = stem.connection.authenticate_password
        raises(stem.connection.IncorrectPassword, refused, controller, "wrong")
    with Controller.from_socket_file(UNIX) as controller:
        controller.authenticate(password=PASSWORD)
        assert controller.get_version() >= stem.version.Requirement.ADD_ONION


def strangers_are_told_nothing():
    for line in (b"GETINFO version\r\n", b"GET / HTTP/1.1\r\n\r\n", b"SIGNAL HALT\r\n"):
        with socket.create_connection(("127.0.0.1", PORT)) as stranger:
            stranger.sendall(line)
            answer = b""
            while piece := stranger.recv(4096):
                answer += piece
            assert answer.startswith((b"514 ", b"HTTP/1.0 501 ")), answer


def every_key_that_is_listed_answers(controller):
    names = controller.get_info("info/names").splitlines()
    assert len(names) > 35, names
    relay = next(iter(controller.get_network_statuses()))
    for name in (line.split(" -- ")[0] for line in names):
        key = name.replace("id/*", f"id/{relay.fingerprint}")
        key = key.replace("name/*", f"name/{relay.nickname}")
        controller.get_info(key)
    message = raises(stem.InvalidArguments, controller.get_info, "no/such/key")
    assert "no/such/key" in message, message
    assert controller.get_info("status/bootstrap-phase").endswith('SUMMARY="Done"')
    assert controller.get_info("status/circuit-established") == "1"
    assert controller.get_listeners(stem.control.Listener.SOCKS) == [("127.0.0.1", SOCKS)]
    assert any(circuit.status == "BUILT" for circuit in controller.get_circuits())
    assert controller.get_conf("SocksPort") == f"127.0.0.1:{SOCKS}"
    assert controller.get_pid() > 0
    assert len(list(controller.get_network_statuses())) > 3


def fetch(host, isolation):
    """Fetches some bytes by SOCKS5 with a name of its own, and says how many there were."""
    with socket.create_connection(("127.0.0.1", SOCKS)) as proxy:
        proxy.settimeout(120)
        name = isolation.encode()
        proxy.sendall(b"\x05\x01\x02\x01" + bytes([len(name)]) + name + b"\x01x")
        assert proxy.recv(2) == b"\x05\x02"
        assert proxy.recv(2) == b"\x01\x00"
        host = host.encode()
        port = 80 if host.endswith(b".onion") else WEB
        proxy.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host + port.to_bytes(2, "big"))
        reply = b""
        while len(reply) < 10:
            piece = proxy.recv(10 - len(reply))
            assert piece, reply
            reply += piece
        assert reply[1] == 0, reply
        proxy.sendall(b"GET /bytes/1000 HTTP/1.0\r\n\r\n")
        got = b""
        while piece := proxy.recv(65536):
            got += piece
        return len(got.split(b"\r\n\r\n", 1)[1])


def onions_are_added_visited_and_removed(controller):
    service = controller.create_ephemeral_hidden_service({80: WEB}, await_publication=True)
    assert service.private_key_type == "ED25519-V3"
    assert controller.list_ephemeral_hidden_services() == [service.service_id]
    assert fetch(service.service_id + ".onion", "onion") == 1000
    message = raises(
        stem.ProtocolError,
        controller.create_ephemeral_hidden_service,
        {80: WEB},
        key_type="ED25519-V3",
        key_content=service.private_key,
    )
    assert "Onion address collision" in message, message
    assert controller.remove_ephemeral_hidden_service(service.service_id)
    assert controller.list_ephemeral_hidden_services() == []
    # The same key gives the same address, also on another connection, and ends with it.
    with connect() as other:
        other.authenticate(password=PASSWORD)
        again = other.create_ephemeral_hidden_service(
            {80: WEB}, key_type="ED25519-V3", key_content=service.private_key
        )
        assert again.service_id == service.service_id
        assert again.private_key is None
    with connect() as other:
        other.authenticate(password=PASSWORD)
        detached = other.create_ephemeral_hidden_service(
            {80: WEB}, key_type="ED25519-V3", key_content=service.private_key, detached=True
        )
    assert controller.list_ephemeral_hidden_services(detached=True) == [detached.service_id]
    assert controller.remove_ephemeral_hidden_service(detached.service_id)


def events_are_seen(controller):
    seen, done = {}, threading.Event()

    def listen(event):
        seen.setdefault(event.type, []).append(event)
        streams = [one.status for one in seen.get("STREAM", [])]
        if "CLOSED" in streams and "BW" in seen and "BUILT" in [
            one.status for one in seen.get("CIRC", [])
        ]:
            done.set()

    controller.add_event_listener(
        listen, EventType.CIRC, EventType.STREAM, EventType.BW, EventType.ORCONN, EventType.SIGNAL
    )
    controller.signal(stem.Signal.NEWNYM)
    assert fetch("127.0.0.1", "events") == 1000
    assert done.wait(60), seen
    assert [one.signal for one in seen["SIGNAL"]] == ["NEWNYM"]
    streams = [one for one in seen["STREAM"] if one.status == "NEW"]
    assert streams[0].target_port == WEB, streams
    assert streams[0].source_address == "127.0.0.1"
    assert 'SOCKS_USERNAME="events"' in streams[0].raw_content(), streams[0].raw_content()
    sent = [one for one in seen["STREAM"] if one.status == "SUCCEEDED"]
    circuits = {one.id for one in controller.get_circuits()}
    assert sent[0].circ_id in circuits, (sent, circuits)
    controller.remove_event_listener(listen)


def keys_of_clients_are_kept(controller):
    address = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd"
    key = "GLDQQpfrLvMaFEf6YCsY1AVqkzwFySPSYy0K2GVMSE4="
    add = f"ONION_CLIENT_AUTH_ADD {address} x25519:{key} ClientName=bob"
    assert str(controller.msg(add)) == "OK"
    assert str(controller.msg(add)) == "Client for onion existed and replaced"
    told = str(controller.msg("ONION_CLIENT_AUTH_VIEW"))
    assert f"CLIENT {address} x25519:{key} ClientName=bob" in told, told
    assert str(controller.msg(f"ONION_CLIENT_AUTH_REMOVE {address}")) == "OK"


def profiles_rule():
    with connect() as controller:
        controller.authenticate(password="looker")
        assert controller.get_version()
        assert str(controller.msg("SIGNAL NEWNYM")) == "Command filtered"
        assert str(controller.msg("ADD_ONION NEW:BEST Port=80")) == "Command filtered"


def what_is_not_there_is_refused(controller):
    answer = controller.msg("EXTENDCIRCUIT 0")
    assert [line[:2] for line in answer.content()] == [("510", " ")], answer
    assert controller.msg("SETCONF DisableNetwork=0").is_ok()
    answer = controller.msg("SETCONF SocksPort=1").content()
    assert answer[0][0] == "553", answer
    answer = controller.msg("SETCONF Foo=1").content()
    assert answer[0][0] == "552", answer


def an_owner_takes_the_process_with_him():
    with connect() as controller:
        controller.authenticate(password=PASSWORD)
        assert controller.msg("TAKEOWNERSHIP").is_ok()


authenticates_in_each_way()
strangers_are_told_nothing()
profiles_rule()
with connect() as controller:
    controller.authenticate(password=PASSWORD)
    every_key_that_is_listed_answers(controller)
    events_are_seen(controller)
    keys_of_clients_are_kept(controller)
    what_is_not_there_is_refused(controller)
    onions_are_added_visited_and_removed(controller)
an_owner_takes_the_process_with_him()
print("stem is content")
