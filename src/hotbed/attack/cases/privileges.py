"""Being more than it is, and having what it was not given."""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.guards import Guard

_case = partial(Case, group=Group.PROCESSES)

CASES = (
    _case(
        name="be-root",
        law="None of its user and group numbers is root's.",
        needs=(Guard.USER,),
        code="""
            numbers = {*os.getresuid(), *os.getresgid(), *os.getgroups()}
            result = "escaped: root" if 0 in numbers else "held"
        """,
    ),
    _case(
        name="become-somebody-else",
        law="It changes into no other user or group.",
        needs=(Guard.PRIVILEGES, Guard.USER),
        code="""
            result = refused(uid=lambda: os.setuid(0), resuid=lambda: os.setresuid(0, 0, 0),
                             gid=lambda: os.setgid(0), groups=lambda: os.setgroups([0]),
                             other=lambda: os.setresuid(-1, os.getuid() + 1, -1))
        """,
    ),
    _case(
        name="keep-a-capability",
        law="No set of capabilities holds one: effective, permitted, inheritable, ambient.",
        needs=(Guard.PRIVILEGES,),
        code="""
            lines = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
            kept = {name: lines[name].strip() for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")}
            result = f"escaped: {kept}" if any(int(value, 16) for value in kept.values()) else "held"
        """,
    ),
    _case(
        name="gain-by-a-program",
        law="No program that it starts has more rights than it (no_new_privs).",
        needs=(Guard.SETUID,),
        code="""
            PR_GET_NO_NEW_PRIVS = 39
            result = "held" if call("prctl", PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 else "escaped: not set"
        """,
    ),
    _case(
        name="leave-the-sandbox-by-exec",
        law="A program that it starts stands in the same sandbox.",
        needs=(Guard.CALLS, Guard.FILES, Guard.SETUID),
        code="""
            program = '''
            import sys
            lines = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
            facts = [lines[name].strip() for name in ("Seccomp", "NoNewPrivs", "CapEff")]
            try:
                facts.append(open(sys.argv[1]).read())
            except OSError:
                facts.append("")
            print(*facts, sep="|")
            '''
            command = [sys.executable, "-I", "-S", "-c", program, host["secret_file"]]
            got = subprocess.run(command, capture_output=True, text=True).stdout.strip()
            result = "held" if got == "2|1|0000000000000000|" else f"escaped: {got!r}"
        """,
    ),
    _case(
        name="run-a-program-from-memory",
        law="A program that never was a file stands in the same sandbox.",
        needs=(Guard.CALLS, Guard.FILES),
        code="""
            def run():
                fd = os.memfd_create("program", 0)
                with open("/usr/bin/cat", "rb") as program:
                    os.sendfile(fd, program.fileno(), 0, 1 << 22)
                command = [f"/proc/self/fd/{fd}", host["secret_file"]]
                return something(subprocess.run(command, pass_fds=[fd], capture_output=True).stdout)
            result = refused(run=run)
        """,
    ),
    _case(
        name="preload-into-programs",
        law="Variables that load code into programs load it with no more rights.",
        needs=(Guard.FILES,),
        code="""
            open("sitecustomize.py", "w").write(
                f"import sys\\ntry: sys.stdout.write(open({host['secret_file']!r}).read())\\n"
                "except OSError: pass\\n")
            variables = {"PYTHONPATH": os.getcwd(), "LD_PRELOAD": os.getcwd() + "/x.so", "PATH": "/usr/bin"}
            got = subprocess.run([sys.executable, "-c", ""], env=variables, capture_output=True, text=True)
            result = f"escaped: {got.stdout}" if got.stdout else "held"
        """,
    ),
    _case(
        name="rename-the-host",
        law="The host's name stays what it is.",
        needs=(Guard.HOST_NAME,),
        code="""
            result = worst(denied("sethostname", b"attacked", -1), denied("setdomainname", b"attacked", -1))
        """,
    ),
    # ── descriptors ──
    _case(
        name="inherit-descriptors",
        law="It has standard streams and its channel, and no other descriptor.",
        needs=(Guard.DESCRIPTORS,),
        code="""
            def kind(fd):
                mode = os.fstat(fd).st_mode
                if stat.S_ISCHR(mode) and os.readlink(f"/proc/self/fd/{fd}").startswith("/dev/null"):
                    return "null"
                return {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}.get(stat.S_IFMT(mode), oct(mode))
            kinds = []
            for fd in range(1024):
                with contextlib.suppress(OSError):
                    kinds.append(kind(fd))
            allowed = [["null", "pipe", "pipe", "socket"], ["null", "pipe", "pipe", "pipe", "pipe"]]
            result = "held" if kinds in allowed else f"escaped: {kinds}"
        """,
    ),
    _case(
        name="hear-other-executions",
        law="Its standard streams and channel tell it nothing that was not meant for it.",
        needs=(Guard.DESCRIPTORS,),
        code="""
            heard = []
            for fd in (0, 1, 2, channel()):
                os.set_blocking(fd, False)
                with contextlib.suppress(OSError):
                    heard.append(os.read(fd, 1000))
                os.set_blocking(fd, True)
            result = f"escaped: {heard}" if any(heard) else "held"
        """,
    ),
    # ── another execution, which runs meanwhile (runner.py: the neighbour) ──
    _case(
        name="reach-a-neighbours-files",
        law="Files of an execution that runs at the same time are not found.",
        needs=(Guard.SIBLINGS,),
        code="""
            result = worst(*(refused(**{path: lambda: open(path).read()}) for path in neighbour["files"]))
        """,
    ),
    _case(
        name="reach-a-neighbours-socket",
        law="An abstract socket of another execution is not reached.",
        needs=(Guard.ABSTRACT_SOCKETS,),
        code="""
            def connect():
                with socket.socket(socket.AF_UNIX) as s:
                    return s.connect(neighbour["abstract"])
            def send():
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                    return s.sendto(b"x", neighbour["abstract"] + "-datagram")
            result = refused(connect=connect, send=send)
        """,
    ),
)
