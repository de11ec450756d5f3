"""Drives a control port by stem: usage: control.py PORT PASSWORD SOCKS_PORT WEB_PORT COOKIE_FILE UNIX_SOCKET FOLDER.

Each step is a function; the first one that fails ends it with a traceback.
"""

import shutil
import socket
import subprocess
import sys
import threading
import urllib.request

import stem
import stem.control
from stem.control import Controller, EventType

PORT, PASSWORD, SOCKS, WEB, COOKIE, UNIX, DIR = sys.argv[1:]
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


def resident(pid):
    """Bytes of memory of a process."""
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def floods_cost_little():
    """Connections beyond all places, lines without end, a controller that asks and never reads."""
    with connect() as controller:
        controller.authenticate(password=PASSWORD)
        pid, before = controller.get_pid(), None
        before = resident(pid)
        crowd = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(1500)]
        # Who was let in keeps his place; whoever comes gets one.
        assert controller.get_version()
        with connect() as late:
            late.authenticate(password=PASSWORD)
        for one in crowd[-100:]:
            one.settimeout(30)
            try:
                one.sendall(b"x" * 100_000)
                while one.recv(4096):
                    pass
            except ConnectionError:
                pass
        for one in crowd:
            one.close()
        with socket.create_connection(("127.0.0.1", PORT)) as deaf:
            deaf.settimeout(2)
            deaf.sendall(f'AUTHENTICATE "{PASSWORD}"\r\nSETEVENTS BW DEBUG INFO\r\n'.encode())
            try:
                for _ in range(20_000):
                    deaf.sendall(b"GETINFO config/names info/names\r\n" * 20)
                raise RuntimeError("a controller that does not read is still read")
            except TimeoutError:
                pass
            assert controller.get_version()
            assert fetch("127.0.0.1", "meanwhile") == 1000
        with socket.create_connection(("127.0.0.1", PORT)) as endless:
            endless.sendall(f'AUTHENTICATE "{PASSWORD}"\r\n'.encode())
            try:
                for _ in range(64):
                    endless.sendall(b"y" * 65536)
                while endless.recv(4096):
                    pass
            except ConnectionError:
                pass
        grown = resident(pid) - before
        assert grown < 64 << 20, grown


def every_key_that_is_listed_answers(controller):
    names = controller.get_info("info/names").splitlines()
    assert len(names) > 35, names
    relay = next(iter(controller.get_network_statuses()))
    # Those of onion services are told of the services that there are.
    names = [line.split(" -- ")[0] for line in names]
    for name in (name for name in names if not name.startswith("hs/")):
        key = name.replace("id/*", f"id/{relay.fingerprint}")
        key = key.replace("name/*", f"name/{relay.nickname}")
        key = key.replace("country/*", "country/127.0.0.1")
        controller.get_info(key.replace("purpose/*", "purpose/general"))
    descriptor = controller.get_microdescriptor(relay.fingerprint)
    assert descriptor.ntor_onion_key and len(list(controller.get_microdescriptors())) > 3
    assert controller.get_info("ip-to-country/192.0.2.1", "??") == "??"
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


def descriptors_are_fetched_and_posted(controller, address):
    seen, changed = [], threading.Condition()

    def listen(event):
        with changed:
            seen.append(event)
            changed.notify_all()

    def wait_for(what, is_it):
        with changed:
            assert changed.wait_for(lambda: any(is_it(one) for one in seen), 60), (what, seen)
            return next(one for one in seen if is_it(one))

    controller.add_event_listener(listen, EventType.HS_DESC, EventType.HS_DESC_CONTENT)
    assert controller.msg(f"HSFETCH {address}").is_ok()
    got = wait_for("content", lambda one: one.type == "HS_DESC_CONTENT" and one.descriptor)
    assert got.address == address
    text = str(got.descriptor)
    assert text.startswith("hs-descriptor 3"), text
    done = wait_for("RECEIVED", lambda one: one.type == "HS_DESC" and one.action == "RECEIVED")
    kept = controller.get_info(f"hs/client/desc/id/{address}")
    assert kept.strip() == text.strip(), kept
    server = done.directory_fingerprint
    del seen[:]
    assert controller.msg(f"HSFETCH {address} SERVER={server}").is_ok()
    again = wait_for("RECEIVED", lambda one: one.type == "HS_DESC" and one.action == "RECEIVED")
    assert again.directory_fingerprint == server, again
    # A directory has it already, and takes no other of the same revision.
    assert controller.msg(f"HSPOST SERVER={server} HSADDRESS={address}\n{text}").is_ok()
    wait_for(
        "the end of an upload",
        lambda one: one.type == "HS_DESC" and one.action in ("UPLOADED", "FAILED"),
    )
    answer = controller.msg(f"HSPOST HSADDRESS={address}\nx").content()
    assert answer[0][0] == "554", answer
    answer = controller.msg(f"HSFETCH {address} SERVER=nobody").content()
    assert [(one[0], one[2]) for one in answer] == [("552", 'Server "nobody" not found')]
    controller.remove_event_listener(listen)


def onions_are_added_visited_and_removed(controller):
    service = controller.create_ephemeral_hidden_service({80: WEB}, await_publication=True)
    assert service.private_key_type == "ED25519-V3"
    text = controller.get_info(f"hs/service/desc/id/{service.service_id}")
    assert text.startswith("hs-descriptor 3"), text
    assert controller.list_ephemeral_hidden_services() == [service.service_id]
    assert fetch(service.service_id + ".onion", "onion") == 1000
    descriptors_are_fetched_and_posted(controller, service.service_id)
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


def guards_and_times_are_dropped(controller):
    seen, done = [], threading.Event()

    def listen(event):
        seen.append(event)
        kinds = {one.type for one in seen}
        if {"GUARD", "BUILDTIMEOUT_SET", "NOTICE"} <= kinds:
            done.set()

    kinds = [EventType.GUARD, EventType.BUILDTIMEOUT_SET, EventType.NOTICE]
    controller.add_event_listener(listen, *kinds)
    before = controller.get_info("entry-guards")
    controller.drop_guards()
    assert controller.msg("DROPTIMEOUTS").is_ok()
    controller.signal(stem.Signal.HEARTBEAT)
    assert done.wait(60), seen
    dropped = [one for one in seen if one.type == "GUARD" and one.status == "DROPPED"]
    assert dropped and before, seen
    assert fetch("127.0.0.1", "new guards") == 1000
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
    assert controller.msg("SETCONF DisableNetwork=0").is_ok()
    for line, told in REFUSALS:
        answer = controller.msg(line).content()
        assert [(one[0], one[2]) for one in answer] == [told], (line, answer)


# As `tor` 0.4.9.15 answers them; a test asks one that is here, too.
REFUSALS = [
    ("POSTDESCRIPTOR\nrouter x", ("554", "Couldn't parse router descriptor.")),
    (
        "DROPGUARDS x",
        ("512", "Bad arguments to DROPGUARDS: Cannot accept more than 0 argument(s)"),
    ),
    ("GETINFO exit-policy/full", ("552", "Not running in server mode")),
    ("GETINFO address", ("551", "Address unknown")),
    ("GETINFO fingerprint", ("551", "Not running in server mode")),
    ("GETINFO md/id/x", ("552", 'Unrecognized key "md/id/x"')),
    ("EXTENDCIRCUIT 0 nobody", ("552", 'No such router "nobody"')),
    ("EXTENDCIRCUIT 0 purpose=foo", ("552", 'Unknown purpose "foo"')),
    ("EXTENDCIRCUIT 70000 nobody", ("552", 'Unknown circuit "70000"')),
    ("EXTENDCIRCUIT x", ("552", 'Unknown circuit "x"')),
    (
        "EXTENDCIRCUIT",
        ("512", "Bad arguments to EXTENDCIRCUIT: Need at least 1 argument(s)"),
    ),
    ("CLOSECIRCUIT x IfUnused", ("552", 'Unknown circuit "x"')),
    ("SETCIRCUITPURPOSE 70000 purpose=foo", ("552", 'Unknown circuit "70000"')),
    ("ATTACHSTREAM 70000 1", ("552", 'Unknown stream "70000"')),
    ("ATTACHSTREAM 0 0", ("552", 'Unknown stream "0"')),
    ("REDIRECTSTREAM 70000 foo 0", ("552", 'Unknown stream "70000"')),
    ("CLOSESTREAM 70000 x", ("552", 'Unknown stream "70000"')),
    ("SETCONF Foo=1", ("552", "Unrecognized option: Unknown option 'Foo'.  Failing.")),
    (
        "SETCONF __LeaveStreamsUnattached=2",
        (
            "513",
            "Unacceptable option value: Could not parse __LeaveStreamsUnattached: "
            "Unrecognized value 2. Allowed values are 0 and 1.",
        ),
    ),
    (
        "SETCONF DataDirectory=/nowhere",
        (
            "553",
            "Transition not allowed: While Tor is running, "
            "changing DataDirectory is not allowed",
        ),
    ),
    ("HSFETCH foo", ("513", 'Invalid argument "foo"')),
    ("GETCONF Foo", ("552", 'Unrecognized configuration key "Foo"')),
    ("GETINFO address-mappings/foo", ("552", 'Unrecognized key "address-mappings/foo"')),
    ("MAPADDRESS foo", ("512", "Bad arguments to MAPADDRESS: Cannot parse keyword argument(s)")),
    ("MAPADDRESS", ("512", "syntax error: not enough arguments to mapaddress.")),
    ("MAPADDRESS a=b,c", ("512", "syntax error: invalid address 'b,c'")),
    (
        "LOADCONF\nFoo 1",
        (
            "552",
            "Invalid config file: Failed to parse/validate config: "
            "Unknown option 'Foo'.  Failing.",
        ),
    ),
]


def by_hand(controller):
    """Circuits and streams as sbws, OnionTrace and programs of stem's users see to them."""
    relays = list(controller.get_network_statuses())
    exits = [one for one in relays if "exit" in one.nickname]
    others = [one for one in relays if one not in exits]
    path = [others[0].fingerprint, others[1].fingerprint, exits[0].fingerprint]
    seen = []
    lock = threading.Condition()

    def listen(event):
        with lock:
            seen.append(event)
            lock.notify_all()

    def wait_for(what, is_it):
        with lock:
            assert lock.wait_for(lambda: any(is_it(one) for one in seen), 60), (what, seen)
            return next(one for one in seen if is_it(one))

    controller.add_event_listener(
        listen, EventType.CIRC, EventType.STREAM, EventType.ADDRMAP, EventType.CONF_CHANGED
    )
    controller.set_conf("__DisablePredictedCircuits", "1")
    changed = wait_for("CONF_CHANGED", lambda one: one.type == "CONF_CHANGED")
    assert changed.changed == {"__DisablePredictedCircuits": ["1"]}, changed.changed
    circuit = controller.new_circuit(path, purpose="controller", await_build=True)
    built = wait_for(
        "BUILT", lambda one: one.type == "CIRC" and one.id == circuit and one.status == "BUILT"
    )
    assert [hop[0] for hop in built.path] == path, built
    assert built.purpose == "CONTROLLER", built
    grown = controller.new_circuit(path[:1], await_build=True)
    with_streams = controller.extend_circuit(grown, path[1:], await_build=True)
    assert with_streams == grown
    assert [hop[0] for hop in controller.get_circuit(grown).path] == path
    drawn = controller.new_circuit(await_build=True)
    assert len(controller.get_circuit(drawn).path) == 3
    controller.repurpose_circuit(drawn, "controller")
    assert controller.get_circuit(drawn).purpose == "CONTROLLER"
    controller.close_circuit(drawn)
    raises(ValueError, controller.get_circuit, drawn)

    # A stream waits for us, and goes where we put it.
    controller.set_conf("__LeaveStreamsUnattached", "1")
    assert controller.get_conf("__LeaveStreamsUnattached") == "1"

    def attach(to, wanted, host="127.0.0.1"):
        got = []
        fetching = threading.Thread(target=lambda: got.append(fetch(host, f"hand {to} {host}")))
        fetching.start()
        name = f"hand {to} {host}"
        left = wait_for(
            "CONTROLLER_WAIT",
            lambda one: one.type == "STREAM"
            and one.status == "CONTROLLER_WAIT"
            and name in str(one),
        )
        assert [one.id for one in controller.get_streams() if one.id == left.id]
        if to == circuit:
            message = raises(stem.InvalidRequest, controller.attach_stream, left.id, "70000")
            assert message == 'Unknown circuit "70000"', message
        controller.attach_stream(left.id, to)
        sent = wait_for(
            "SUCCEEDED",
            lambda one: one.type == "STREAM" and one.id == left.id and one.status == "SUCCEEDED",
        )
        assert wanted is None or sent.circ_id == wanted, sent
        fetching.join(60)
        assert got == [1000], got

    attach(circuit, circuit)
    attach(grown, grown)
    attach("0", None)
    controller.reset_conf("__LeaveStreamsUnattached")
    assert controller.get_conf("__LeaveStreamsUnattached") == "0"

    # Names that stand for others.
    mapped = controller.map_address({"0.0.0.0": "127.0.0.1", "web.example": "127.0.0.1"})
    assert sorted(mapped.values()) == ["127.0.0.1", "127.0.0.1"], mapped
    made_up = next(name for name in mapped if name.startswith("127."))
    told = wait_for("ADDRMAP", lambda one: one.type == "ADDRMAP" and one.hostname == made_up)
    assert told.destination == "127.0.0.1" and told.expiry is None, told
    assert fetch("web.example", "mapped") == 1000
    wait_for(
        "REMAP",
        lambda one: one.type == "STREAM" and one.status == "REMAP" and one.source == "CACHE",
    )
    assert fetch(made_up, "mapped") == 1000
    lines = controller.get_info("address-mappings/all").splitlines()
    assert "web.example 127.0.0.1 NEVER" in lines, lines
    assert str(controller.msg("MAPADDRESS web.example=web.example")) == "web.example=web.example"
    assert len(controller.get_info("address-mappings/control").splitlines()) == 1
    controller.reset_conf("__DisablePredictedCircuits")
    controller.remove_event_listener(listen)


def options_are_set(controller):
    names = controller.get_info("config/names").splitlines()
    assert len(names) > 370, len(names)
    assert "DisableNetwork Boolean" in names
    for name in (line.split(" ")[0] for line in names):
        # stem asks for all lines of services under another name.
        if not name.startswith("HiddenService"):
            controller.get_conf(name, multiple=True)
    assert 'SafeLogging "1"' in controller.get_info("config/defaults").splitlines()
    assert controller.get_conf("BandwidthRate") == "1073741824"
    controller.set_conf("MaxCircuitDirtiness", "20 minutes")
    assert controller.get_conf("MaxCircuitDirtiness") == "1200"
    controller.set_conf("ExitNodes", "exit1")
    assert controller.get_conf("ExitNodes") == "exit1"
    assert "ExitNodes exit1" in controller.get_info("config-text").splitlines()
    controller.reset_conf("ExitNodes")
    assert controller.get_conf("ExitNodes") is None
    services = [("HiddenServiceDir", DIR + "/hs"), ("HiddenServicePort", f"80 127.0.0.1:{WEB}")]
    controller.set_options(services)
    told = controller.get_conf_map("HiddenServiceOptions")
    assert told["HiddenServicePort"] == [f"80 127.0.0.1:{WEB}"], told
    with open(DIR + "/hs/hostname") as file:
        assert file.read().strip().endswith(".onion")
    controller.reset_conf("HiddenServiceDir")
    assert "HiddenServiceDir" not in controller.get_conf_map("HiddenServiceOptions")


def ports_are_opened_and_closed(controller):
    usual = f"127.0.0.1:{SOCKS}"
    controller.set_conf("SocksPort", [usual, "auto"])
    listeners = controller.get_listeners(stem.control.Listener.SOCKS)
    assert ("127.0.0.1", SOCKS) in listeners and len(listeners) == 2, listeners
    other = next(port for _, port in listeners if port != SOCKS)
    with socket.create_connection(("127.0.0.1", other)) as proxy:
        proxy.sendall(b"\x05\x01\x00")
        assert proxy.recv(2) == b"\x05\x00"
        # It can change its rules while it is open, and who is connected stays so.
        controller.set_conf("SocksPort", [usual, f"{other} IsolateDestAddr"])
        assert len(controller.get_listeners(stem.control.Listener.SOCKS)) == 2
        message = raises(
            stem.InvalidRequest, controller.set_conf, "SocksPort", [usual, str(PORT)]
        )
        assert "port is taken" in message, message
        assert len(controller.get_listeners(stem.control.Listener.SOCKS)) == 2
        controller.set_conf("SocksPort", usual)
        proxy.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + WEB.to_bytes(2, "big"))
        assert proxy.recv(10)[1] == 0
    try:
        socket.create_connection(("127.0.0.1", other)).close()
        raise RuntimeError("a port that nobody wants is open")
    except ConnectionRefusedError:
        pass
    assert fetch("127.0.0.1", "usual") == 1000


def the_network_is_left_alone(controller):
    controller.set_conf("DisableNetwork", "1")
    assert controller.get_info("net/listeners/socks") == ""
    assert controller.get_info("circuit-status") == ""
    assert controller.get_info("orconn-status") == ""
    try:
        fetch("127.0.0.1", "off")
        raise RuntimeError("a stream without a network")
    except AssertionError:
        pass
    assert controller.get_info("orconn-status") == ""
    controller.set_conf("DisableNetwork", "0")
    assert fetch("127.0.0.1", "on") == 1000


def tor_answers_the_same():
    if not shutil.which("tor"):
        return
    with open(DIR + "/empty", "w"):
        pass
    options = ["-f", DIR + "/empty", "--DisableNetwork", "1", "--SocksPort", "0"]
    options += ["--ControlPort", "auto", "--DataDirectory", DIR + "/theirs"]
    tor = subprocess.Popen(["tor"] + options, stdout=subprocess.PIPE, text=True)
    try:
        told = (line for line in tor.stdout if "Control listener listening on port" in line)
        port = int(next(told).split(" port ")[1].split(".")[0])
        with Controller.from_port(port=port) as controller:
            controller.authenticate()
            for line, told in REFUSALS:
                answer = controller.msg(line).content()
                assert [(one[0], one[2]) for one in answer] == [told], (line, answer)
    finally:
        tor.kill()
        tor.wait()


def an_owner_takes_the_process_with_him():
    with connect() as controller:
        controller.authenticate(password=PASSWORD)
        assert controller.msg("TAKEOWNERSHIP").is_ok()


authenticates_in_each_way()
strangers_are_told_nothing()
floods_cost_little()
profiles_rule()
with connect() as controller:
    controller.authenticate(password=PASSWORD)
    every_key_that_is_listed_answers(controller)
    events_are_seen(controller)
    keys_of_clients_are_kept(controller)
    guards_and_times_are_dropped(controller)
    what_is_not_there_is_refused(controller)
    by_hand(controller)
    options_are_set(controller)
    ports_are_opened_and_closed(controller)
    the_network_is_left_alone(controller)
    onions_are_added_visited_and_removed(controller)
tor_answers_the_same()
an_owner_takes_the_process_with_him()
print("stem is content")
