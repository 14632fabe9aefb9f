"""Run a command that ends when the process that started it ends, however that ends: ``tied.py PARENT COMMAND...``.

Linux: the kernel kills it. Elsewhere the keeper (``keeper.py``) is the only one who looks after it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h

if __name__ == "__main__":
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == parent:  # else it has ended already
        os.execv(command[0], command)
