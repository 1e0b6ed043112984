#!/usr/bin/python3
"""How a process keeps its TCP connections alive.

    sockopts.py PID PORT    one line for each connection of PID to that port of 127.0.0.1:
                            keepalives idle interval count user_timeout

Takes the descriptors out of the process (pidfd_getfd), which needs the same user and a kernel that
lets it trace the process; otherwise it says "not possible: …".
"""

import ctypes
import os
import socket
import sys

PIDFD_OPEN, PIDFD_GETFD = 434, 438


def main(pid, port):
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number, *args):
        result = libc.syscall(number, *args)
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    pidfd = call(PIDFD_OPEN, pid, 0)
    lines = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
            continue
        s = socket.socket(fileno=call(PIDFD_GETFD, pidfd, int(name), 0))
        try:
            if s.family != socket.AF_INET or s.getpeername()[1] != port:
                continue
        except OSError:
            continue
        tcp = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT]
        options = [s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
        options += [s.getsockopt(socket.IPPROTO_TCP, option) for option in tcp]
        lines.append(" ".join(map(str, options)))
    print("\n".join(sorted(lines)))


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]))
    except (OSError, ValueError) as error:
        print(f"not possible: {error}")
