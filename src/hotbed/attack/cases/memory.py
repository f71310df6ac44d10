"""Taking more memory than it was given, in every place where memory hides.

Each bomb stops at twice its limit: where nothing holds it, it says "escaped" and the machine is none
the worse.
"""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.guards import Guard
from hotbed.model import Status

_case = partial(Case, group=Group.RESOURCES)
_MEMORY = {"memory": "64M"}
_MEMORY_ENDS = (Status.MEMORY, Status.OK)  # killed, or told "no" and held

CASES = (
    _case(
        name="allocate-in-pieces",
        law="Pieces of memory do not add up to more than the limit.",
        needs=(Guard.MEMORY,),
        limits=_MEMORY,
        ends=_MEMORY_ENDS,
        code="""
            kept, result = [], "escaped: 128 MiB with a limit of 64"
            try:
                for _ in range(32):
                    kept.append(bytearray(b"x" * (4 << 20)))
            except MemoryError:
                result = "held"
        """,
    ),
    _case(
        name="allocate-at-once",
        law="Ten gigabytes are refused, or end the execution when they are touched.",
        needs=(Guard.MEMORY,),
        limits=_MEMORY,
        ends=_MEMORY_ENDS,
        code="""
            result = "escaped: touched 128 MiB with a limit of 64"
            try:
                MAP_NORESERVE = 0x4000
                view = mmap.mmap(-1, 10 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
                for page in range(0, 128 << 20, 4096):
                    view[page] = 1
            except (OSError, MemoryError):
                result = "held"
        """,
    ),
    _case(
        name="read-an-endless-file",
        law="Reading /dev/zero to its end ends at the memory limit.",
        needs=(Guard.MEMORY,),
        limits=_MEMORY,
        ends=_MEMORY_ENDS,
        code="""
            result, kept = "escaped: 128 MiB with a limit of 64", b""
            try:
                with open("/dev/zero", "rb", 0) as zero:
                    kept = zero.read(128 << 20)
            except MemoryError:
                result = "held"
        """,
    ),
    _case(
        name="inflate-a-bomb",
        law="A few kilobytes that unpack to many megabytes end at the memory limit.",
        needs=(Guard.MEMORY,),
        limits=_MEMORY,
        ends=_MEMORY_ENDS,
        code="""
            import gzip
            bomb = gzip.compress(bytes(1 << 20)) * 128
            try:
                size = len(gzip.decompress(bomb))
                result = f"escaped: {size >> 20} MiB with a limit of 64"
            except MemoryError:
                result = "held"
        """,
    ),
    _case(
        name="allocate-in-many-processes",
        law="The limit is that of all processes together.",
        needs=(Guard.TREE_MEMORY,),
        limits=_MEMORY,
        ends=_MEMORY_ENDS,
        code="""
            tally = Tally()
            def take():
                kept = bytearray(b"x" * (32 << 20))
                tally.add()
                hold()
            pids = [child(take) for _ in range(4)]
            for _ in range(100):
                if tally.total() == 4 or any(os.waitpid(pid, os.WNOHANG)[0] for pid in pids):
                    break
                time.sleep(0.01)
            taken = tally.total()
            end(pids)
            result = "held" if taken < 3 else f"escaped: {taken} x 32 MiB with a limit of 64"
        """,
    ),
    _case(
        name="hide-memory-in-a-file-without-a-name",
        law="Memory behind a descriptor (memfd) counts.",
        needs=(Guard.TREE_MEMORY,),
        limits=_MEMORY,
        ends=_MEMORY_ENDS,
        code="""
            result = "escaped: 128 MiB with a limit of 64"
            try:
                fd = os.memfd_create("hoard")
                for _ in range(128):
                    os.write(fd, bytes(1 << 20))
            except OSError:
                result = "held"
        """,
    ),
    _case(
        name="hide-memory-in-shared-pages",
        law="Memory shared between processes counts.",
        needs=(Guard.TREE_MEMORY,),
        limits=_MEMORY,
        ends=_MEMORY_ENDS,
        code="""
            result = "escaped: 128 MiB with a limit of 64"
            try:
                view = mmap.mmap(-1, 128 << 20)
                for page in range(0, 128 << 20, 4096):
                    view[page] = 1
            except (OSError, MemoryError):
                result = "held"
        """,
    ),
    _case(
        name="hide-memory-in-pipes",
        law="What lies in pipes counts, and is bounded by the number of descriptors.",
        needs=(Guard.TREE_MEMORY, Guard.DESCRIPTOR_COUNT),
        limits=_MEMORY,
        ends=_MEMORY_ENDS,
        code="""
            import fcntl
            stored, F_SETPIPE_SZ = 0, 1031
            with contextlib.suppress(OSError):
                while stored <= 128:
                    r, w = os.pipe()
                    fcntl.fcntl(w, F_SETPIPE_SZ, 1 << 20)
                    os.set_blocking(w, False)
                    stored += os.write(w, bytes(1 << 20)) >> 20
            result = "held" if stored < 128 else f"escaped: {stored} MiB in pipes with a limit of 64"
        """,
    ),
    _case(
        name="hide-memory-in-sockets",
        law="What lies in sockets counts, and is bounded by the number of descriptors.",
        needs=(Guard.TREE_MEMORY, Guard.DESCRIPTOR_COUNT),
        limits=_MEMORY,
        ends=_MEMORY_ENDS,
        code="""
            kept, stored = [], 0
            with contextlib.suppress(OSError):
                while stored <= 128 << 20:
                    near, far = socket.socketpair()
                    kept.append((near, far))
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 26)
                    near.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            stored += near.send(bytes(65536))
            result = "held" if stored < 128 << 20 else f"escaped: {stored >> 20} MiB in sockets"
        """,
    ),
    _case(
        name="fly-descriptors",
        law="Descriptors that are on their way through sockets do not escape their limit.",
        needs=(Guard.DESCRIPTOR_COUNT,),
        limits={"open_files": 64},
        code="""
            near, far = socket.socketpair()
            flying = 0
            with contextlib.suppress(OSError):
                near.setblocking(False)
                while flying < 5000:
                    socket.send_fds(near, [b"x"], [0] * 50)
                    flying += 50
            result = "held" if flying < 5000 else f"escaped: {flying} in flight"
        """,
    ),
    _case(
        name="lock-memory",
        law="No memory is locked beyond the limit.",
        needs=(Guard.MEMORY,),
        limits=_MEMORY,
        ends=_MEMORY_ENDS,
        code="""
            size = 128 << 20
            try:
                view = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                failed = _libc.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(view))),
                                     ctypes.c_size_t(size))
                result = "held" if failed else "escaped: locked 128 MiB"
            except (OSError, MemoryError):
                result = "held"
        """,
    ),
    _case(
        name="take-huge-pages",
        law="Huge pages, which are counted elsewhere, are not taken beyond the limit.",
        needs=(Guard.MEMORY,),
        limits=_MEMORY,
        ends=_MEMORY_ENDS,
        code="""
            MAP_HUGETLB = 0x40000
            try:
                view = mmap.mmap(-1, 128 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB)
                for page in range(0, 128 << 20, 2 << 20):
                    view[page] = 1
                result = "escaped: 128 MiB of huge pages"
            except (OSError, MemoryError):
                result = "held"
        """,
    ),
    _case(
        name="flood-the-kernels-caches",
        law="Names that do not exist, looked up by the thousand, are no burden to others.",
        needs=(Guard.ENGINE,),
        ends=(Status.OK, Status.MEMORY),
        code="""
            for number in range(20_000):
                os.path.exists(f"/tmp/no-such-{number}-" + "x" * 200)
            result = "held"
        """,
    ),
    _case(
        name="map-without-end",
        law="The number of mappings has the kernel's limit, and reaching it harms nobody.",
        needs=(Guard.ENGINE,),
        ends=(Status.OK, Status.MEMORY),
        code="""
            kept, flags = [], mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            with contextlib.suppress(OSError, MemoryError):
                for number in range(70_000):  # of two kinds in turn, so that none are merged
                    kept.append(mmap.mmap(-1, 4096, flags=flags, prot=1 + number % 2))
            kept.clear()
            result = "held"
        """,
    ),
)
