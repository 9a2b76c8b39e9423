"""Stops one thread of a process, as a bug that never ends would, until the process is gone: `hold_thread.py TID`."""

import ctypes
import os
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000

thread = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
    if libc.ptrace(request, thread, None, None):
        sys.exit(f"ptrace: {os.strerror(ctypes.get_errno())}")
os.waitpid(thread, WALL)
print("held", flush=True)
# Its end has to be taken note of here, or the process would stay a zombie.
while os.WIFSTOPPED(os.waitpid(thread, WALL)[1]):
    pass
