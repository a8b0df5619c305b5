"""Starts a program with sockets, as a service manager does (sd_listen_fds(3)), and keeps the sockets.

activate.py NAME=KIND:HOST:PORT ... -- PROGRAM ARGUMENTS

KIND is tcp (listens), deaf (TCP that does not listen) or udp; an empty name is none. Each line on standard input starts
the program once; its pid is printed when it begins and its exit status when it ended.
"""

import fcntl
import os
import signal
import socket
import sys

FIRST = 3
# Far from where the sockets have to be.
ASIDE = 100
# What was to end by itself is ended after this many seconds.
PATIENCE = 60


def open_socket(spec):
    kind, address = spec.split(":", 1)
    host, port = address.rsplit(":", 1)
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kinds = {"tcp": socket.SOCK_STREAM, "deaf": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
    opened = socket.socket(family, kinds[kind])
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind((host, int(port)))
    if kind == "tcp":
        opened.listen(128)
    return opened


def become(program, sockets, names):
    aside = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, ASIDE) for one in sockets]
    for index, number in enumerate(aside):
        os.dup2(number, FIRST + index, inheritable=True)
    os.closerange(FIRST + len(sockets), ASIDE + 2 * len(sockets))
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(sockets))
    if any(names):
        os.environ["LISTEN_FDNAMES"] = ":".join(names)
    # An alarm goes on over exec.
    signal.alarm(PATIENCE)
    os.execv(program[0], program)


def main():
    end = sys.argv.index("--")
    given = [one.split("=", 1) for one in sys.argv[1:end]]
    sockets = [open_socket(spec) for _, spec in given]
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            become(sys.argv[end + 1 :], sockets, [name for name, _ in given])
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


main()
