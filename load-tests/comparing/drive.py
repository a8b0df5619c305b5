"""The generators, on the second core: wrk for HTTP/1.1, h2load for HTTP/2 and for a fixed rate, one of our own for handshakes. What they
sent, and what became of it."""

import os
import re
import subprocess
import tempfile


class Broken(Exception):
    """A run in which something failed."""


def run(words, seconds):
    done = subprocess.run(["taskset", "-c", "1", *map(str, words)], capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode != 0:
        raise Broken((done.stdout + done.stderr)[-500:])
    return done.stdout


def wrk(url, connections, seconds):
    """Requests that were answered, and the median and 99th percentile of their latencies in us."""
    return told(run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", "load-tests/learners.lua", url], seconds))


def handshakes(url, clients, seconds):
    """The same, each over a connection and a full handshake of its own: wrk would cost more than the proxy."""
    address = url.removeprefix("https://").strip("/")
    return told(run([os.environ["PLAIN_BIN"], "handshakes", address, clients, seconds], seconds))


def told(out):
    requests, failed = map(int, re.search(r"requests (\d+) failed (\d+)", out).groups())
    if failed or not requests:
        raise Broken(f"{failed} of {requests} requests failed")
    return {"requests": requests, "p50_us": micros(out, "50"), "p99_us": micros(out, "99")}


def micros(out, percent):
    number, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", out).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def h2load(url, connections, seconds, streams=1, http1=False, rate=0, data=None):
    """The same. One learner asks: h2load sends the same head again and again. `rate` is of all connections together."""
    with tempfile.NamedTemporaryFile() as log:
        words = ["h2load", f"-c{connections}", f"-m{streams}", f"-D{seconds}", f"--log-file={log.name}", "-H", "x-learner-id: anna"]
        if http1:
            words.append("--h1")
        if rate:
            words.append(f"--rps={rate / connections}")
        if data:
            words += ["-d", data, "-H", "content-type: application/grpc", "-H", "te: trailers"]
        out = run([*words, url], seconds)
        rows = [line.split(b"\t") for line in log.read().splitlines()]
    counts = re.search(r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", out)
    _, _, done, succeeded, failed, errored, late = map(int, counts.groups())
    # What was under way when the time was over counts as failed there.
    if not succeeded or failed + errored + late > connections * streams:
        raise Broken(counts.group(0))
    waits = sorted(int(row[2]) for row in rows)
    at = lambda share: float(waits[min(int(share * len(waits)), len(waits) - 1)])
    return {"requests": succeeded, "p50_us": at(0.5), "p99_us": at(0.99)}
