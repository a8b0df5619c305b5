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
    return by_function(profile)


def by_function(profile):
    """What each function of the binary cost by itself. Those of recursion are told as `name'2`."""
    told = subprocess.run(["callgrind_annotate", "--threshold=100", "--auto=no", profile], capture_output=True, text=True, check=True).stdout
    costs = collections.Counter()
    for cost, name in re.findall(rf"^ *([\d,]+) .*?\?\?\?:(?!0x)(\S+?)(?:'\d+)? \[{re.escape(os.environ['SERIN_BIN'])}\]$", told, re.M):
        costs[name] += int(cost.replace(",", ""))
    return costs


if __name__ == "__main__":
    sys.exit(main())
