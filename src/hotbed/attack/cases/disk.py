"""Filling the disk that it was given, and getting round the limit."""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.guards import Guard
from hotbed.model import Status

_case = partial(Case, group=Group.FILES)

CASES = (
    _case(
        name="fill-the-disk",
        law="Files together take no more than the disk limit, wherever they lie.",
        needs=(Guard.DISK,),
        code="""
            import tempfile
            block, written, limit = bytes(1 << 20), 0, 17
            places = {".", os.path.expanduser("~"), tempfile.gettempdir(), "/dev/shm"}
            names = [f"{place}/hotbed-attack-{os.getpid()}" for place in places]
            for name in names:
                with contextlib.suppress(OSError), open(name, "wb", 0) as file:
                    while written <= limit:
                        written += file.write(block) >> 20
            for name in names:
                with contextlib.suppress(OSError):
                    os.unlink(name)
            result = "held" if written <= limit else f"escaped: wrote {written} MiB"
        """,
    ),
    _case(
        name="reserve-the-disk",
        law="Space reserved without being written counts too.",
        needs=(Guard.DISK,),
        code="""
            def reserve():
                with open("reserved", "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, 32 << 20)
                return "32 MiB"
            result = refused(reserve=reserve)
        """,
    ),
    _case(
        name="exhaust-the-inodes",
        law="Empty files run out long before the kernel's memory does.",
        needs=(Guard.DISK,),
        ends=(Status.OK, Status.MEMORY),
        code="""
            result = "escaped: 30,000 files in 16 MiB"
            try:
                for number in range(30_000):
                    os.mknod(f"f{number}")
            except OSError:
                result = "held"
        """,
    ),
    _case(
        name="write-through-a-map-beyond-the-disk",
        law="Pages of a sparse file that is mapped count when they are written.",
        needs=(Guard.DISK,),
        code="""
            def touch():
                with open("sparse", "w+b") as file:
                    os.truncate(file.fileno(), 64 << 20)
                    view = mmap.mmap(file.fileno(), 64 << 20)
                    for page in range(0, 24 << 20, 4096):
                        view[page] = 1
                return 0
            ended = forked(touch)
            result = "held" if ended else "escaped: 24 MiB of dirty pages in 16 MiB"
        """,
    ),
    _case(
        name="write-a-file-beyond-its-limit",
        law="One file does not grow past the limit of a file.",
        needs=(Guard.FILE_SIZE,),
        limits={"file_size": "1M"},
        code="""
            result = refused(write=lambda: open("big", "wb", 0).write(bytes(1 << 20))
                             and open("big", "ab", 0).write(b"x"))
        """,
    ),
    _case(
        name="dig-deep",
        law="A tree of directories deeper than a path may be long harms nobody.",
        needs=(Guard.ENGINE,),
        code="""
            for _ in range(1500):
                os.mkdir("d")
                os.chdir("d")
            open("bottom", "w").close()
            result = "held"
        """,
    ),
)
