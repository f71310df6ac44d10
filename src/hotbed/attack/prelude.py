"""The helpers that stand before every case's program, as the source text they are.

They run inside the sandbox, as user code. Names:

    refused(what=deed, ...)   "held" if every deed raises OSError
    denied(call, *arguments)  "held" if the filter of system calls refuses it: EPERM or ENOSYS
    worst(verdict, ...)       the first that is not "held"
    call(name, *arguments)    a system call by name; OSError if it fails
    something(got)            what was got; OSError if it is empty
    forked(deed)              run a deed in a forked process: its exit status, or -N for signal N
    child(deed)               start a forked process that runs a deed and then ends: its pid
    alone()                   whether this is a pid namespace of its own
    others()                  the pids that /proc shows, without this process
    channel()                 the descriptor of the socket to the engine
    frame(kind, meta, body)   a message as the engine's own code would write it
    machine_code(bytes)       a function of machine code
"""

from __future__ import annotations

PRELUDE = r'''
import contextlib, ctypes, errno, gc, json, mmap, os, platform, resource, select, signal, socket, stat, struct
import subprocess, sys, threading, time

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_NUMBERS = {  # x86-64, arm64; -1 where there is none
    "socket": (41, 198), "clone": (56, 220), "fcntl": (72, 25), "ioctl": (16, 29), "prctl": (157, 167),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "timer_create": (222, 107),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "swapon": (167, 224), "swapoff": (168, 225),
    "reboot": (169, 142), "sethostname": (170, 161), "setdomainname": (171, 162), "syslog": (103, 116),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "acct": (163, 89), "quotactl": (179, 60),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "personality": (135, 92),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "fanotify_init": (300, 262),
    "open_by_handle_at": (304, 265), "lookup_dcookie": (212, 18), "ioprio_set": (251, 30),
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "move_pages": (279, 239), "migrate_pages": (256, 238),
    "modify_ldt": (154, -1), "iopl": (172, -1), "ioperm": (173, -1),
    **{name: (number, number) for name, number in {
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
        "move_mount": 429, "fsopen": 430, "fsmount": 432, "fspick": 433, "clone3": 435, "openat2": 437,
        "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443,
        "memfd_secret": 447, "process_mrelease": 448}.items()},
}
_COLUMN = {"x86_64": 0, "aarch64": 1}.get(platform.machine(), 0)


def number_of(name):
    return _NUMBERS[name][_COLUMN]


def _word(value):
    if isinstance(value, int):
        return ctypes.c_long(value)
    return ctypes.c_char_p(value) if isinstance(value, bytes) else value


def call(name, *arguments):
    number = name if isinstance(name, int) else number_of(name)
    got = _libc.syscall(ctypes.c_long(number), *map(_word, arguments))
    if got == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return got


def refused(**deeds):
    for what, deed in deeds.items():
        try:
            got = deed()
        except OSError:
            continue
        return f"escaped: {what}: {got!r:.80}"
    return "held"


def denied(name, *arguments):
    if isinstance(name, str) and number_of(name) < 0:
        return "held"  # this machine has no such call
    try:
        got = call(name, *arguments)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS):
            return "held"
        got = f"it was let through and failed with {errno.errorcode.get(error.errno)}"
    return f"escaped: {name}: {got}"


def worst(*verdicts):
    return next((verdict for verdict in verdicts if verdict != "held"), "held")


def child(deed):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = deed() or 0
        finally:
            os._exit(status if isinstance(status, int) else 1)
    return pid


def forked(deed):
    return os.waitstatus_to_exitcode(os.waitpid(child(deed), 0)[1])


def something(got):
    if got:
        return got
    raise OSError("nothing was there")


def others():
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    except OSError:
        return []


def alone():
    return len(others()) < 4


def channel():
    for name in sorted(map(int, os.listdir("/proc/self/fd"))):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(name).st_mode):
                return name
    raise OSError("no socket")


def frame(kind, meta=b"", body=b"", meta_size=None, body_size=None):
    sizes = (len(meta) if meta_size is None else meta_size, len(body) if body_size is None else body_size)
    return struct.pack("<BxxxIQ", kind, *sizes) + meta + body


ANSWER = 18
META = {"status": "ok", "error": None, "text": "", "exit_code": 0, "import_s": 0.0, "run_s": 0.0,
        "cpu_s": 0.0, "peak_bytes": 0, "imports": []}


def answer(body=b'"held"', **meta):
    return frame(ANSWER, json.dumps({**META, **meta}).encode(), body)


def machine_code(code):
    page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_long)(address)


class Tally:
    """Counts across forked processes: a byte in a pipe each."""

    def __init__(self):
        self.r, self.w = os.pipe()
        os.set_blocking(self.r, False)
        self.count = 0

    def add(self):
        os.write(self.w, b"x")

    def total(self):
        with contextlib.suppress(BlockingIOError):
            while got := len(os.read(self.r, 65536)):
                self.count += got
        return self.count


def hold():
    while True:
        signal.pause()


def end(pids):
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
'''
