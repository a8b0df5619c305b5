"""Load with churn, and what the process holds meanwhile. See load-tests/soak."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ANALYZERS = 6
LOOK_EVERY = 10.0
CHANGE_EVERY = 0.5
# After so much of the time everything has been met once: what comes later is growth.
SETTLED = 0.3
# From the first half of what is left to the second; files are connections to analyzers, which come and go with these.
MEMORY_MAY_GROW, FILES_MAY_GROW = 1.10, 1.25
HOST = "127.0.0.1"


def free_port():
    with socket.socket() as any_port:
        any_port.bind((HOST, 0))
        return any_port.getsockname()[1]


class Soak:
    def __init__(self, folder):
        self.folder = folder
        self.proxy, self.admin = free_port(), free_port()
        self.analyzers = [free_port() for _ in range(ANALYZERS)]
        self.running = {}
        self.timeout = 30

    def start(self):
        for port in self.analyzers:
            self.analyzer(port)
        self.configure()
        self.serin = subprocess.Popen([os.environ["SERIN_BIN"], "run", "--config", self.folder / "proxy.toml"],
                                      stdout=open(self.folder / "serin.log", "wb"), stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 10
        while not self.ask("GET", "/readyz"):
            if time.monotonic() > deadline or self.serin.poll() is not None:
                raise SystemExit((self.folder / "serin.log").read_text()[-2000:])
            time.sleep(0.05)
        self.wrk = subprocess.Popen(
            ["wrk", "-t1", "-c64", "-d86400s", "-s", "load-tests/learners.lua", f"http://{HOST}:{self.proxy}/"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def stop(self):
        for process in [getattr(self, "wrk", None), getattr(self, "serin", None), *self.running.values()]:
            if process and process.poll() is None:
                process.terminate()
                process.wait(timeout=40)

    def analyzer(self, port):
        pool = "original" if self.analyzers.index(port) < ANALYZERS // 2 else "ultra_fast"
        self.running[port] = subprocess.Popen(
            [os.environ["SERIN_BIN"], "analyzer", "--listen", f"{HOST}:{port}", "--pool", pool, "--latency", "2ms"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def configure(self):
        half = ANALYZERS // 2
        endpoints = lambda ports: ", ".join(f'"{HOST}:{port}"' for port in ports)
        (self.folder / "proxy.toml").write_text(f"""[server]
listen = ["{HOST}:{self.proxy}"]
timeouts = {{ keep_alive = "{self.timeout}s" }}
log = {{ level = "error" }}
[admin]
listen = "{HOST}:{self.admin}"
open_metrics = true
[state]
path = "{self.folder}/serin.db"
deployment_logs = "{self.folder}/logs"
[pools.original]
endpoints = [{endpoints(self.analyzers[:half])}]
health = {{ path = "/health", interval = "1s" }}
[pools.ultra_fast]
endpoints = [{endpoints(self.analyzers[half:])}]
health = {{ path = "/health", interval = "1s" }}
[[routes]]
path = "/"
rollout = "analyzer"
[rollouts.analyzer]
baseline = "original"
canary = "ultra_fast"
learner = ["header:x-learner-id"]
[[rollouts.analyzer.stages]]
name = "canary"
weight = "10%"
duration = "2h"
""")

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{HOST}:{self.admin}{path}", data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.read().decode() or "done"
        except (urllib.error.URLError, OSError):
            return None

    # Weights, then the file, then an endpoint, and again.
    def change(self, turn):
        match turn % 3:
            case 0:
                share = (turn * 7) % 100
                return self.ask("POST", "/api/traffic-weights?guard=false", {"original": 100 - share, "ultra_fast": share})
            case 1:
                self.timeout = 30 + turn % 17
                self.configure()
                return self.ask("POST", "/api/reload")
            case _:
                port = self.analyzers[turn // 3 % ANALYZERS]
                self.running[port].kill()
                self.running[port].wait()
                self.analyzer(port)
                return "done"

    def holds(self):
        status = pathlib.Path(f"/proc/{self.serin.pid}/status").read_text()
        files = len(list(pathlib.Path(f"/proc/{self.serin.pid}/fd").iterdir()))
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)), files

    def answers(self):
        text = self.ask("GET", "/metrics") or ""
        found = re.findall(r'^serin_answers_total\{([^}]*)\} (\d+)', text, re.M)
        failed = sum(int(count) for labels, count in found if re.search(r'(?:code|status)="5', labels))
        return sum(int(count) for _, count in found), failed

    # Why requests failed.
    def reasons(self):
        text = self.ask("GET", "/metrics") or ""
        found = re.findall(r'^serin_answers_total\{([^}]*)\} ([1-9]\d*)', text, re.M)
        return "\n".join(f"{count} {labels}" for labels, count in found)


def main():
    lasts = float(sys.argv[1])
    rows, faults, turn = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(pathlib.Path(folder))
        try:
            soak.start()
            print("| after | requests | failed | changes | memory | files |\n|---|---|---|---|---|---|", flush=True)
            began = looked = time.monotonic()
            while time.monotonic() - began < lasts:
                if not soak.change(turn):
                    faults.append(f"change {turn} was refused")
                turn += 1
                if time.monotonic() - looked >= LOOK_EVERY:
                    looked = time.monotonic()
                    (memory, files), (asked, failed) = soak.holds(), soak.answers()
                    rows.append((looked - began, memory, files, asked, failed))
                    print(f"| {looked - began:.0f} s | {asked:,} | {failed} | {turn} | {memory / 1024:.1f} MiB | {files} |", flush=True)
                time.sleep(CHANGE_EVERY)
            if soak.serin.poll() is not None:
                faults.append("serin ended")
            print(soak.reasons())
        finally:
            soak.stop()
    faults += judged(rows, lasts)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def judged(rows, lasts):
    late = [row for row in rows if row[0] >= SETTLED * lasts]
    if len(late) < 2:
        return ["too short to say whether anything grew"]
    half = len(late) // 2
    most = lambda part, column: max(row[column] for row in part)
    faults = []
    for column, what, may_grow in ((1, "KiB of memory", MEMORY_MAY_GROW), (2, "open files", FILES_MAY_GROW)):
        before, after = most(late[:half], column), most(late[half:], column)
        if after > may_grow * before:
            faults.append(f"from {before} to {after} {what}")
    _, _, _, asked, failed = late[-1]
    if not asked or failed:
        faults.append(f"{failed} of {asked} requests failed")
    return faults


if __name__ == "__main__":
    sys.exit(main())
