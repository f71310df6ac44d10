"""What Docker's default seccomp profile forbids a container without CAP_SYS_ADMIN, to try tiers under it.

It is the profile turned round: a list of what is forbidden instead of what is allowed, since only
the former is of interest here. Facts from moby's profiles/seccomp/default.json of 2024. Run as a
program, it takes a command and becomes it: python docker_profile.py hotbed doctor
"""

from __future__ import annotations

import errno
import os
import sys

from hotbed.seed import kernel
from hotbed.seed.sandbox import seccomp
from hotbed.seed.sandbox.syscalls import NUMBERS

PR_SET_NO_NEW_PRIVS = 38
AF_VSOCK = 40
CLONE_NEW = 0x7E020000

# Forbidden without CAP_SYS_ADMIN, SYS_BOOT, SYS_MODULE, SYS_PACCT, SYS_RAWIO, SYS_TIME, SYS_TTY_CONFIG,
# SYS_NICE, SYSLOG, BPF, PERFMON or SYS_PTRACE, or to everybody. ptrace itself is allowed, and so is
# chroot, whose capability containers have.
FORBIDDEN = """
    mount umount2 unshare setns pivot_root fsopen fsconfig fsmount fspick move_mount open_tree
    open_tree_attr mount_setattr statmount listmount
    bpf perf_event_open lookup_dcookie fanotify_init quotactl quotactl_fd sethostname setdomainname
    syslog vhangup reboot init_module finit_module delete_module create_module query_module
    get_kernel_syms acct iopl ioperm settimeofday clock_settime
    kcmp pidfd_getfd process_madvise open_by_handle_at
    get_mempolicy set_mempolicy set_mempolicy_home_node mbind move_pages migrate_pages
    add_key request_key keyctl userfaultfd io_uring_setup io_uring_enter io_uring_register
    kexec_load kexec_file_load swapon swapoff nfsservctl _sysctl sysfs uselib ustat vserver
"""


def program(machine: str) -> bytes:
    """The BPF program for `machine` as os.uname() names it."""
    allow, refuse = seccomp.ALLOW, seccomp.EPERM
    verdicts: dict[str, seccomp.Verdict] = dict.fromkeys(FORBIDDEN.split(), refuse)
    verdicts["clone"] = seccomp.Look(seccomp.low(0), ((0, allow),), refuse, mask=CLONE_NEW)
    verdicts["clone3"] = seccomp.ENOSYS
    verdicts["socket"] = seccomp.Look(seccomp.low(0), ((AF_VSOCK, refuse),), allow)
    personalities = tuple((kind, allow) for kind in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF))
    verdicts["personality"] = seccomp.Look(seccomp.low(0), personalities, refuse)
    numbers = NUMBERS[machine]
    return seccomp.compile_program(
        seccomp.ARCHITECTURES[machine],
        {numbers[name]: verdict for name, verdict in verdicts.items() if name in numbers},
        otherwise=allow,
    )


def load() -> None:
    """Put this thread and what it starts under the profile; there is no way back.

    A container does not have no_new_privs set, so it is set only where loading needs it (no root).
    """
    prepared = seccomp.prepare(program(os.uname().machine))
    try:
        seccomp.load(prepared)
    except OSError as error:
        if error.errno != errno.EACCES:
            raise
        kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)
        seccomp.load(prepared)


if __name__ == "__main__":
    load()
    os.execvp(sys.argv[1], sys.argv[1:])
