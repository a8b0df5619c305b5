"""Curves of the cost of a request. See load-tests/scale."""

import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import counts
import programs

SHORT, LONG = 6, 18
CURVES = {
    "routes": [1, 10, 100, 1000],
    "endpoints": [1, 10, 100, 1000],
    "segments": [1, 8, 64],
    "learners": [1, 1000, 1_000_000],
    "connections": [1, 8, 64, 512],
    "workers": [1, 2, 4],
}


def main():
    print("| what | how many: instructions per request | exponent |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        place = programs.Place(pathlib.Path(folder))
        port = programs.free_port()
        # Every address of the loopback network is an endpoint of its own.
        upstream = programs.Running([os.environ["PLAIN_BIN"], "upstream", f"0.0.0.0:{port}"], "1", port, place.folder / "upstream.log")
        try:
            for what, sizes in CURVES.items():
                costs = [cost(place, port, **{what: size}) for size in sizes]
                said = ", ".join(f"{size:,}: {each:,.0f}" for size, each in zip(sizes, costs))
                exponent = math.log(costs[-1] / costs[0]) / math.log(sizes[-1] / sizes[0])
                print(f"| {what} | {said} | {exponent:.3f} |", flush=True)
        finally:
            upstream.stop()
    return 0


def cost(place, upstream, routes=1, endpoints=1, segments=1, learners=1000, connections=8, workers=1):
    os.environ |= {"SCALE_ROUTES": str(routes), "SCALE_SEGMENTS": str(segments), "SCALE_LEARNERS": str(learners)}
    (less, few), (more, many) = (counted(place, upstream, (routes, endpoints, workers), connections, seconds) for seconds in (SHORT, LONG))
    return (more - less) / (many - few)


def counted(place, upstream, made_of, connections, seconds):
    """Instructions of the workers, and the requests that they were for."""
    port = programs.free_port()
    profile = place.folder / f"scale-{port}"
    wrapper = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", "--separate-threads=yes"]
    command = [*wrapper, os.environ["SERIN_BIN"], "run", "--config", configured(place, port, upstream, *made_of)]
    program = programs.Running(command, "0", port, place.folder / "serin.log")
    try:
        words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", "load-tests/comparing/scaling.lua", f"http://{programs.HOST}:{port}/"]
        out = subprocess.run(words, capture_output=True, text=True, timeout=seconds + 60, check=True).stdout
    finally:
        program.stop()
    requests, failed = map(int, re.search(r"requests (\d+) failed (\d+)", out).groups())
    if failed:
        raise SystemExit(f"{failed} of {requests} requests failed")
    # No other thread has as much to do as a worker.
    threads = sorted(counts.of_thread(path.read_text())[0] for path in place.folder.glob(f"scale-{port}-*"))
    return sum(threads[-made_of[-1]:]), requests


def configured(place, port, upstream, routes, endpoints, workers):
    addresses = ", ".join(f'"127.{1 + n // 62500}.{n // 250 % 250}.{1 + n % 250}:{upstream}"' for n in range(endpoints))
    each = "".join(f'[[routes]]\npath = "/r{n}/"\nrollout = "analyzer"\n' for n in range(routes))
    pool = lambda name: f'[pools.{name}]\nendpoints = [{addresses}]\nhealth = false\ntimeouts = {{ idle = "120s" }}\n'
    return place.write(f"scale-{port}.toml", f"""[server]
listen = ["{programs.HOST}:{port}"]
workers = {workers}
log = {{ level = "error" }}
[admin]
listen = "{programs.HOST}:{programs.free_port()}"
[state]
path = "{place.folder}/scale-{port}/serin.db"
deployment_logs = "{place.folder}/scale-{port}/logs"
{pool("original")}{pool("ultra_fast")}{each}[rollouts.analyzer]
baseline = "original"
canary = "ultra_fast"
learner = ["header:x-learner-id"]
weight_at_rest = "10%"
[[rollouts.analyzer.stages]]
name = "canary"
weight = "10%"
duration = "2h"
""")


if __name__ == "__main__":
    sys.exit(main())
