"""Run a command that ends when the process that started it ends, however that ends: ``tied.py PARENT COMMAND...``.

Stays beside the command and looks whether its parent still lives. (The kernel's own way of tying a process to its
parent goes by threads: a server that a short-lived thread had started would end with it. It does tie the command to
this process, which has one thread only.)
"""

import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOOK_S = 0.1


def main(parent: int, command: list[str]) -> int:
    child = os.fork()
    if child == 0:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.execv(command[0], command)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if os.getppid() != parent:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 1
        time.sleep(LOOK_S)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
