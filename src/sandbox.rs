//! A sandbox of system calls (`Sandbox` and `NoExec` in tor(1); seccomp(2)): whoever takes the
//! process over finds no other program to start, nobody's memory to read, nothing to mount, load or
//! trace, and no page that he may both write and run.
//!
//! `tor` lists which calls it makes, by the versions of its libraries; here what is refused is
//! listed, so that another C library or kernel does not end the process. A call that is refused
//! fails with EPERM.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use libc::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::error::Failure;

/// Starts another program.
const EXEC: [c_long; 2] = [SYS_execve, SYS_execveat];

/// What no part of this program, and of no library that it has, asks for.
const NEVER: &[c_long] = &[
    // Other processes, and what is theirs.
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pidfd_getfd,
    SYS_kcmp,
    SYS_perf_event_open,
    SYS_bpf,
    SYS_userfaultfd,
    // Memory by other ways than mmap, in which what is written could be run.
    SYS_memfd_create,
    SYS_pkey_mprotect,
    SYS_shmat,
    SYS_fanotify_init,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    // Which this filter does not see into.
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    // Namespaces and the tree of files.
    SYS_unshare,
    SYS_setns,
    SYS_chroot,
    SYS_pivot_root,
    SYS_mount,
    SYS_umount2,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_mknodat,
    SYS_quotactl,
    // The machine.
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_syslog,
    SYS_vhangup,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    // Who one is.
    SYS_setuid,
    SYS_setgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setgroups,
    SYS_setfsuid,
    SYS_setfsgid,
    SYS_capset,
    SYS_personality,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
];

/// What processors of PCs have beside them, under numbers of their own.
#[cfg(target_arch = "x86_64")]
const MORE: &[c_long] = &[
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
    SYS_mknod,
    SYS_kexec_file_load,
    // execve, ptrace, process_vm_readv, process_vm_writev and execveat of the x32 interface.
    X32 | 520,
    X32 | 521,
    X32 | 539,
    X32 | 540,
    X32 | 545,
];
#[cfg(not(target_arch = "x86_64"))]
const MORE: &[c_long] = &[];

/// Marks calls of the x32 interface, by which a filter of numbers could be gone around.
#[cfg(target_arch = "x86_64")]
const X32: c_long = 0x4000_0000;

/// Namespaces that a new process could be in.
const NAMESPACES: [c_int; 7] = [
    CLONE_NEWNS,
    CLONE_NEWUTS,
    CLONE_NEWIPC,
    CLONE_NEWUSER,
    CLONE_NEWPID,
    CLONE_NEWNET,
    CLONE_NEWCGROUP,
];

/// Families of sockets that are in use: the last is how addresses of interfaces are asked for.
const FAMILIES: [c_int; 4] = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK];

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sandbox {
    /// Everything that is not needed (`Sandbox 1`).
    pub(crate) is_on: bool,
    /// Programs (`NoExec 1`); transports are such.
    pub(crate) no_exec: bool,
}

impl Sandbox {
    /// Enters it for good, with all threads of the process and all that they will start.
    ///
    /// # Errors
    /// The system has no such filters.
    pub(crate) fn enter(self) -> Result<(), Failure> {
        let wrong = |why: &dyn std::fmt::Display| {
            let advice = "leave Sandbox and NoExec out on this system";
            Failure::new(format!("no sandbox: {why}"), "this process", advice)
        };
        let filters = self.filters().map_err(|error| wrong(&error))?;
        filters.iter().try_for_each(|filter| {
            seccompiler::apply_filter_all_threads(filter).map_err(|error| wrong(&error))
        })
    }

    fn filters(self) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
        let mut refused: BTreeMap<c_long, Vec<SeccompRule>> = BTreeMap::new();
        let mut always = |calls: &[c_long]| {
            for call in calls {
                refused.insert(*call, Vec::new());
                #[cfg(target_arch = "x86_64")]
                refused.insert(X32 | *call, Vec::new());
            }
        };
        if self.no_exec {
            always(&EXEC);
        }
        if !self.is_on {
            return Ok(match refused.is_empty() {
                true => Vec::new(),
                false => vec![program(refused, EPERM)?],
            });
        }
        always(NEVER);
        always(MORE);
        // Below, calls are refused by their arguments; nobody needs them under their other numbers.
        #[cfg(target_arch = "x86_64")]
        for call in [SYS_socket, SYS_mmap, SYS_mprotect, SYS_clone, SYS_clone3] {
            refused.insert(X32 | call, Vec::new());
        }
        refused.insert(
            SYS_socket,
            vec![all(&FAMILIES.map(|one| (0, SeccompCmpOp::Ne, one)))?],
        );
        let within = |arg, mask: c_int| all(&[(arg, masked(mask), mask)]);
        refused.insert(SYS_mmap, vec![within(2, PROT_WRITE | PROT_EXEC)?]);
        refused.insert(SYS_mprotect, vec![within(2, PROT_EXEC)?]);
        let namespaces = NAMESPACES.iter().map(|one| within(0, *one));
        refused.insert(SYS_clone, namespaces.collect::<Result<_, _>>()?);
        // Its arguments are where no filter can look; the C library falls back to clone.
        let unseen = BTreeMap::from([(SYS_clone3, Vec::new())]);
        Ok(vec![program(refused, EPERM)?, program(unseen, ENOSYS)?])
    }
}

fn masked(mask: c_int) -> SeccompCmpOp {
    SeccompCmpOp::MaskedEq(u64::from(mask.cast_unsigned()))
}

/// The rule for a call of which all of this is so: an argument, how it compares, with what.
fn all(conditions: &[(u8, SeccompCmpOp, c_int)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions.iter().map(|(arg, op, value)| {
        let value = u64::from(value.cast_unsigned());
        SeccompCondition::new(*arg, SeccompCmpArgLen::Dword, op.clone(), value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

fn program(
    refused: BTreeMap<c_long, Vec<SeccompRule>>,
    error: c_int,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let refuse = SeccompAction::Errno(error.cast_unsigned());
    let arch = TargetArch::try_from(ARCH)?;
    SeccompFilter::new(refused, SeccompAction::Allow, refuse, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use socket2::{Domain, Type};

    use super::*;

    /// Does something in a thread that is in a sandbox, as this process is not.
    fn within<T: Send>(sandbox: Sandbox, work: impl FnOnce() -> T + Send) -> T {
        let filters = sandbox.filters().unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                for filter in &filters {
                    seccompiler::apply_filter(filter).unwrap();
                }
                work()
            });
            inside.join().unwrap()
        })
    }

    fn starts_programs() -> bool {
        match Command::new("true").status() {
            Ok(status) => status.success(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                false
            }
        }
    }

    #[test]
    fn programs_are_started_where_they_may() {
        let sandbox = |is_on, no_exec| Sandbox { is_on, no_exec };
        assert!(within(sandbox(false, false), starts_programs));
        assert!(within(sandbox(true, false), starts_programs));
        assert!(!within(sandbox(true, true), starts_programs));
        assert!(!within(sandbox(false, true), starts_programs));
    }

    #[test]
    fn what_a_node_does_goes_on() {
        let sandbox = Sandbox {
            is_on: true,
            no_exec: true,
        };
        let echoed = within(sandbox, || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let serving = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"here").unwrap();
            });
            let mut text = String::new();
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.read_to_string(&mut text).unwrap();
            serving.join().unwrap();
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("file"), &text).unwrap();
            text
        });
        assert_eq!(echoed, "here");
    }

    #[test]
    fn what_no_node_does_is_refused() {
        let sandbox = Sandbox {
            is_on: true,
            no_exec: true,
        };
        within(sandbox, || {
            let opened = |family| {
                let socket = socket2::Socket::new(Domain::from(family), Type::STREAM, None);
                socket.map(drop).map_err(|error| error.raw_os_error())
            };
            assert_eq!(opened(AF_INET), Ok(()));
            assert_eq!(opened(AF_UNIX), Ok(()));
            for family in [AF_ALG, AF_PACKET, AF_VSOCK, 1 << 20] {
                assert_eq!(opened(family), Err(Some(EPERM)), "{family}");
            }
            let rooted = rustix::process::chroot("/");
            assert_eq!(rooted.map_err(|error| error.raw_os_error()), Err(EPERM));
        });
    }
}
