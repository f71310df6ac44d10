"""Reading and writing what is not its own."""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.guards import Guard

_case = partial(Case, group=Group.FILES)

CASES = (
    # ── reading ──
    _case(
        name="read-a-host-file",
        law="A file that everybody on the host may read is not read.",
        needs=(Guard.FILES,),
        code="""
            result = refused(read=lambda: open(host["secret_file"]).read())
        """,
    ),
    _case(
        name="read-by-a-symbolic-link",
        law="A link in the work directory leads to no file outside it.",
        needs=(Guard.FILES,),
        code="""
            os.symlink(host["secret_file"], "link")
            result = refused(read=lambda: open("link").read())
        """,
    ),
    _case(
        name="read-by-dots",
        law="No number of steps up leads out of the root.",
        needs=(Guard.FILES,),
        code="""
            result = refused(read=lambda: open("../" * 80 + host["secret_file"]).read())
        """,
    ),
    _case(
        name="read-by-the-root-of-another-process",
        law="The root that /proc shows of another process leads to no host file.",
        needs=(Guard.FILES,),
        code="""
            roots = {f"/proc/{pid}/root" for pid in ("self", "thread-self", 1, os.getppid(), host["victim"])}
            result = worst(*(refused(read=lambda: open(root + host["secret_file"]).read()) for root in roots))
        """,
    ),
    _case(
        name="read-by-openat2-in-another-root",
        law="The flags of openat2 resolve no path beyond the root.",
        needs=(Guard.FILES,),
        code="""
            def by(resolve):
                how = struct.pack("QQQ", os.O_RDONLY, 0, resolve)
                fd = call("openat2", os.open("/", os.O_PATH), host["secret_file"].encode(), how, len(how))
                return os.read(fd, 100)
            result = refused(plain=lambda: by(0), in_root=lambda: by(16), no_links=lambda: by(4))
        """,
    ),
    _case(
        name="reopen-what-was-opened-as-a-path",
        law="A descriptor that names a file without opening it cannot be turned into one that reads it.",
        needs=(Guard.FILES,),
        code="""
            def reopen():
                fd = os.open(host["secret_file"], os.O_PATH)
                return open(f"/proc/self/fd/{fd}").read()
            result = refused(reopen=reopen)
        """,
    ),
    _case(
        name="open-by-file-handle",
        law="A file handle, which skips every directory, opens nothing.",
        needs=(Guard.CALLS,),
        code="""
            handle = struct.pack("Ii", 8, 1) + struct.pack("Q", 2)
            result = denied("open_by_handle_at", -100, handle, os.O_RDONLY)
        """,
    ),
    _case(
        name="stat-a-host-file",
        law="Not even the size or existence of a host file is told.",
        needs=(Guard.HIDDEN_FILES,),
        code="""
            result = refused(stat=lambda: os.stat(host["secret_file"]).st_size)
        """,
    ),
    _case(
        name="list-the-hosts-directories",
        law="Directories of the host's users and services are not listed.",
        needs=(Guard.FILES,),
        code="""
            places = ["/var/log", "/var/lib", "/run/user", "/boot", "/media", "/srv", host["directory"]]
            result = worst(*(refused(**{place: lambda: os.listdir(place)}) for place in places))
            homes = refused(homes=lambda: something(set(os.listdir("/home")) - {"box"}))
            result = worst(result, homes)
        """,
    ),
    _case(
        name="list-the-engines-directories",
        law="The directories of the engine are not listed and not entered.",
        needs=(Guard.FILES,),
        code="""
            paths = host["engine_directories"]
            result = worst(*(refused(**{path: lambda: os.listdir(path)}) for path in paths),
                           *(refused(**{path: lambda: os.listdir(os.path.dirname(path))}) for path in paths
                             if os.path.dirname(path) != "/tmp"))
        """,
    ),
    _case(
        name="read-the-hosts-accounts",
        law="Password hashes, keys and rules of the host are not read.",
        needs=(Guard.FILES,),
        code="""
            names = ["/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh/ssh_host_rsa_key",
                     "/root/.ssh/id_rsa", "/etc/machine-id", "/proc/1/environ", "/var/run/docker.sock"]
            result = worst(*(refused(**{name: lambda: open(name, "rb").read()}) for name in names))
        """,
    ),
    _case(
        name="know-the-hosts-users",
        law="The list of accounts names nobody of the host beyond root and nobody.",
        needs=(Guard.HIDDEN_FILES,),
        code="""
            result = "held"
            with contextlib.suppress(FileNotFoundError):
                names = {line.split(":")[0] for line in open("/etc/passwd")}
                result = "held" if len(names) <= 4 and "daemon" not in names else f"escaped: {names}"
        """,
    ),
    _case(
        name="find-the-hosts-paths-in-mountinfo",
        law="The table of mounts does not tell where the engine or the host's user keeps files.",
        needs=(Guard.HIDDEN_FILES,),
        code="""
            table = open("/proc/self/mountinfo").read()
            found = [path for path in (*host["engine_directories"], host["directory"]) if path in table]
            result = f"escaped: {found}" if found else "held"
        """,
    ),
    _case(
        name="walk-out-by-a-descriptor",
        law="No open descriptor is a directory from which one walks up (CVE-2024-21626).",
        needs=(Guard.DESCRIPTORS,),
        code="""
            def walk(fd):
                return os.listdir(f"/proc/self/fd/{fd}/..") and os.readlink(f"/proc/self/fd/{fd}")
            result = worst(*(refused(**{f"fd {fd}": lambda: walk(fd)}) for fd in range(256)))
        """,
    ),
    # ── writing ──
    _case(
        name="write-a-host-file",
        law="A file that everybody on the host may write is not written.",
        needs=(Guard.FILES,),
        code="""
            name = host["open_file"]
            result = refused(append=lambda: open(name, "a").write("x"), cut=lambda: os.truncate(name, 0),
                             replace=lambda: open(name, "w").write("x"))
        """,
    ),
    _case(
        name="make-and-remove-host-files",
        law="Nothing is made, renamed or removed in a directory of the host.",
        needs=(Guard.FILES,),
        code="""
            there, mine = host["directory"] + "/new", "mine"
            open(mine, "w").close()
            result = refused(make=lambda: open(there, "x"), mkdir=lambda: os.mkdir(there),
                             remove=lambda: os.unlink(host["open_file"]), link=lambda: os.link(mine, there),
                             rename=lambda: os.rename(mine, there), symlink=lambda: os.symlink("/", there),
                             fifo=lambda: os.mkfifo(there))
        """,
    ),
    _case(
        name="hard-link-a-host-file",
        law="A host file gets no second name in the work directory.",
        needs=(Guard.FILES,),
        code="""
            result = refused(link=lambda: os.link(host["secret_file"], "mine"),
                             move=lambda: os.rename(host["open_file"], "mine"))
        """,
    ),
    _case(
        name="change-modes-of-host-files",
        law="Mode, owner, times and attributes of a host file stay as they are.",
        needs=(Guard.FILE_MODES,),
        code="""
            name = host["open_file"]
            deeds = (lambda: os.chmod(name, 0o777), lambda: os.utime(name, (1, 1)),
                     lambda: os.chown(name, os.getuid(), -1), lambda: os.setxattr(name, "user.x", b"x"))
            for deed in deeds:
                with contextlib.suppress(OSError):
                    deed()
            result = "held"
            with contextlib.suppress(OSError):  # what was done counts: some are told that it was
                status = os.stat(name)
                changed = stat.S_IMODE(status.st_mode) != 0o666 or status.st_mtime == 1 or os.listxattr(name)
                result = "escaped: it is changed" if changed else "held"
        """,
    ),
    _case(
        name="write-into-the-system",
        law="No directory of the system takes a file.",
        needs=(Guard.READ_ONLY,),
        code="""
            def make(place):
                name = f"{place}/hotbed-attack-{os.getpid()}"
                open(name, "x").close()
                os.unlink(name)
                return "made"
            places = ["/", "/usr", "/usr/bin", "/usr/lib", "/usr/local/lib", "/etc", "/dev", "/opt", "/home"]
            places = filter(os.path.isdir, places)
            result = worst(*(refused(**{place: lambda: make(place)}) for place in places))
        """,
    ),
    _case(
        name="change-the-interpreter",
        law="Interpreter, standard library and packages cannot be opened for writing.",
        needs=(Guard.READ_ONLY,),
        code="""
            import sysconfig
            def make(place):
                name = os.path.join(place, f"hotbed_attack_{os.getpid()}.py")
                open(name, "x").close()
                os.unlink(name)
                return "made"
            names = [os.__file__, sys.executable, os.path.realpath(sys.executable), json.__file__]
            places = {path for path in [*sys.path, *sysconfig.get_paths().values()] if os.path.isdir(path)}
            result = worst(*(refused(**{name: lambda: open(name, "r+b")}) for name in names),
                           *(refused(**{place: lambda: make(place)}) for place in places))
        """,
    ),
    _case(
        name="plant-bytecode",
        law="No compiled file is planted beside a module that other executions import.",
        needs=(Guard.READ_ONLY,),
        code="""
            import importlib.util
            caches = {os.path.dirname(importlib.util.cache_from_source(m.__file__)) for m in (os, json)}
            def plant(cache):
                os.makedirs(cache, exist_ok=True)
                name = f"{cache}/hotbed_attack.cpython-0.pyc"
                open(name, "x").close()
                os.unlink(name)
                return "planted"
            result = worst(*(refused(**{cache: lambda: plant(cache)}) for cache in caches))
        """,
    ),
    _case(
        name="lease-the-interpreter",
        law="No lease on a file that it reads delays those who change it.",
        needs=(Guard.CALLS,),
        code="""
            import fcntl
            result = denied("fcntl", os.open(os.__file__, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)
        """,
    ),
    _case(
        name="overwrite-the-running-program",
        law="The program that runs is not overwritten through /proc/self/exe (CVE-2019-5736).",
        needs=(Guard.READ_ONLY,),
        code="""
            fd = os.open("/proc/self/exe", os.O_PATH)
            result = refused(exe=lambda: open("/proc/self/exe", "r+b"),
                             reopened=lambda: open(f"/proc/self/fd/{fd}", "r+b"))
        """,
    ),
    _case(
        name="write-kernel-settings",
        law="Settings that act on the whole machine are not opened for writing.",
        needs=(Guard.SYSTEM,),
        code="""
            names = ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/kernel/hostname",
                     "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches", "/proc/sys/fs/file-max",
                     "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/pid_max", "/proc/irq/0/smp_affinity",
                     "/proc/sys/net/ipv4/ip_forward", "/sys/kernel/uevent_helper", "/proc/1/oom_score_adj"]
            result = worst(*(refused(**{name: lambda: os.open(name, os.O_WRONLY)}) for name in names))
        """,
    ),
    _case(
        name="read-the-kernels-memory",
        law="Memory, log and keys of the kernel are not read.",
        needs=(Guard.SYSTEM, Guard.USER),
        code="""
            names = ["/proc/kcore", "/proc/kmsg", "/proc/kpagecount", "/proc/vmallocinfo", "/dev/mem",
                     "/dev/kmsg", "/dev/port", "/sys/kernel/debug/tracing/trace", "/proc/slabinfo"]
            result = worst(*(refused(**{name: lambda: open(name, "rb", 0).read(1)}) for name in names))
        """,
    ),
    _case(
        name="reach-control-groups",
        law="The control groups are not seen, and no release agent is set (CVE-2022-0492).",
        needs=(Guard.SYSTEM,),
        code="""
            result = worst(refused(list=lambda: something(os.listdir("/sys/fs/cgroup"))),
                           refused(agent=lambda: os.open("/sys/fs/cgroup/memory/release_agent", os.O_WRONLY)),
                           refused(leave=lambda: os.open("/sys/fs/cgroup/cgroup.procs", os.O_WRONLY)))
        """,
    ),
    # ── devices ──
    _case(
        name="make-a-device",
        law="No device file is made.",
        needs=(Guard.PRIVILEGES,),
        code="""
            def make(kind, *numbers):
                os.mknod("device", kind | 0o600, os.makedev(*numbers))
                os.unlink("device")
                return "made"
            result = refused(disk=lambda: make(stat.S_IFBLK, 8, 0), memory=lambda: make(stat.S_IFCHR, 1, 1),
                             whiteout=lambda: make(stat.S_IFCHR, 0, 0), tty=lambda: make(stat.S_IFCHR, 5, 0))
        """,
    ),
    _case(
        name="find-devices",
        law="/dev holds nothing but null, zero, full, random and urandom.",
        needs=(Guard.HIDDEN_FILES,),
        code="""
            harmless = {"null", "zero", "full", "random", "urandom", "fd", "stdin", "stdout", "stderr", "shm"}
            found = set(os.listdir("/dev")) - harmless
            result = f"escaped: {sorted(found)[:8]}" if found else "held"
        """,
    ),
    _case(
        name="open-devices",
        law="No disk, terminal, virtual machine or network device is opened.",
        needs=(Guard.DEVICES,),
        code="""
            names = ["tty", "console", "kvm", "fuse", "net/tun", "loop-control", "ptmx", "vhost-net", "fb0",
                     "sda", "vda", "nvme0n1", "rtc0", "userfaultfd", "vsock", "ttyS0", "input/event0"]
            result = worst(*(refused(**{name: lambda: os.open(f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK)})
                             for name in names))
        """,
    ),
)
