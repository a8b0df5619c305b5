"""The functions that run in serin, those with most instructions first. See load-tests/order."""

import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import counts
import programs

REQUESTS = 500
# Under callgrind: some ticks, writes and probes.
REST_SECONDS = 15
HEADER = """\
# The functions that run in a serin that begins, rests and serves, those with most instructions first: the linker puts them side by side
# (deploy/container/static). Written by load-tests/order.
"""


def main():
    ran = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        place = programs.Place(pathlib.Path(folder))
        upstream = programs.Upstream(place, False)
        try:
            for shape in counts.SHAPES:
                ran += serving(place, upstream, shape)
        finally:
            upstream.stop()
    print(HEADER + "\n".join(name for name, _ in ran.most_common()))


def serving(place, upstream, shape):
    """Instructions of each function in a process that began, served, was asked for its metrics, rested and was told to end."""
    tls = shape.startswith("TLS")
    profile = place.folder / "order.profile"
    port = programs.free_port()
    command = programs.serin(place, port, upstream.port, 1, tls, False)
    admin = re.search(r'\[admin\]\nlisten = "(.+)"', pathlib.Path(command[-1]).read_text()).group(1)
    wrapper = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", "--demangle=no"]
    program = programs.Running([*wrapper, *command], "0", port, place.folder / "serin.log")
    try:
        counts.drive(port, (counts.SHAPES[shape], tls), REQUESTS)
        subprocess.run(["curl", "--silent", "--fail", "--output", "/dev/null", f"http://{admin}/metrics"], check=True)
        time.sleep(REST_SECONDS)
    finally:
        program.stop()
    return by_function(profile.read_text())


def by_function(text):
    """What each function of the binary cost by itself. Those of recursion are told as `name'2`."""
    names, costs = {}, collections.Counter()
    here, in_binary, callee = None, False, False
    binary = pathlib.Path(os.environ["SERIN_BIN"]).name
    for line in text.splitlines():
        if line.startswith("ob="):
            number, name = re.fullmatch(r"ob=\((\d+)\)(?: (.+))?", line).groups()
            if name:
                names["ob", number] = name
            in_binary = pathlib.Path(names["ob", number]).name == binary
        elif line.startswith("cob="):
            number, name = re.fullmatch(r"cob=\((\d+)\)(?: (.+))?", line).groups()
            if name:
                names["ob", number] = name
        elif match := re.fullmatch(r"(c?)fn=\((\d+)\)(?: (.+))?", line):
            called, number, name = match.groups()
            if name:
                names["fn", number] = re.sub(r"'\d+$", "", name)
            if not called:
                here = names["fn", number]
        elif line.startswith("calls="):
            # The line after it is what the callee cost.
            callee = True
        elif line[:1].isdigit() or line[:1] in "+-*":
            # A cost of nothing is left out.
            if not callee and in_binary and not here.startswith("0x"):
                costs[here] += sum(map(int, line.split()[1:]))
            callee = False
    return costs


if __name__ == "__main__":
    sys.exit(main())
