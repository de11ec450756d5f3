"""Looks at a relay by stem: usage: control_relay.py PORT NICKNAME OR_PORT.

Each step is a function; the first one that fails ends it with a traceback.
"""

import sys
import threading

import stem
from stem.control import Controller, EventType, Listener

PORT, NAME, OR_PORT = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])


def it_hears_of_itself(controller):
    """Waits for a consensus that lists the relay."""
    came = threading.Event()
    controller.add_event_listener(lambda _: came.set(), EventType.NEWCONSENSUS)
    while f"r {NAME} " not in controller.get_info("ns/all"):
        assert came.wait(120), "no consensus"
        came.clear()


def every_key_that_is_listed_answers(controller):
    own = controller.get_info("fingerprint")
    for line in controller.get_info("info/names").splitlines():
        key = line.split(" -- ")[0]
        key = key.replace("id/*", f"id/{own}").replace("name/*", f"name/{NAME}")
        key = key.replace("country/*", "country/127.0.0.1").replace("server/*", "server/all")
        key = key.replace("purpose/*", "purpose/general")
        if not key.startswith(("extra-info/", "address/v6", "status/clients-seen")):
            controller.get_info(key)
    [(_, port)] = controller.get_listeners(Listener.OR)
    assert port == OR_PORT
    assert controller.get_info("address") == controller.get_conf("Address")
    assert controller.get_server_descriptor(own).nickname == NAME
    assert controller.get_server_descriptor().fingerprint == own
    assert len(list(controller.get_server_descriptors())) > 3
    assert controller.get_network_status(own).nickname == NAME
    assert len(list(controller.get_network_statuses())) > 3
    assert controller.get_exit_policy().is_exiting_allowed()
    assert controller.get_conf("Nickname") == NAME
    assert controller.get_effective_rate() > 0
    stats = controller.get_accounting_stats()
    assert stats.status == "awake" and stats.read_bytes_left > 0, stats
    assert controller.get_info("consensus/valid-after")
    assert "ORPort" in controller.get_info("config-text")
    assert controller.get_info("dir/status-vote/current/consensus-microdesc")


def it_is_told_what_happens(controller):
    seen, done = [], threading.Event()

    def listen(event):
        seen.append(event)
        if {"BW", "NOTICE", "SIGNAL", "CONF_CHANGED"} <= {one.type for one in seen}:
            done.set()

    kinds = [EventType.BW, EventType.NOTICE, EventType.SIGNAL, EventType.CONF_CHANGED]
    controller.add_event_listener(listen, *kinds, EventType.STATUS_SERVER)
    controller.set_conf("ContactInfo", "somebody else")
    controller.signal(stem.Signal.HEARTBEAT)
    # Programs such as nyx send it to whatever they watch, and end where it is refused.
    controller.signal(stem.Signal.NEWNYM)
    assert done.wait(60), seen
    assert controller.get_conf("ContactInfo") == "somebody else"
    controller.signal(stem.Signal.RELOAD)
    assert controller.get_conf("ContactInfo") != "somebody else"
    assert controller.get_info("bw-event-cache")
    controller.remove_event_listener(listen)


def what_is_not_a_relays_is_refused(controller):
    for line, code in (
        ("ADD_ONION NEW:BEST Port=80", "510"),
        ("EXTENDCIRCUIT 0", "510"),
        ("SETCONF ORPort=1", "553"),
        ("SETCONF RelayBandwidthRate=x", "513"),
        ("GETINFO no/such/key", "552"),
    ):
        answer = controller.msg(line).content()
        assert answer[0][0] == code, (line, answer)


with Controller.from_port(port=PORT) as controller:
    controller.authenticate()
    controller.set_caching(False)
    it_hears_of_itself(controller)
    every_key_that_is_listed_answers(controller)
    it_is_told_what_happens(controller)
    what_is_not_a_relays_is_refused(controller)
print("stem is content")
