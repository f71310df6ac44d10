"""Which system calls confined code may make: the policy, its BPF program, and how it is loaded.

Law: what is not allowed by name is refused. A call that could reach out of the sandbox answers
EPERM. One that is merely not needed, or unknown to us, answers ENOSYS, as on a kernel without it,
so that programs fall back. A call by another calling convention (a 32-bit one by `int 0x80`) ends
the process: nothing here makes one by accident, and its numbers mean other calls.

The program is a binary search over ranges of numbers that share a verdict. When a filter is loaded,
the kernel walks it once for every number, to note those that are always allowed (5.11 and later);
only the others run it at each call. A template loads it before any package's code runs, and its
children inherit it. Loading one in each child would cost it 0.25 ms for 110 instructions, 0.37 ms
with one range tested after the other, 0.83 ms with one number after the other, 0.18 ms for a
filter of a single instruction (medians of 300 forked children, a virtual machine of 2 cores,
Linux 6.18).
"""

from __future__ import annotations

import array
import errno
import stat
import struct
from collections.abc import Iterable
from typing import NamedTuple

from .. import kernel
from .syscalls import NUMBERS

# AUDIT_ARCH_*: the number of the ELF machine, and two bits for 64-bit and little endian.
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Verdicts, as the kernel's SECCOMP_RET_* has them.
ALLOW = 0x7FFF0000
KILL = 0x80000000
_ERRNO = 0x00050000
EPERM = _ERRNO | errno.EPERM
ENOSYS = _ERRNO | errno.ENOSYS
DONE = _ERRNO  # the call is not made, and its caller sees success

_ALLOWED = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek sendfile splice tee
    copy_file_range open openat openat2 creat close close_range dup dup2 dup3 flock pipe pipe2
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait
    epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime
    memfd_create

    stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink readlinkat
    getdents getdents64 getcwd chdir fchdir rename renameat renameat2 mkdir mkdirat rmdir link linkat
    unlink unlinkat symlink symlinkat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat
    umask utime utimes futimesat utimensat truncate ftruncate fallocate fsync fdatasync
    sync_file_range readahead fadvise64 setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr
    listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr

    mmap munmap mremap mprotect madvise msync mincore brk mlock mlock2 munlock mlockall munlockall
    membarrier mseal map_shadow_stack pkey_alloc pkey_free pkey_mprotect
    get_mempolicy set_mempolicy mbind set_mempolicy_home_node

    fork vfork execve execveat exit exit_group wait4 waitid set_tid_address
    set_robust_list get_robust_list rseq arch_prctl
    futex futex_waitv futex_wake futex_wait futex_requeue
    getpid getppid gettid getpgrp getpgid setpgid getsid setsid pidfd_open pidfd_send_signal
    kill tkill tgkill rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait
    rt_sigqueueinfo rt_tgsigqueueinfo rt_sigsuspend sigaltstack pause restart_syscall
    getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid
    setresuid setresgid setfsuid setfsgid setgroups capget capset
    landlock_create_ruleset landlock_add_rule landlock_restrict_self
    getrlimit setrlimit getrusage times sysinfo uname getcpu getrandom
    sched_yield sched_setaffinity sched_getaffinity sched_setparam sched_getparam sched_setscheduler
    sched_getscheduler sched_setattr sched_getattr sched_get_priority_max sched_get_priority_min
    sched_rr_get_interval getpriority setpriority ioprio_get ioprio_set
    time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep alarm getitimer setitimer

    bind listen accept accept4 connect getsockname getpeername setsockopt getsockopt shutdown
    sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg
"""

# Not here, so ENOSYS: SysV and POSIX message queues, semaphores and shared memory, since a
# template's children share one ipc namespace (a kernel can be built without them, and libraries know
# it); io_setup and its like, whose contexts are counted for the whole host; vmsplice, which lends out
# pages of memory shared by a fork; move_pages and migrate_pages, which reach other processes; inotify
# and POSIX timers, whose tables are counted by user, so that one execution could take all there are
# from its siblings and from the host (setitimer and timerfd are not).
_REFUSED = """
    mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount open_tree open_tree_attr
    mount_setattr unshare setns
    ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd
    bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register
    add_key request_key keyctl
    name_to_handle_at open_by_handle_at fanotify_init fanotify_mark lookup_dcookie quotactl
    quotactl_fd nfsservctl
    kexec_load kexec_file_load create_module init_module finit_module delete_module get_kernel_syms
    query_module reboot swapon swapoff acct iopl ioperm modify_ldt _sysctl syslog vhangup
    settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname
"""


class Look(NamedTuple):
    """A verdict that hangs on one 32-bit word of the call's arguments, as in a `match`."""

    word: int
    cases: tuple[tuple[int, Verdict], ...]
    otherwise: Verdict
    mask: int = 0xFFFFFFFF


Verdict = int | Look


def low(argument: int) -> int:
    """Where the low half of an argument (counted from 0) stands in struct seccomp_data.

    The low half alone is right for what the kernel itself cuts to 32 bits or fewer: int, unsigned
    int, umode_t, pid_t, and clone's flags. The other half is then the caller's to fill with anything.
    """
    return 16 + 8 * argument


def high(argument: int) -> int:
    return low(argument) + 4


def _among(allowed: Iterable[int]) -> tuple[tuple[int, Verdict], ...]:
    return tuple((value, ALLOW) for value in allowed)


_CLONE_NEW = 0x7E020000  # a new mount, cgroup, uts, ipc, user, pid or network namespace
# A sibling of the caller, which is none of its tree: it would outlive the execution unnoticed.
_CLONE_PARENT = 0x8000
_FILE_TYPE = 0o170000  # of a mode
_NO_DEVICE = _among([0, stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK])  # 0 is a regular file too
# Put words into a terminal's input; paste a console's selection there; load a line discipline's code.
_TIOCSTI, _TIOCLINUX, _TIOCSETD = 0x5412, 0x541C, 0x5423
_FS_IOC_SETFLAGS, _FS_IOC_FSSETXATTR, _FS_IOC_ENABLE_VERITY = 0x40086602, 0x401C5820, 0x40806685
_F_SETLEASE, _F_NOTIFY = 1024, 1026
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_MM, _PR_SCHED_CORE = 35, 62  # forge one's own layout; keep a core's other thread idle
_NEW_LISTENER = 8  # SECCOMP_FILTER_FLAG_NEW_LISTENER: to answer others' calls, much code, no use here

_EXAMINED: dict[str, Verdict] = {
    "clone": Look(low(0), _among([0]), EPERM, mask=_CLONE_NEW | _CLONE_PARENT),
    # ENOSYS, not EPERM: its flags stand in memory, out of a filter's sight; libc then takes clone.
    "clone3": ENOSYS,
    "ioctl": Look(low(1), ((_TIOCSTI, EPERM), (_TIOCLINUX, EPERM), (_TIOCSETD, EPERM)), ALLOW),
    # A lease delays whoever opens the file for writing, a notice (F_NOTIFY) tells of what others do.
    "fcntl": Look(low(1), ((_F_SETLEASE, EPERM), (_F_NOTIFY, EPERM)), ALLOW),
    "mknod": Look(low(1), _NO_DEVICE, EPERM, mask=_FILE_TYPE),
    "mknodat": Look(low(2), _NO_DEVICE, EPERM, mask=_FILE_TYPE),
    # The plain one, and the question which it is: others turn off address randomisation and W^X.
    "personality": Look(low(0), _among([0, 0xFFFFFFFF]), EPERM),
    # A child adopts its orphans: they would leave its tree, in which its memory is looked at.
    "prctl": Look(
        low(0),
        (
            (_PR_SET_MM, EPERM),
            (_PR_SET_CHILD_SUBREAPER, Look(low(1), _among([1]), EPERM)),
            (_PR_SCHED_CORE, EPERM),
        ),
        ALLOW,
    ),
    # Set one's own, named as 0; ask for any. Where pids are shared with the engine, a low RLIMIT_CPU
    # would kill it. The third argument is a pointer: both its halves must be zero.
    "prlimit64": Look(low(0), _among([0]), Look(low(2), ((0, Look(high(2), _among([0]), EPERM)),), EPERM)),
    "seccomp": Look(low(1), _among([0]), EPERM, mask=_NEW_LISTENER),
    # Everybody's files, written out at one's own pleasure.
    "sync": DONE,
    "syncfs": DONE,
}

# Where the host's files are in sight: Landlock guards neither modes and owners nor times and
# attributes. Programs that set them (archives, copies) go on: what they meant to do is not done.
_KEEP_FILES: dict[str, Verdict] = {
    **dict.fromkeys(("chmod", "fchmod", "fchmodat", "fchmodat2"), DONE),
    **dict.fromkeys(("utime", "utimes", "futimesat", "utimensat"), DONE),
    **dict.fromkeys(("chown", "fchown", "lchown", "fchownat"), EPERM),
    **dict.fromkeys(("setxattr", "lsetxattr", "fsetxattr"), EPERM),
    **dict.fromkeys(("removexattr", "lremovexattr", "fremovexattr"), EPERM),
    "ioctl": Look(
        low(1),
        (
            *((_TIOCSTI, EPERM), (_TIOCLINUX, EPERM), (_TIOCSETD, EPERM)),
            *((_FS_IOC_SETFLAGS, EPERM), (_FS_IOC_FSSETXATTR, EPERM), (_FS_IOC_ENABLE_VERITY, EPERM)),
        ),
        ALLOW,
    ),
}
# Where other processes are in sight: one's own priorities, asked for as 0, and nobody else's.
_KEEP_PROCESSES: dict[str, Verdict] = {
    **{
        name: Look(low(0), _among([0]), EPERM)
        for name in ("sched_setaffinity", "sched_setparam", "sched_setscheduler", "sched_setattr")
    },
    **{
        name: Look(low(0), ((kind, Look(low(1), _among([0]), EPERM)),), EPERM)
        for name, kind in (("setpriority", 0), ("ioprio_set", 1))  # of one process
    },
}

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_STREAM, _SOCK_DGRAM, _SOCK_SEQPACKET = 1, 2, 5
_SOCK_TYPE = 0xF  # of the type; its other bits are SOCK_CLOEXEC and SOCK_NONBLOCK
_DEFAULT, _TCP, _UDP = 0, 6, 17
_NETLINK_ROUTE = 0

# The protocol counts: SOCK_STREAM is SCTP, MPTCP or SMC as well, each a module the kernel would load.
_STREAM = Look(low(2), _among([_DEFAULT, _TCP]), EPERM)
_DATAGRAM = Look(low(2), _among([_DEFAULT, _UDP]), EPERM)
_TCP_ONLY = Look(low(1), ((_SOCK_STREAM, _STREAM),), EPERM, mask=_SOCK_TYPE)
_TCP_AND_UDP = _TCP_ONLY._replace(cases=((_SOCK_STREAM, _STREAM), (_SOCK_DGRAM, _DATAGRAM)))
_UNIX_ONLY = Look(low(0), ((_AF_UNIX, ALLOW),), EPERM)
# One of a pair of datagram sockets can still be pointed at any address.
_CONNECTED = Look(low(1), _among([_SOCK_STREAM, _SOCK_SEQPACKET]), EPERM, mask=_SOCK_TYPE)

_SOCKETS: dict[str, Look] = {
    "none": _UNIX_ONLY,
    "tcp": _UNIX_ONLY._replace(
        cases=((_AF_UNIX, ALLOW), (_AF_INET, _TCP_ONLY), (_AF_INET6, _TCP_ONLY)),
    ),
    "all": _UNIX_ONLY._replace(
        cases=(
            (_AF_UNIX, ALLOW),
            (_AF_INET, _TCP_AND_UDP),
            (_AF_INET6, _TCP_AND_UDP),
            (_AF_NETLINK, Look(low(2), _among([_NETLINK_ROUTE]), EPERM)),  # which interfaces there are
        )
    ),
}


class Policy(NamedTuple):
    """What a filter is to allow, by what else confines the process.

    sockets: which a call of socket() may make: "none" Unix sockets alone; "tcp" TCP as well, but
        none that listens, since siblings share the network; "all" UDP and the interface list
        (NETLINK_ROUTE) as well. No raw one, ever.
    unix: Unix sockets are allowed. Without, pairs only, of streams and packets: where the host's
        files are in sight, its daemons' sockets are, and Landlock up to ABI 8 does not guard them.
    own_files, own_pids: the process sees no files, no processes but its own.
    memfd: memory may be had as a file; without, it would not count where no cgroup counts it.
    joins: the process may enter namespaces. The kernel lets nobody do so without a capability that
        a template has and its children give up: they inherit the template's filter.
    """

    sockets: str
    unix: bool = True
    own_files: bool = True
    own_pids: bool = True
    memfd: bool = True
    joins: bool = False


def program(machine: str, policy: Policy) -> bytes:
    """The BPF program, an array of struct sock_filter, for `machine` as os.uname() names it.

    Raises:
        OSError: ENOSYS where we have no table of the machine's calls.
    """
    if machine not in NUMBERS:
        raise OSError(errno.ENOSYS, f"no table of the system calls of {machine!r}: no seccomp filter for it")
    verdicts: dict[str, Verdict] = dict.fromkeys(_ALLOWED.split(), ALLOW)
    verdicts |= dict.fromkeys(_REFUSED.split(), EPERM)
    verdicts |= _EXAMINED
    made, pairs = _SOCKETS[policy.sockets], _UNIX_ONLY
    if not policy.unix:
        made = made._replace(cases=tuple(case for case in made.cases if case[0] != _AF_UNIX))
        pairs = Look(low(0), ((_AF_UNIX, _CONNECTED),), EPERM)
    verdicts |= {"socket": made if made.cases else EPERM, "socketpair": pairs}
    if policy.sockets == "tcp":
        verdicts["listen"] = EPERM
    verdicts |= {} if policy.own_files else _KEEP_FILES
    verdicts |= {} if policy.own_pids else _KEEP_PROCESSES
    verdicts |= {} if policy.memfd else {"memfd_create": ENOSYS}
    verdicts |= {"setns": ALLOW} if policy.joins else {}
    numbers = NUMBERS[machine]
    return compile_program(
        ARCHITECTURES[machine],
        {numbers[name]: verdict for name, verdict in verdicts.items() if name in numbers},
        otherwise=ENOSYS,
    )


def compile_program(architecture: int, verdicts: dict[int, Verdict], *, otherwise: Verdict) -> bytes:
    """The BPF program that gives each number its verdict, and every other one `otherwise`."""
    code = _Code()
    kill = code.end(KILL)
    code.search(_ranges(verdicts, otherwise))
    code.put(_LOAD, _NUMBER)
    code.put(_IF_EQUAL, architecture, code.here, kill)
    code.put(_LOAD, _ARCHITECTURE)
    return code.assembled()


class _Range(NamedTuple):
    """The numbers from `first` up to the next range; all have its verdict but the exceptions."""

    first: int
    verdict: Verdict
    exceptions: dict[int, Verdict]


def _ranges(verdicts: dict[int, Verdict], otherwise: Verdict) -> list[_Range]:
    ranges = [_Range(0, verdicts.get(0, otherwise), {})]
    for number in sorted({edge for known in verdicts for edge in (known, known + 1)}):
        verdict = verdicts.get(number, otherwise)
        last = ranges[-1]
        if verdict == last.verdict:
            continue
        if len(ranges) > 1 and verdict == ranges[-2].verdict and last.first == number - 1:
            # A single number amid others: one test for it, where two ends of ranges take two.
            ranges.pop()
            ranges[-1].exceptions[last.first] = last.verdict
        else:
            ranges.append(_Range(number, verdict, {}))
    return ranges


_NUMBER, _ARCHITECTURE = 0, 4  # where they stand in struct seccomp_data
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06  # BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_RET|K
_IF_EQUAL, _IF_AT_LEAST = 0x15, 0x35  # BPF_JMP|JEQ|K, BPF_JMP|JGE|K


class _Code:
    """A program under assembly from its end: BPF jumps forward only, so each target is known by then.

    A place is counted from the end, the last instruction being 1. A jump's reach is 255
    instructions; a program that needs more does not assemble.
    """

    def __init__(self) -> None:
        self._reversed: list[bytes] = []
        self._places: dict[Verdict, int] = {}

    @property
    def here(self) -> int:
        """The place of the instruction put last: what the next one falls through to."""
        return len(self._reversed)

    def put(self, code: int, operand: int, yes: int | None = None, no: int | None = None) -> int:
        jumps = [0 if place is None else self.here - place for place in (yes, no)]
        self._reversed.append(struct.pack("<HBBI", code, *jumps, operand))
        return self.here

    def end(self, verdict: Verdict) -> int:
        """The place of the code that gives this verdict, put there once."""
        if verdict not in self._places:
            self._places[verdict] = (
                self._look(verdict) if isinstance(verdict, Look) else self.put(_RETURN, verdict)
            )
        return self._places[verdict]

    def _look(self, look: Look) -> int:
        self._tests(dict(look.cases), look.otherwise)
        if look.mask != 0xFFFFFFFF:
            self.put(_AND, look.mask)
        return self.put(_LOAD, look.word)

    def search(self, ranges: list[_Range]) -> int:
        """The place of the code that finds the range a number is in."""
        if len(ranges) == 1:
            return self._tests(ranges[0].exceptions, ranges[0].verdict)
        middle = len(ranges) // 2
        above = self.search(ranges[middle:])
        below = self.search(ranges[:middle])
        return self.put(_IF_AT_LEAST, ranges[middle].first, above, below)

    def _tests(self, cases: dict[int, Verdict], otherwise: Verdict) -> int:
        places = {value: self.end(verdict) for value, verdict in cases.items()}
        place = self.end(otherwise)
        for value, target in reversed(places.items()):
            place = self.put(_IF_EQUAL, value, target, place)
        return place

    def assembled(self) -> bytes:
        return b"".join(reversed(self._reversed))


class Prepared(NamedTuple):
    """A program where the kernel finds it; forked children find it there too."""

    address: int  # of a struct sock_fprog
    memory: tuple[array.array[int], ...]  # what must live as long


def prepare(program: bytes) -> Prepared:
    """Lay a program out for `load`, so that a child has nothing left to do but the call.

    Raises:
        OSError: ENOSYS in a 32-bit interpreter, which the program would kill.
    """
    if struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, "a 32-bit interpreter makes system calls that the filter does not know")
    code = array.array("B", program)
    header = array.array("B", struct.pack("HP", len(program) // 8, code.buffer_info()[0]))
    return Prepared(header.buffer_info()[0], (header, code))


_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


def load(prepared: Prepared) -> None:
    """Bind this thread, and all it starts from now on, to the program; there is no way back.

    no_new_privs must be set. A thread that exists already stays free. Before Linux 5.16 this also
    turns on the kernel's defences against speculation for the thread, at a price.

    Raises:
        OSError: With the kernel's errno: EACCES without no_new_privs, EINVAL without seccomp.
    """
    kernel.prctl(_PR_SET_SECCOMP, _MODE_FILTER, prepared.address)
