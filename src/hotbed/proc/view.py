"""What of the host's file system confined code can see: found by looking, not by running anything.

Law: a directory is named here because an interpreter or a package is in it. A home directory, a
temporary directory or the root is never given whole: one that holds an interpreter is given by its
`bin`, `lib` and the like. What a package's files say is not believed: paths in .pth files, as
editable installations have them, are not followed; `mounts` gives such a directory.
"""

from __future__ import annotations

import glob
import os
import site
from collections.abc import Iterable, Iterator

from hotbed.model import Mount

# What programs expect of a system, where it is there.
SYSTEM = ("/usr",)
MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")  # links into /usr, or directories
SETTINGS = (
    *("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime"),
    *("/etc/timezone", "/etc/mime.types", "/etc/magic", "/etc/fonts", "/etc/protocols", "/etc/services"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted"),
    *("/etc/ca-certificates", "/usr/share/ca-certificates", "/etc/python3", "/etc/debian_version"),
    *("/etc/os-release", "/etc/crypto-policies"),
)
NETWORK_SETTINGS = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf")
MADE = {
    "/etc/passwd": "user:x:1000:1000:user:/home/box/home:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "/etc/group": "user:x:1000:\nnogroup:x:65534:\n",
    "/etc/hostname": "hotbed\n",
}
MADE_WITHOUT_NETWORK = {
    "/etc/hosts": "127.0.0.1 localhost hotbed\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
PARTS_OF_A_PREFIX = ("bin", "lib", "lib64", "include", "share/zoneinfo", "ssl", "pyvenv.cfg")


def interpreter_paths(executable: str) -> list[str]:
    """The directories that an interpreter needs: its prefix, its base's, its packages'."""
    found: list[str] = []
    for link in _links(executable):
        prefix = os.path.dirname(os.path.dirname(link))
        config = os.path.join(prefix, "pyvenv.cfg")
        if os.path.basename(os.path.dirname(link)) != "bin":
            found.append(link)
        elif is_shared(prefix):
            found += [
                path for part in PARTS_OF_A_PREFIX if os.path.exists(path := os.path.join(prefix, part))
            ]
        else:
            found.append(prefix)
        if os.path.isfile(config):
            found += _base_of(config)
    return [path for path in dict.fromkeys(found) if not is_below(path, SYSTEM)]


def _links(path: str) -> Iterator[str]:
    """A path, and every path that a chain of links leads to from it, in this order."""
    for _hop in range(40):
        yield path
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if real != path:
            yield real
        if not os.path.islink(real):
            return
        path = os.path.normpath(os.path.join(os.path.dirname(real), os.readlink(real)))


def _base_of(config: str) -> list[str]:
    with open(config, encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _equals, value = line.partition("=")
            home = value.strip()
            if name.strip() == "home" and os.path.isabs(home) and glob.glob(os.path.join(home, "python3*")):
                return interpreter_paths(os.path.join(home, "python3"))
    return []


def is_shared(prefix: str) -> bool:
    """Whether a prefix holds more than an interpreter: "/usr/local", a home, "~/.local"."""
    home = os.path.expanduser("~")
    shared = {"/", "/usr", "/usr/local", "/opt", "/root", "/tmp", home, os.path.join(home, ".local")}
    return os.path.realpath(prefix) in shared or os.path.dirname(os.path.realpath(prefix)) == "/home"


def user_site_paths() -> list[str]:
    """The user's own packages, where this interpreter looks at them."""
    path = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
    return [path] if path and os.path.isdir(path) else []


def read_only_paths(executable: str, others: Iterable[str], *, network: bool) -> list[str]:
    """All that confined code may read, without what lies in another of the paths."""
    paths = [*SYSTEM, *MERGED, *SETTINGS, *(NETWORK_SETTINGS if network else ())]
    paths += [*interpreter_paths(executable), *others]
    kept: list[str] = []
    for path in sorted({path for path in paths if os.path.exists(path)}, key=lambda path: path.count("/")):
        if path != "/" and not is_below(path, kept):
            kept.append(path)
    return kept


def view(read_only: Iterable[str], mounts: Iterable[Mount], *, network: bool) -> dict[str, object]:
    """The message for seed/sandbox/root.py: what the root of a template is made of."""
    binds: list[tuple[str, str, bool]] = []
    links: dict[str, str] = {}
    for path in read_only:
        if path in MERGED and os.path.islink(path):
            links[path] = os.readlink(path)
        else:
            binds.append((path, path, False))
    binds += [(os.fspath(mount.source), mount.target, mount.writable) for mount in mounts]
    files = MADE if network else {**MADE, **MADE_WITHOUT_NETWORK}
    taken = {target for _source, target, _writable in binds}
    return {
        "binds": binds,
        "links": links,
        "files": {path: text for path, text in files.items() if path not in taken},
    }


def is_open_to_all(path: str) -> bool:
    """Whether any user may read and execute a file, or search a directory, and reach it."""
    try:
        while True:
            if os.stat(path).st_mode & 0o005 != 0o005:
                return False
            if path == "/":
                return True
            path = os.path.dirname(path)
    except OSError:
        return False


def is_below(path: str, directories: Iterable[str]) -> bool:
    """Whether a path is one of these or lies in one; ".." in it is never."""
    if ".." in path.split("/"):
        return False
    return any(path == directory or path.startswith(directory.rstrip("/") + "/") for directory in directories)
