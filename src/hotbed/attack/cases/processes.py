"""Seeing, signalling, reading and steering processes that are not its own."""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.guards import Guard
from hotbed.model import Status

_case = partial(Case, group=Group.PROCESSES)

CASES = (
    # ── seeing ──
    _case(
        name="see-processes-of-the-host",
        law="No process of the host appears in /proc.",
        needs=(Guard.PROCESSES,),
        code="""
            lines = {}
            for pid in others():
                with contextlib.suppress(OSError):
                    lines[pid] = open(f"/proc/{pid}/cmdline", "rb").read()
            found = [pid for pid, line in lines.items() if host["victim_mark"].encode() in line]
            result = f"escaped: sees {found}" if found else "held"
        """,
    ),
    _case(
        name="see-processes-of-other-executions",
        law="/proc shows the execution's own processes, and the one that guards them.",
        needs=(Guard.PROCESSES,),
        code="""
            result = "held" if others() in ([], [1]) else f"escaped: sees {len(others())} processes"
        """,
    ),
    _case(
        name="be-the-first-process",
        law="User code is not process 1, for which signals have no default.",
        needs=(Guard.ENGINE,),
        code="""
            result = "escaped: pid 1" if os.getpid() == 1 else "held"
        """,
    ),
    _case(
        name="read-memory-maps",
        law="Where another process's memory lies and what it does is not read.",
        needs=(Guard.PROCESS_MEMORY,),
        code="""
            pids = {1, os.getppid(), host["victim"], host["engine"], host["launcher"]}
            files = ("maps", "stack", "syscall", "auxv", "io", "personality", "wchan")
            def read(pid, name):
                got = open(f"/proc/{pid}/{name}", "rb").read()
                return something(got.strip(b"\\0 \\n0"))
            result = worst(*(refused(**{f"{name} of {pid}": lambda: read(pid, name)})
                             for pid in pids for name in files if pid != os.getpid()))
        """,
    ),
    _case(
        name="read-environments",
        law="No environment of another process is read.",
        needs=(Guard.PROCESS_MEMORY,),
        code="""
            found = []
            for pid in others():
                with contextlib.suppress(OSError):
                    if host["secret_variable"].encode() in open(f"/proc/{pid}/environ", "rb").read():
                        found.append(pid)
            result = f"escaped: {found}" if found else "held"
        """,
    ),
    _case(
        name="read-memory-by-proc",
        law="The memory of its guardian, parent, or a process of the host is not opened.",
        needs=(Guard.PROCESS_MEMORY,),
        code="""
            pids = {1, os.getppid(), host["victim"], host["engine"], host["launcher"]} - {os.getpid()}
            result = worst(*(refused(**{str(pid): lambda: open(f"/proc/{pid}/mem", mode, 0)})
                             for pid in pids for mode in ("rb", "r+b")))
        """,
    ),
    _case(
        name="read-memory-by-call",
        law="process_vm_readv and process_vm_writev reach no other process.",
        needs=(Guard.PROCESS_MEMORY,),
        code="""
            buffer = ctypes.create_string_buffer(8)
            vector = struct.pack("QQ", ctypes.addressof(buffer), 8)
            pids = {1, os.getppid(), host["victim"], host["engine"]} - {os.getpid()}
            result = worst(*(refused(**{f"{name} {pid}": lambda: call(name, pid, vector, 1, vector, 1, 0)})
                             for pid in pids for name in ("process_vm_readv", "process_vm_writev")))
        """,
    ),
    _case(
        name="trace-a-process",
        law="No process outside is traced.",
        needs=(Guard.PROCESS_MEMORY,),
        code="""
            attach, seize = 16, 0x4206
            pids = {1, os.getppid(), host["victim"]} - {os.getpid()}
            result = worst(*(refused(**{str(pid): lambda: call("ptrace", how, pid, 0, 0)})
                             for pid in pids for how in (attach, seize)))
        """,
        harmless=False,  # it stops its parent
    ),
    _case(
        name="take-descriptors-of-a-process",
        law="No descriptor is taken out of another process, by pidfd_getfd or /proc.",
        needs=(Guard.PROCESS_MEMORY,),
        code="""
            pids = {1, os.getppid(), host["victim"], host["engine"]} - {os.getpid()}
            def take(pid):
                return call("pidfd_getfd", os.pidfd_open(pid), 0, 0)
            def walk(pid):
                return something([os.open(f"/proc/{pid}/fd/{name}", os.O_RDONLY | os.O_NONBLOCK)
                                  for name in os.listdir(f"/proc/{pid}/fd")])
            result = worst(*(refused(**{f"{deed.__name__} {pid}": lambda: deed(pid)})
                             for pid in pids for deed in (take, walk)))
        """,
    ),
    _case(
        name="join-namespaces",
        law="The namespaces of another process are not joined.",
        needs=(Guard.CALLS,),
        code="""
            def join(pid, kind):
                return call("setns", os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY), 0)
            kinds = ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")
            result = worst(*(refused(**{f"{kind} of {pid}": lambda: join(pid, kind)})
                             for pid in {1, os.getppid(), host["victim"]} for kind in kinds),
                           *(refused(**{f"own {kind}": lambda: join("self", kind)}) for kind in kinds))
        """,
        harmless=False,
    ),
    # ── signalling ──
    _case(
        name="kill-a-process-of-the-host",
        law="No signal reaches a process of the host by its number.",
        needs=(Guard.SIGNALS,),
        code="""
            result = worst(*(refused(**{f"probe {pid}": lambda: os.kill(pid, 0)})
                             for pid in (host["victim"], host["engine"], host["launcher"])
                             if pid > 1 and not os.path.exists(f"/proc/self/task/{pid}")))
            if result == "held":
                result = refused(kill=lambda: os.kill(host["victim"], signal.SIGKILL))
        """,
    ),
    _case(
        name="signal-by-other-calls",
        law="tgkill, rt_sigqueueinfo and a pidfd reach no more than kill does.",
        needs=(Guard.SIGNALS,),
        code="""
            pid, info = host["victim"], struct.pack("iii", 10, 0, -1) + bytes(116)
            result = refused(
                tgkill=lambda: call("tgkill", pid, pid, signal.SIGTERM),
                queue=lambda: call("rt_sigqueueinfo", pid, signal.SIGTERM, info),
                pidfd=lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGTERM),
                group=lambda: os.killpg(pid, signal.SIGTERM))
        """,
    ),
    _case(
        name="signal-the-guardian",
        law="Neither the parent nor the first process of its namespace is stopped or ended.",
        needs=(Guard.SIGNALS,),
        code="""
            for pid in {1, os.getppid()} - {0}:
                for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGSTOP, signal.SIGKILL):
                    with contextlib.suppress(OSError):
                        os.kill(pid, number)
            time.sleep(0.02)
            result = "held"  # the guardian's end would be its own
        """,
        harmless=False,  # it kills its template
    ),
    _case(
        name="signal-every-number",
        law="Of all small process numbers, its own alone can be signalled.",
        needs=(Guard.SIGNALS,),
        code="""
            found = []
            for pid in set(range(2, 4000)) - {os.getpid()}:
                with contextlib.suppress(OSError):
                    os.kill(pid, 0)
                    found.append(pid)
            result = f"escaped: {found[:8]}" if found else "held"
        """,
    ),
    _case(
        name="kill-everything",
        law="A signal to every process ends none but its own.",
        needs=(Guard.PROCESSES, Guard.SIGNALS),
        harmless=False,
        code="""
            if not alone():
                result = "escaped: sees others, so it was not tried"
            else:
                with contextlib.suppress(OSError):
                    os.kill(-1, signal.SIGKILL)
                result = "held"
        """,
    ),
    _case(
        name="have-the-kernel-signal-for-it",
        law="Signals on input (F_SETOWN), which the kernel sends, reach nobody else.",
        needs=(Guard.SIGNALS,),
        code="""
            import fcntl
            F_SETSIG, FIOSETOWN = 10, 0x8901
            def by_fcntl(near, pid):
                fcntl.fcntl(near, fcntl.F_SETOWN, pid)
            def by_ioctl(near, pid):
                fcntl.ioctl(near, FIOSETOWN, struct.pack("i", pid))
            for pid in {1, os.getppid(), host["victim"]} - {0, os.getpid()}:
                for own in (by_fcntl, by_ioctl):
                    near, far = socket.socketpair()
                    with contextlib.suppress(OSError):
                        own(near, pid)
                        fcntl.fcntl(near, F_SETSIG, signal.SIGUSR1)
                        fcntl.fcntl(near, fcntl.F_SETFL, os.O_ASYNC)
                        far.send(b"x")
            result = "held"
        """,
        harmless=False,  # SIGUSR1 ends its template; whether the victim lives is checked outside
    ),
    _case(
        name="leave-a-child-to-its-parent",
        law="A process made as a child of its own parent (CLONE_PARENT) does not outlive it.",
        needs=(Guard.ENGINE,),
        code="""
            CLONE_PARENT = 0x8000
            with contextlib.suppress(OSError):
                if call("clone", CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0) == 0:
                    hold()
            result = "held"
        """,
    ),
    # ── steering ──
    _case(
        name="slow-down-a-process",
        law="Priority, scheduling, cores and I/O class of other processes stay as they are.",
        needs=(Guard.SCHEDULING,),
        code="""
            pid = host["victim"]
            result = refused(nice=lambda: os.setpriority(os.PRIO_PROCESS, pid, 10),
                             cores=lambda: os.sched_setaffinity(pid, {0}),
                             idle=lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)),
                             input_output=lambda: call("ioprio_set", 1, pid, 3 << 13))
        """,
    ),
    _case(
        name="slow-down-a-user",
        law="A priority for all processes of a user changes none outside.",
        needs=(Guard.SCHEDULING,),
        code="""
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_USER, 0, 5)
            result = "held"  # the victim's own priority is checked outside
        """,
        harmless=False,
    ),
    _case(
        name="slow-down-the-first-process",
        law="The first process of its namespace, which serves later executions too, is not slowed down.",
        needs=(Guard.SCHEDULING, Guard.PROCESSES),
        code="""
            result = refused(nice=lambda: os.setpriority(os.PRIO_PROCESS, 1, 19),
                             cores=lambda: os.sched_setaffinity(1, {0}),
                             idle=lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)),
                             input_output=lambda: call("ioprio_set", 1, 1, 3 << 13))
        """,
        harmless=False,
    ),
    _case(
        name="limit-a-process",
        law="No resource limit of another process is set.",
        needs=(Guard.SCHEDULING,),
        code="""
            pids = {os.getppid(), host["victim"], host["launcher"]} - {0, 1, os.getpid()}
            def limit(pid):
                return resource.prlimit(pid, resource.RLIMIT_NOFILE, (64, 64))
            result = worst(*(refused(**{str(pid): lambda: limit(pid)}) for pid in pids))
        """,
        harmless=False,
    ),
    _case(
        name="starve-its-guardian",
        law="Limits set on the first process of its namespace end nobody but itself.",
        needs=(Guard.PROCESSES,),
        ends=(Status.OK, Status.CRASHED),
        code="""
            for name in ("NOFILE", "DATA", "STACK", "CPU"):
                with contextlib.suppress(OSError):
                    resource.prlimit(1, getattr(resource, f"RLIMIT_{name}"), (0, 0))
            time.sleep(0.02)
            result = "held"
        """,
        harmless=False,
    ),
    _case(
        name="raise-its-own-priority",
        law="It gets no higher priority and no real-time scheduling.",
        needs=(Guard.PRIVILEGES,),
        code="""
            fifo = os.sched_param(1)
            result = refused(nice=lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
                             fifo=lambda: os.sched_setscheduler(0, os.SCHED_FIFO, fifo),
                             round_robin=lambda: os.sched_setscheduler(0, os.SCHED_RR, fifo))
        """,
    ),
    _case(
        name="escape-the-out-of-memory-killer",
        law="It does not declare itself unkillable.",
        needs=(Guard.PRIVILEGES,),
        code="""
            result = refused(adj=lambda: open("/proc/self/oom_score_adj", "w", 1).write("-1000\\n"))
        """,
    ),
    _case(
        name="raise-its-limits",
        law="No hard limit of resources is raised.",
        needs=(Guard.PRIVILEGES,),
        code="""
            def higher(kind):
                soft, hard = resource.getrlimit(kind)
                if hard == resource.RLIM_INFINITY:
                    raise OSError("there is none to raise")
                return resource.setrlimit(kind, (hard, hard + 1))
            def tried(kind):
                try:
                    return higher(kind)
                except ValueError as error:  # what Python makes of EPERM
                    raise OSError from error
            kinds = [name for name in dir(resource) if name.startswith("RLIMIT_")]
            result = worst(*(refused(**{name: lambda: tried(getattr(resource, name))}) for name in kinds))
        """,
    ),
)
