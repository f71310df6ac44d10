"""Making the engine bring back what it must not, or too much, or never."""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.guards import Guard
from hotbed.model import Status

# The runner looks for canaries' secrets in everything that comes back, and checks names and sizes.
_case = partial(Case, group=Group.FILES, needs=(Guard.ARTIFACTS,))

CASES = (
    _case(
        name="return-links-to-host-files",
        law="A symbolic link does not come back as the file it points to.",
        artifacts=("mine.txt",),
        code="""
            open("mine.txt", "w").write("mine")
            paths = [host["secret_file"], "/etc/passwd", "/proc/self/environ", "mine.txt"]
            for number, path in enumerate(paths):
                os.symlink(path, f"link{number}")
            result = "held"
        """,
    ),
    _case(
        name="return-a-linked-directory",
        law="A link to a directory is not followed.",
        artifacts=(),
        code="""
            os.symlink(host["directory"], "directory")
            os.symlink("/", "root")
            os.symlink(".", "endless")
            result = "held"
        """,
    ),
    _case(
        name="exchange-a-given-file",
        law="A file that was given and became a link does not come back as what it points to.",
        files={"given.txt": b"given"},
        artifacts=(),
        code="""
            os.unlink("given.txt")
            os.symlink(host["secret_file"], "given.txt")
            result = "held"
        """,
    ),
    _case(
        name="return-special-files",
        law="A pipe or a socket does not hold up the collection.",
        artifacts=("mine.txt",),
        code="""
            open("mine.txt", "w").write("mine")
            os.mkfifo("pipe")
            with contextlib.suppress(PermissionError):
                socket.socket(socket.AF_UNIX).bind("socket")
            result = "held"
        """,
    ),
    _case(
        name="return-a-giant-sparse-file",
        law="A file of a tebibyte that takes no space is not read.",
        ends=(Status.OK, Status.ERROR),
        code="""
            with open("giant", "w") as file:
                with contextlib.suppress(OSError):
                    os.truncate(file.fileno(), 1 << 40)
            result = "held"
        """,
    ),
    _case(
        name="return-more-than-allowed",
        law="Files together come back within their limit.",
        ends=(Status.OK, Status.ERROR),
        code="""
            for number in range(12):
                open(f"part{number}", "wb").write(bytes(1 << 20))
            result = "held"
        """,
    ),
    _case(
        name="return-thousands-of-files",
        law="A great number of small files does not hold up the answer.",
        ends=(Status.OK, Status.ERROR),
        wall_s=4.0,
        code="""
            with contextlib.suppress(OSError):
                for number in range(3500):
                    open(f"f{number}", "w").close()
            result = "held"
        """,
    ),
    _case(
        name="return-hostile-names",
        law="No name leads out of the directory that files are saved to.",
        ends=(Status.OK, Status.ERROR),
        code=r"""
            names = [b"..\\..\\x", b"a\nb", b"\xff\xfe", b"-rf", b" ", b"~", b"x" * 255, b"\xe2\x80\xae.txt",
                     b"...", b"C:x", b"a\x1b[2Jb", b"%2e%2e%2fx", b"CON"]
            for name in names:
                with contextlib.suppress(OSError):
                    os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
            result = "held"
        """,
    ),
    _case(
        name="return-a-file-that-becomes-a-link",
        law="A file that is exchanged for a link while it is collected brings back nothing foreign.",
        ends=(Status.OK, Status.ERROR),
        code="""
            open("mine", "w").write("mine")
            os.symlink(host["secret_file"], "other")
            def exchange():
                while True:
                    for old, new in (("mine", "x"), ("other", "mine"), ("x", "other")):
                        os.rename(old, new)
            child(exchange)
            result = "held"
        """,
    ),
    _case(
        name="return-a-file-that-grows",
        law="A file that another process lengthens meanwhile comes to an end.",
        ends=(Status.OK, Status.ERROR, Status.MEMORY, Status.TIMEOUT),
        limits={"timeout": 1.0},
        code="""
            def grow():
                with open("grows", "ab", 0) as file:
                    while True:
                        with contextlib.suppress(OSError):
                            file.write(bytes(4096))
            child(grow)
            result = "held"
        """,
    ),
    _case(
        name="return-a-leased-file",
        law="A lease, whose holder may delay whoever opens the file, delays nobody.",
        ends=(Status.OK, Status.ERROR, Status.TIMEOUT, Status.CRASHED),
        limits={"timeout": 1.0},
        code="""
            import fcntl
            open("leased", "w").write("mine")
            def lease():
                signal.signal(signal.SIGIO, signal.SIG_IGN)
                fd = os.open("leased", os.O_RDWR)
                with contextlib.suppress(OSError):
                    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
                tally.add()
                hold()
            tally = Tally()
            child(lease)
            while not tally.total():
                time.sleep(0.001)
            result = "held"
        """,
    ),
    _case(
        name="return-a-deep-tree",
        law="A tree deeper than a path may be long, with a file at its bottom, comes to an end.",
        ends=(Status.OK, Status.ERROR),
        code="""
            top = os.getcwd()
            for _ in range(1200):
                os.mkdir("d" * 8)
                os.chdir("d" * 8)
            open("bottom", "w").write("mine")
            os.chdir(top)
            result = "held"
        """,
    ),
    _case(
        name="exchange-the-work-directory",
        law="Something else in the place of the work directory is not collected.",
        needs=(Guard.ARTIFACTS, Guard.FILES),
        ends=(Status.OK, Status.ERROR),
        code="""
            work = os.getcwd()
            with contextlib.suppress(OSError):
                os.rename(work, work + "-old")
                os.symlink(host["directory"], work)
            result = "held"
        """,
    ),
    _case(
        name="close-the-work-directory",
        law="A work directory that its owner may not read is no fault of the engine's.",
        ends=(Status.OK, Status.ERROR),
        code="""
            os.chmod(".", 0)
            result = "held"
        """,
    ),
)
