"""Machines on which a gate cannot start, made of seccomp filters, limits and mounts around one process."""

import ctypes
import errno
import os
import resource
import struct
import subprocess

NOBODY = 65534
SYSTEM_CALLS = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}  # the same on every architecture

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def refuse(call: str, error: int = errno.EPERM):
    """For `preexec_fn`: from now on one system call fails with `error`."""
    program = [(LOAD, 0, 0, 0), (EQUAL, 0, 1, SYSTEM_CALLS[call]), (RETURN, 0, 0, ERRNO | error), (RETURN, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter_program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)

    def apply() -> None:
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_program, 0, 0):
            os._exit(97)
        assert code

    return apply


def limit(*limits: tuple[int, int]):
    """For `preexec_fn`: limits as they are for nobody in particular; root is not held to some of them."""

    def apply() -> None:
        for what, most in limits:
            resource.setrlimit(what, (most, most))
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)

    return apply


def rings_are_counted() -> bool:
    """Whether the kernel holds the memory of rings against RLIMIT_MEMLOCK."""
    program = (
        "import ctypes, sys;"
        "libc = ctypes.CDLL(None, use_errno=True);"
        f"ring = libc.syscall({SYSTEM_CALLS['io_uring_setup']}, 1024, ctypes.create_string_buffer(120));"
        "sys.exit(0 if ring >= 0 else ctypes.get_errno())"
    )
    made = subprocess.run(["python3", "-c", program], preexec_fn=limit((resource.RLIMIT_MEMLOCK, 4096)))
    assert made.returncode in (0, errno.ENOMEM), os.strerror(made.returncode)
    return made.returncode != 0


def with_file_at(path: str, file: str) -> list[str]:
    """The beginning of a command line for which `file` stands at `path`."""
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', file, path]
