"""System calls that no program of data needs, and that sandboxes were broken with.

The arguments are such that a call which is let through does nothing: it fails with another errno
than the filter's, and that is the escape.
"""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.guards import Guard
from hotbed.model import Status

_case = partial(Case, group=Group.CALLS, needs=(Guard.CALLS,))

CASES = (
    _case(
        name="mount-something",
        law="Nothing is mounted, remounted or unmounted by the older calls.",
        code="""
            MS_REMOUNT, MS_BIND, MS_MOVE = 32, 4096, 8192
            os.mkdir("here")
            result = worst(denied("mount", b"none", b"/no-such-place", b"tmpfs", 0, 0),
                           denied("mount", b"none", b"/no-such-place", 0, MS_REMOUNT | MS_BIND, 0),
                           denied("mount", b"/proc", b"/no-such-place", 0, MS_MOVE, 0),
                           denied("umount2", b"/no-such-place", 2))
        """,
    ),
    _case(
        name="mount-by-the-newer-calls",
        law="The calls that came later mount nothing either (CVE-2021-41133).",
        code="""
            result = worst(denied("fsopen", 0, -1), denied("fsmount", -1, 0, 0), denied("fspick", -1, 0, -1),
                           denied("open_tree", -1, 0, -1), denied("move_mount", -1, 0, -1, 0, -1),
                           denied("mount_setattr", -1, 0, -1, 0, 0))
        """,
    ),
    _case(
        name="change-the-root",
        law="Neither chroot nor pivot_root is permitted.",
        code="""
            result = worst(denied("chroot", b"/no-such-place"), denied("pivot_root", b"/no", b"/no"))
        """,
    ),
    _case(
        name="make-a-user-namespace",
        law="No new user namespace, in which it would have every capability.",
        code="""
            CLONE_NEWUSER = 0x10000000
            def unshare():
                call("unshare", CLONE_NEWUSER)
                return 7
            def clone():
                pid = call("clone", CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
                if pid == 0:
                    os._exit(0)
                return 7
            ends = [forked(unshare), forked(clone)]
            result = f"escaped: {ends}" if 7 in ends else "held"
        """,
    ),
    _case(
        name="make-other-namespaces",
        law="No new mount, network, process, cgroup, time or other namespace.",
        code="""
            kinds = {"mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000,
                     "pid": 0x20000000, "net": 0x40000000, "time": 0x80}
            def unshare(kind):
                call("unshare", kind)
                return 7
            ends = {name: forked(lambda: unshare(kind)) for name, kind in kinds.items()}
            result = f"escaped: {ends}" if 7 in ends.values() else "held"
        """,
    ),
    _case(
        name="hide-clone-flags-in-memory",
        law="clone3, whose flags no filter can see, does not exist.",
        code="""
            arguments = struct.pack("11Q", 0x10000000, *[0] * 10)
            result = denied("clone3", arguments, 0)
        """,
    ),
    _case(
        name="hide-a-call-in-high-bits",
        law="A call's number with bits that the kernel ignores is the same call to the filter.",
        code="""
            result = worst(denied(1 << 32 | number_of("ptrace"), 0x4206, 2**22, 0, 0),
                           denied(1 << 32 | number_of("bpf"), 99, 0, 0))
        """,
    ),
    _case(
        name="call-as-a-32-bit-program",
        law="The entry for 32-bit programs does not lead around the filter.",
        code="""
            def getpid():  # push rbx; mov eax, 20; int 0x80; pop rbx; ret
                return int(machine_code(bytes.fromhex("53b814000000cd805bc3"))() == os.getpid()) * 7
            ended = forked(getpid) if platform.machine() == "x86_64" else 0
            result = "escaped: int 0x80 is answered" if ended == 7 else "held"
        """,
    ),
    _case(
        name="call-by-x32-numbers",
        law="The numbers of the x32 calls do not lead around the filter.",
        code="""
            X32 = 0x40000000
            def getpid():
                return int(call(X32 | 39) == os.getpid()) * 7
            ended = forked(getpid) if platform.machine() == "x86_64" else 0
            result = "escaped: x32 is answered" if ended == 7 else "held"
        """,
    ),
    _case(
        name="call-unknown-numbers",
        law="A call that the filter does not know does not exist, so that newer kernels add nothing.",
        code="""
            def unknown(number):
                try:
                    call(number, -1, -1, -1, -1, -1, -1)
                except OSError as error:
                    return error.errno
            refusals = (errno.ENOSYS, errno.EPERM)
            found = [number for number in range(463, 600) if unknown(number) not in refusals]
            result = f"escaped: {found[:8]}" if found else "held"
        """,
    ),
    _case(
        name="use-io-uring",
        law="No ring whose operations no filter sees.",
        code="""
            result = worst(denied("io_uring_setup", 0, 0), denied("io_uring_enter", -1, 0, 0, 0, 0, 0),
                           denied("io_uring_register", -1, 0, 0, 0))
        """,
    ),
    _case(
        name="load-a-bpf-program",
        law="No program is loaded into the kernel.",
        code="""
            result = worst(denied("bpf", 5, 0, 0), denied("bpf", 0, 0, 0))
        """,
    ),
    _case(
        name="measure-the-kernel",
        law="No performance counters: perf_event_open has a long record of holes.",
        code="""
            result = denied("perf_event_open", 0, 0, -1, -1, 0)
        """,
    ),
    _case(
        name="handle-page-faults",
        law="No userfaultfd, which makes races in the kernel winnable.",
        code="""
            result = denied("userfaultfd", -1)
        """,
    ),
    _case(
        name="use-keyrings",
        law="The kernel's keys, which belong to no namespace, are not reached.",
        code="""
            result = worst(denied("add_key", 0, 0, 0, 0, 0), denied("request_key", 0, 0, 0, 0),
                           denied("keyctl", 99, 0, 0, 0, 0), denied("keyctl", 0, -3, 0, 0, 0))
        """,
    ),
    _case(
        name="trace-its-own-child",
        law="ptrace is refused for its own children too: it rewrites calls behind the filter.",
        code="""
            result = worst(denied("ptrace", 99, 0, 0, 0), denied("ptrace", 0x4206, 2**22, 0, 0))
        """,
    ),
    _case(
        name="reach-into-processes",
        law="The calls that read, write, compare or steer other processes are refused as such.",
        code="""
            me = os.getpid()
            result = worst(denied("process_vm_readv", 2**22, 0, 0, 0, 0, 0),
                           denied("process_vm_writev", 2**22, 0, 0, 0, 0, 0),
                           denied("pidfd_getfd", -1, 0, 0), denied("kcmp", me, me, 99, 0, 0),
                           denied("process_madvise", -1, 0, 0, 0, 0), denied("process_mrelease", -1, 0))
        """,
    ),
    _case(
        name="load-kernel-code",
        law="No module and no kernel is loaded.",
        code="""
            result = worst(denied("init_module", 0, 0, 0), denied("finit_module", -1, 0, 0),
                           denied("delete_module", 0, 0), denied("kexec_load", 0, 0, 0, 0),
                           denied("kexec_file_load", -1, -1, 0, 0, 0))
        """,
    ),
    _case(
        name="stop-the-machine",
        law="The machine is not restarted, and its swap, accounting and quotas are left alone.",
        code="""
            result = worst(denied("reboot", 0, 0, 0, 0), denied("swapoff", 0), denied("swapon", 0, 0),
                           denied("acct", b"/no-such-place"), denied("quotactl", 0, 0, 0, 0),
                           denied("quotactl_fd", -1, 0, 0, 0))
        """,
    ),
    _case(
        name="set-the-clock",
        law="The machine's clock is not set.",
        code="""
            result = worst(denied("settimeofday", 0, 0), denied("clock_settime", 0, 0))
        """,
    ),
    _case(
        name="talk-to-the-hardware",
        law="No ports of hardware and no segments of memory.",
        code="""
            result = worst(denied("iopl", 3), denied("ioperm", 0, 1, 1), denied("modify_ldt", 0, 0, 0))
        """,
    ),
    _case(
        name="read-the-kernels-log",
        law="The kernel's messages, which hold addresses, are not read.",
        code="""
            result = worst(denied("syslog", 10, 0, 0), denied("syslog", 3, 0, 0))
        """,
    ),
    _case(
        name="watch-the-file-system",
        law="No watch over all files of a mount, and no handle to a file.",
        code="""
            result = worst(denied("fanotify_init", -1, 0), denied("open_by_handle_at", -1, 0, 0),
                           denied("lookup_dcookie", 0, 0, 0))
        """,
    ),
    _case(
        name="move-pages",
        law="Pages of memory are not moved between nodes, its own or others'.",
        code="""
            result = worst(denied("move_pages", 2**22, 0, 0, 0, 0, 0),
                           denied("migrate_pages", 2**22, 0, 0, 0))
        """,
    ),
    _case(
        name="change-the-persona",
        law="No address space without randomness, and no old binary format.",
        code="""
            ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC = 0x40000, 0x400000
            result = worst(denied("personality", ADDR_NO_RANDOMIZE), denied("personality", READ_IMPLIES_EXEC))
        """,
    ),
    _case(
        name="type-into-a-terminal",
        law="No key is pushed into a terminal's input (CVE-2017-5226), with high bits set either.",
        code="""
            TIOCSTI, TIOCLINUX = 0x5412, 0x541C
            result = worst(*(denied("ioctl", 0, high | request, b"x")
                             for request in (TIOCSTI, TIOCLINUX) for high in (0, 1 << 32)))
        """,
    ),
    _case(
        name="change-its-own-image",
        law="prctl does not move what the kernel shows of the process, or its securebits.",
        code="""
            PR_SET_MM, PR_SET_SECUREBITS, PR_CAP_AMBIENT = 35, 28, 47
            result = refused(mm=lambda: call("prctl", PR_SET_MM, 8, 4096, 0, 0),
                             bits=lambda: call("prctl", PR_SET_SECUREBITS, 63, 0, 0, 0),
                             ambient=lambda: call("prctl", PR_CAP_AMBIENT, 2, 21, 0, 0))
        """,
    ),
    _case(
        name="use-system-v-objects",
        law="No shared memory, semaphore or queue that would outlive it.",
        needs=(Guard.SYSV,),
        code="""
            IPC_CREAT = 0o1000
            result = refused(memory=lambda: call("shmget", 0x68627461, 4096, IPC_CREAT | 0o600),
                             semaphores=lambda: call("semget", 0x68627461, 1, IPC_CREAT | 0o600),
                             queue=lambda: call("msgget", 0x68627461, IPC_CREAT | 0o600))
        """,
        harmless=False,  # they would stay on the host
    ),
    _case(
        name="use-posix-queues",
        law="No message queue, whose memory is counted to nobody.",
        code="""
            result = denied("mq_open", b"", 0, 0, 0)
        """,
    ),
    _case(
        name="hide-memory",
        law="No memory that the kernel itself cannot read.",
        code="""
            result = denied("memfd_secret", -1)
        """,
    ),
    _case(
        name="install-its-own-filter",
        law="A filter of its own takes nothing of the sandbox's away.",
        code="""
            def install():
                PR_SET_SECCOMP, ALLOW = 22, 0x7FFF0000
                program = struct.pack("HBBI", 6, 0, 0, ALLOW)
                buffer = ctypes.create_string_buffer(program, len(program))
                fprog = struct.pack("HxxxxxxP", 1, ctypes.addressof(buffer))
                with contextlib.suppress(OSError):
                    call("prctl", PR_SET_SECCOMP, 2, fprog, 0, 0)
                return 0 if denied("bpf", 5, 0, 0) == "held" else 7
            result = "escaped: bpf" if forked(install) == 7 else "held"
        """,
    ),
    _case(
        name="call-from-another-thread",
        law="The filter holds for threads started later, and for their children.",
        code="""
            found = []
            def try_it():
                found.append(denied("bpf", 5, 0, 0))
                ended = forked(lambda: denied("bpf", 5, 0, 0) != "held")
                found.append("escaped: a child of it" if ended else "held")
            thread = threading.Thread(target=try_it)
            thread.start()
            thread.join()
            result = worst(*found)
        """,
        ends=(Status.OK,),
    ),
)
