//! Options of the control port.

use crate::option::{Fate, Kind, OptionInfo};

table! {
    Meant ControlPort: Lines = "", "`listen` of `[control]`";
    Meant __ControlPort: Lines = "", "as ControlPort";
    Meant ControlSocket: Lines = "", "`listen` of `[control]`";
    Meant ControlSocketsGroupWritable: Bool = "0", "control sockets may be used by their group";
    Meant ControlPortWriteToFile: Path = "", "`write_to_file` of `[control]`";
    Meant ControlPortFileGroupReadable: Bool = "0", "`file_group_readable` of `[control]`";
    Meant CookieAuthentication: Bool = "0", "`cookie` of `[control]`";
    Meant CookieAuthFile: Path = "", "`cookie_file` of `[control]`";
    Meant CookieAuthFileGroupReadable: Bool = "0", "`cookie_file_group_readable` of `[control]`";
    Meant HashedControlPassword: Lines = "", "`[[control.passwords]]`";
    Meant __HashedControlSessionPassword: Lines = "", "as HashedControlPassword";
    Meant __OwningControllerProcess: Text = "", "this process ends with that one";
    Refused __OwningControllerFD: Number64 = "18446744073709551615",
        "a connection is taken by no number";
    Meant __ReloadTorrcOnSIGHUP: Bool = "1", "0: SIGHUP reads no file again";
    Meant __DisableSignalHandlers: Bool = "0", "signals are left as they are";
}
