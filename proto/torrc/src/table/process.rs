//! Options of the process: folders, logs, memory, sockets.

use crate::option::{Fate, Kind, OptionInfo};

table! {
    Meant DataDirectory: Path = "", "`data_dir`";
    Refused DataDirectoryGroupReadable: Bool = "0", "the folder is for its user alone";
    Refused CacheDirectory: Path = "", "documents are kept in DataDirectory";
    Accepted CacheDirectoryGroupReadable: AutoBool = "auto",
        "there is no folder of documents alone";
    Refused KeyDirectory: Path = "", "keys are kept in `keys` of DataDirectory";
    Refused KeyDirectoryGroupReadable: AutoBool = "auto", "the folder is for its user alone";
    Meant Log: Lines = "", "`[log]`: notice is our info, info our debug; no domains";
    Meant SafeLogging: Text = "1", "`addresses` of `[log]` where it is 0";
    Meant LogTimeGranularity: Millis = "1 second", "`time_granularity_ms` of `[log]`";
    Accepted LogMessageDomains: Bool = "0", "lines have no domains";
    Meant TruncateLogFile: Bool = "0", "`truncate` of `[log]`";
    Accepted SyslogIdentityTag: Text = "", "the system's log is not written to";
    Accepted ProtocolWarnings: Bool = "0", "what peers do wrong is told at debug";
    Accepted HeartbeatPeriod: Interval = "6 hours", "there is no line of heartbeat";
    Accepted MaxUnparseableDescSizeToLog: Size = "10 MB", "what cannot be parsed is not kept";
    Meant PidFile: Path = "", "the number of the process goes there, and the file ends with it";
    Meant RunAsDaemon: Bool = "0", "the process goes to the background";
    Meant User: Text = "", "taken where the process is of that user already";
    Accepted KeepBindCapabilities: AutoBool = "auto", "users are not changed";
    Meant MaxMemInQueues: Size = "0", "`max_memory`; 0 is what suits the machine";
    Meant ConnLimit: Number = "1000",
        "as many descriptors as may be open, or the process does not begin";
    Accepted DisableOOSCheck: Bool = "1", "connections are bounded otherwise";
    Refused DisableAllSwap: Bool = "0", "memory is not locked";
    Meant DisableDebuggerAttachment: Bool = "1", "debuggers may not attach to the process";
    Accepted HardwareAccel: Bool = "0", "what the processor has is used";
    Accepted AvoidDiskWrites: Bool = "0", "little is written";
    Meant Sandbox: Bool = "0", "system calls that a node does not make are refused";
    Meant NoExec: Bool = "0", "no other program is started";
    Accepted Schedulers: Words = "KIST,KISTLite,Vanilla", "there is one scheduler";
    Accepted KISTSchedRunInterval: Millis = "0 msec", "there is one scheduler";
    Accepted KISTSockBufSizeFactor: Float = "1.0", "there is one scheduler";
    Accepted CircuitPriorityHalflife: Float = "-1.0", "the network says it";
    Accepted ConstrainedSockets: Bool = "0", "buffers of sockets are the system's";
    Accepted ConstrainedSockSize: Size = "8192", "buffers of sockets are the system's";
    Accepted TokenBucketRefillInterval: Millis = "100 msec",
        "bounds of traffic are kept at each moment";
    Accepted KeepalivePeriod: Interval = "5 minutes", "links are kept alive by their padding";
    Accepted ShutdownWaitLength: Interval = "30 seconds", "the process ends at once";
    Meant OutboundBindAddress: Lines = "",
        "`outbound_bind_address` of a client, `listen` of a relay";
    Meant OutboundBindAddressOR: Lines = "", "as OutboundBindAddress, and before it";
    Meant OutboundBindAddressExit: Lines = "",
        "`outbound_bind_address_exit` of a relay; as OutboundBindAddress without it";
    Accepted OutboundBindAddressPT: Lines = "", "transports choose their address themselves";
    Refused AddressDisableIPv6: Bool = "0", "IPv6 is used where it is asked for";
    Meant MetricsPort: Lines = "", "`metrics`";
    Meant __MetricsPort: Lines = "", "as MetricsPort";
    Meant MetricsPortPolicy: Lines = "", "`metrics_policy`";
    Accepted MainloopStats: Bool = "0", "there is no such loop";
    Accepted RephistTrackTime: Interval = "24 hours", "histories have a length of their own";
}
