"""Starts a daemon by stem: usage: launch.py PROGRAM FOLDER CONTROL_PORT SOCKS_PORT."""

import sys

import stem.control
import stem.process

program, folder, control, socks = sys.argv[1:5]
with open(folder + "/torrc") as file:
    lines = file.read().splitlines()
options = {"ControlPort": control, "SocksPort": socks, "DataDirectory": folder + "/data", "CookieAuthentication": "1"}
authorities = []
for line in lines:
    name, value = line.split(" ", 1)
    if name == "DirAuthority":
        authorities.append(value)
    else:
        options[name] = value
options["DirAuthority"] = authorities
heard = []
process = stem.process.launch_tor_with_config(
    options, tor_cmd=program, completion_percent=100, init_msg_handler=heard.append, timeout=120, take_ownership=True
)
print("messages", len([line for line in heard if "Bootstrapped" in line]))
with stem.control.Controller.from_port(port=int(control)) as controller:
    controller.authenticate()
    print("version", controller.get_version())
    print("owner", controller.get_conf("__OwningControllerProcess"))
process.kill()
process.wait()
# A torrc over standard input, and a mistake in it, which is told.
try:
    stem.process.launch_tor_with_config({"NoSuchOption": "1"}, tor_cmd=program)
    sys.exit("a mistake was taken")
except OSError as error:
    print("refused", error)
print("controlled")
