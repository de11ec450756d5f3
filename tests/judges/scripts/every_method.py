"""Calls every public method of stem's Controller: usage: every_method.py PORT SOCKS_PORT WEB_PORT FOLDER.

Prints a line for each: its name, and what kind of thing came of it. So the lines of two daemons can be
compared: a method that raises with one and answers with the other is a difference.
"""

import inspect
import os
import socket
import sys
import threading
import time

import stem
import stem.control
import stem.descriptor.router_status_entry
from stem.control import Controller, EventType, Listener

PORT, SOCKS, WEB, DIR = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
SEEN = set()
# What is about stem alone, or ends the connection.
ASIDE = {"from_port", "from_socket_file", "connect", "close", "reconnect", "get_socket"}


def kind(value):
    """A value's type, and of what is in it."""
    if isinstance(value, dict):
        return "dict of " + "/".join(sorted({kind(one) for one in value.values()}))
    if isinstance(value, (list, set, tuple)):
        inner = sorted({kind(one) for one in value})
        return f"{type(value).__name__} of {'/'.join(inner)}"
    return type(value).__name__


def tell(name, what, more=""):
    SEEN.add(name.split(" ")[0])
    print(f"{name}: {what}", flush=True)
    if more and os.environ.get("WHY"):
        print(f"    {more}", flush=True)


def call(controller, name, *arguments, as_list=False, label=None, **named):
    try:
        got = getattr(controller, name)(*arguments, **named)
        got = list(got) if as_list else got
        tell(label or name, kind(got), repr(got)[:300])
        return got
    except Exception as error:
        tell(label or name, f"{type(error).__name__}", str(error)[:300])
        return None


def fetch(host, port, isolation, started=None):
    with socket.create_connection(("127.0.0.1", SOCKS)) as proxy:
        proxy.settimeout(90)
        name = isolation.encode()
        # tor reads on only when more comes.
        proxy.sendall(b"\x05\x01\x02")
        proxy.recv(2)
        proxy.sendall(b"\x01" + bytes([len(name)]) + name + b"\x01x")
        proxy.recv(2)
        host = host.encode()
        proxy.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host + port.to_bytes(2, "big"))
        if proxy.recv(10)[1:2] != b"\0":
            return 0
        if started:
            started.set()
            time.sleep(2)
        proxy.sendall(b"GET /bytes/1000 HTTP/1.0\r\n\r\n")
        got = b""
        while piece := proxy.recv(65536):
            got += piece
        return len(got.split(b"\r\n\r\n", 1)[1])


def asks(c):
    for name in (
        "is_alive is_localhost connection_time is_authenticated get_latest_heartbeat get_version "
        "get_exit_policy get_socks_listeners get_protocolinfo get_user get_pid get_start_time "
        "get_uptime is_user_traffic_allowed get_circuits get_streams is_newnym_available "
        "get_newnym_wait get_effective_rate is_geoip_unavailable is_caching_enabled "
        "get_accounting_stats get_hidden_service_conf list_ephemeral_hidden_services"
    ).split():
        call(c, name)
    call(c, "get_effective_rate", burst=True)
    for listener in Listener:
        call(c, "get_ports", listener, label=f"get_ports {listener}")
        call(c, "get_listeners", listener, label=f"get_listeners {listener}")
    relays = call(c, "get_network_statuses", as_list=True) or []
    call(c, "get_microdescriptors", as_list=True)
    call(c, "get_server_descriptors", as_list=True)
    exits = [one for one in relays if "Exit" in one.flags]
    one = exits[0]
    for by, key in (("id", one.fingerprint), ("name", one.nickname), ("none", "nobody")):
        for method in ("get_network_status", "get_microdescriptor", "get_server_descriptor"):
            call(c, method, key, label=f"{method} {by}")
    for key in ("version", "info/names", "ip-to-country/127.0.0.1", "no/such/key"):
        call(c, "get_info", key, label=f"get_info {key}")
    call(c, "get_info", ["version", "uptime"], label="get_info two")
    return [one for one in relays if "Guard" in one.flags], exits


def options(c):
    call(c, "get_conf", "SocksPort")
    call(c, "get_conf", "ExitPolicy", multiple=True, label="get_conf multiple")
    call(c, "get_conf", "NoSuch", label="get_conf unknown")
    call(c, "get_conf_map", ["SocksPort", "ExitNodes"])
    call(c, "get_conf_map", "HiddenServiceOptions", label="get_conf_map services")
    call(c, "is_set", "ExitNodes")
    call(c, "set_conf", "MaxCircuitDirtiness", "700")
    call(c, "set_conf", "NumEntryGuards", "3", label="set_conf NumEntryGuards")
    call(c, "set_conf", "NoSuch", "3", label="set_conf unknown")
    call(c, "reset_conf", "MaxCircuitDirtiness", "NumEntryGuards")
    call(c, "set_options", [("ExcludeNodes", "nobody"), ("StrictNodes", "0")])
    call(c, "set_options", {"ExcludeNodes": None, "StrictNodes": None}, reset=True, label="set_options reset")
    call(c, "create_hidden_service", DIR + "/hs", 80, target_port=WEB)
    call(c, "get_hidden_service_conf", label="get_hidden_service_conf one")
    conf = c.get_hidden_service_conf({})
    call(c, "set_hidden_service_conf", conf)
    call(c, "remove_hidden_service", DIR + "/hs", 80)
    call(c, "load_conf", c.get_info("config-text"))
    call(c, "load_conf", "NoSuch 1", label="load_conf wrong")
    call(c, "save_conf")
    call(c, "is_feature_enabled", "EXTENDED_EVENTS")
    call(c, "enable_feature", "VERBOSE_NAMES")
    call(c, "set_caching", False)
    call(c, "clear_cache")
    call(c, "set_caching", True)


def circuits(c, guards, exits):
    call(c, "new_circuit", await_build=True)
    middle = [one for one in guards if one.fingerprint != exits[0].fingerprint][:2]
    path = [one.fingerprint for one in middle] + [exits[0].fingerprint]
    circuit = call(c, "new_circuit", path, purpose="general", await_build=True, label="new_circuit path")
    grown = call(c, "extend_circuit", "0", path[:2], await_build=True)
    call(c, "extend_circuit", grown, path[2:], await_build=True, label="extend_circuit more")
    call(c, "repurpose_circuit", grown, "controller")
    call(c, "get_circuit", circuit)
    call(c, "get_circuit", "70000", label="get_circuit unknown")
    call(c, "set_conf", "__LeaveStreamsUnattached", "1", label="set_conf unattached")
    left, done, started = [], threading.Event(), threading.Event()

    def listen(event):
        if event.status == "NEW" and event.target_port == WEB:
            left.append(event.id)
            done.set()

    call(c, "add_event_listener", listen, EventType.STREAM)
    thread = threading.Thread(target=fetch, args=("127.0.0.1", WEB, f"x{time.time()}", started))
    thread.start()
    if done.wait(30):
        call(c, "attach_stream", left[0], circuit)
        started.wait(30)
        call(c, "close_stream", left[0])
    thread.join(60)
    call(c, "attach_stream", "70000", "0", label="attach_stream unknown")
    call(c, "close_stream", "70000", label="close_stream unknown")
    call(c, "remove_event_listener", listen)
    call(c, "reset_conf", "__LeaveStreamsUnattached", label="reset_conf unattached")
    call(c, "close_circuit", circuit)
    call(c, "close_circuit", "70000", label="close_circuit unknown")
    call(c, "map_address", {"0.0.0.0": "example.com"})


def onions(c):
    made = call(c, "create_ephemeral_hidden_service", {80: WEB}, await_publication=True, timeout=120)
    call(c, "create_ephemeral_hidden_service", {80: WEB}, detached=True, max_streams=3, discard_key=True,
         label="create_ephemeral_hidden_service detached")
    call(c, "create_ephemeral_hidden_service", {80: WEB}, basic_auth={"bob": None},
         label="create_ephemeral_hidden_service basic")
    call(c, "create_ephemeral_hidden_service", {80: WEB},
         client_auth_v3="FGTORMIDKR7T2PR632HSHLUA4G6HF5TCWSGMHUUWU4LWBEFTVVRQ",
         label="create_ephemeral_hidden_service client")
    if made:
        call(c, "get_hidden_service_descriptor", made.service_id, timeout=60)
    call(c, "list_ephemeral_hidden_services", detached=True, label="list_ephemeral_hidden_services all")
    if made:
        call(c, "remove_ephemeral_hidden_service", made.service_id)
        call(c, "remove_ephemeral_hidden_service", made.service_id, label="remove_ephemeral_hidden_service again")


def rest(c):
    for signal in list(stem.Signal):
        if signal not in ("SHUTDOWN", "HALT", "TERM", "INT", "DEBUG", "USR2"):
            call(c, "signal", signal, label=f"signal {signal}")
    listener = lambda *_: None
    call(c, "add_status_listener", listener)
    call(c, "remove_status_listener", listener)
    for event in sorted(set(EventType)):
        call(c, "add_event_listener", listener, event, label=f"add_event_listener {event}")
    call(c, "drop_guards")
    reply = call(c, "msg", "DROPTIMEOUTS", label="msg DROPTIMEOUTS")
    print(f"DROPTIMEOUTS: {reply}")
    print(f"POSTDESCRIPTOR: {c.msg(chr(10).join(['POSTDESCRIPTOR', 'router x']))}")


with Controller.from_port(port=PORT) as controller:
    call(controller, "authenticate")
    guards, exits = asks(controller)
    options(controller)
    circuits(controller, guards, exits)
    onions(controller)
    rest(controller)
    every = {name for name, _ in inspect.getmembers(Controller) if not name.startswith("_")}
    print("not called:", sorted(every - SEEN - ASIDE))
