"""What is measured of whom: one case a table. Programs take turns, round by round, each on the same cores."""

import dataclasses
import socket
import ssl
import statistics
import time
from typing import Callable

import drive
import machine
import programs

ALL_OF_THEM = ["floor", "HAProxy", "nginx", "nginx 1.31", "Envoy", "serin"]
PROXIES = ALL_OF_THEM[1:]
# Connections that few clients keep: a sidecar's, and more.
KEPT = [2, 4, 8, 16, 64]
# Below it, the proxy was not what the others waited for.
SATURATED = 0.9
WARM_SECONDS = 1
STEP = 1_000_000
# What a program does when it begins is over, and what it held for connections that were busy is given back.
BEGUN_SECONDS, REST_SECONDS = 3, 15


@dataclasses.dataclass
class Case:
    """One way to drive them. `unit` is what the CPU time is told per: a request, or a MiB."""

    name: str
    about: str
    drive: Callable
    programs: list
    workers: int = 1
    tls: bool = False
    grpc: bool = False
    unit: str = "request"
    units: float = 1.0
    closed: bool = True
    calls: bool = False

    def measure(self, place, rounds, seconds, only):
        upstream = programs.Upstream(place, self.grpc)
        names = [name for name in self.programs if only is None or name in only]
        found = {name: [] for name in names}
        running = {}
        try:
            for name in names:
                running[name] = programs.start(name, place, upstream, self.workers, self.tls, self.grpc)
            faults = {name: [] for name in names}
            for name in names:
                attempt(faults[name], lambda: self.once(running[name], upstream, WARM_SECONDS))
            for _ in range(rounds):
                for name in names:
                    figure = attempt(faults[name], lambda: self.once(running[name], upstream, seconds))
                    found[name] += [figure] if figure else []
            calls = {name: self.count_calls(running[name]) for name in names} if self.calls else {}
        finally:
            for program in running.values():
                program.stop()
            upstream.stop()
        return [self.summed(name, found[name], faults[name], calls.get(name)) for name in names]

    # One run of one program, between two looks at its CPU time.
    def once(self, program, upstream, seconds):
        scheme = "https" if self.tls else "http"
        pids = machine.family(program.pid)
        before, began, stolen = machine.cpu_seconds(pids), time.monotonic(), machine.steal()
        sent = self.drive(f"{scheme}://{programs.HOST}:{program.port}", seconds)
        took = time.monotonic() - began
        user, system = (after - earlier for after, earlier in zip(machine.cpu_seconds(pids), before))
        done = sent["requests"] * self.units
        return sent | {
            "user_us": STEP * user / done,
            "system_us": STEP * system / done,
            "cpu_us": STEP * (user + system) / done,
            "busy": (user + system) / took / self.workers,
            "stolen": (machine.steal() - stolen) / took,
            "per_second": sent["requests"] / took,
        }

    def count_calls(self, program):
        counting = machine.Calls(machine.family(program.pid))
        scheme = "https" if self.tls else "http"
        sent = self.drive(f"{scheme}://{programs.HOST}:{program.port}", 2)
        return {name: count / sent["requests"] for name, count in counting.end().items() if count > sent["requests"] / 100}

    def summed(self, name, rounds, faults, calls):
        figures = {"program": name, "faults": faults, "rounds": rounds, "calls": calls}
        if not rounds:
            return figures
        for key in ("cpu_us", "user_us", "system_us", "p50_us", "p99_us", "busy", "per_second"):
            figures[key] = statistics.median(round[key] for round in rounds)
        figures["spread"] = [min(round["cpu_us"] for round in rounds), max(round["cpu_us"] for round in rounds)]
        if self.closed and name != "floor" and figures["busy"] < SATURATED:
            faults.append(f"{name} was busy for {figures['busy']:.0%} of the time: something else was the bottleneck")
        return figures


@dataclasses.dataclass
class Memory:
    """Resident memory of programs with nothing to do, and what each idle connection adds."""

    name: str
    about: str
    tls: bool = False
    clients: int = min(10_000, programs.ROOM - 300)

    def measure(self, place, rounds, seconds, only):
        upstream = programs.Upstream(place, False)
        found = []
        try:
            for name in PROXIES:
                if only is None or name in only:
                    found.append(self.of(name, place, upstream))
        finally:
            upstream.stop()
        return found

    def of(self, name, place, upstream):
        program = programs.start(name, place, upstream, 1, self.tls, False)
        figures = {"program": name, "faults": []}
        try:
            pids = machine.family(program.pid)
            time.sleep(BEGUN_SECONDS)
            figures["idle_kib"] = machine.resident_kib(pids)
            # What the first request brings along is no connection's.
            self.connect(program.port).close()
            before = machine.resident_kib(pids)
            clients = [self.connect(program.port) for _ in range(self.clients)]
            time.sleep(REST_SECONDS)
            figures["full_kib"] = machine.resident_kib(pids)
            figures["each_kib"] = (figures["full_kib"] - before) / self.clients
            open_still = sum(is_open(client) for client in clients)
            if open_still < self.clients:
                figures["faults"].append(f"{name} ended {self.clients - open_still} of {self.clients} connections")
            for client in clients:
                client.close()
        finally:
            program.stop()
        return figures

    # A connection that asked once and is kept.
    def connect(self, port):
        client = socket.create_connection((programs.HOST, port), timeout=20)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client = context.wrap_socket(client)
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nx-learner-id: anna\r\n\r\n")
        answer = b""
        while not answer.endswith(b"x" * 1024):
            piece = client.recv(65536)
            if not piece:
                raise SystemExit(f"a connection was ended after {answer!r}")
            answer += piece
        return client


@dataclasses.dataclass
class Spread:
    """How evenly a few kept connections are spread over two workers: what share of their CPU time the busier one used."""

    name: str
    about: str

    def measure(self, place, rounds, seconds, only):
        upstream = programs.Upstream(place, False)
        try:
            names = [name for name in PROXIES if only is None or name in only]
            return [self.of(name, place, upstream, rounds * 2) for name in names]
        finally:
            upstream.stop()

    def of(self, name, place, upstream, rounds):
        program = programs.start(name, place, upstream, 2, False, False)
        figures = {"program": name, "faults": [], "shares": {}}
        try:
            url = f"http://{programs.HOST}:{program.port}/"
            drive.wrk(url, 64, WARM_SECONDS)
            for connections in KEPT:
                found = []
                for _ in range(rounds):
                    before = machine.thread_seconds(program.pid)
                    attempt(figures["faults"], lambda: drive.wrk(url, connections, WARM_SECONDS))
                    after = machine.thread_seconds(program.pid)
                    first, second, *_ = sorted((spent - before.get(task, 0) for task, spent in after.items()), reverse=True)
                    found.append(first / (first + second))
                figures["shares"][connections] = sorted(found)
        finally:
            program.stop()
        return figures


def is_open(client):
    client.settimeout(0)
    try:
        return bool(client.recv(1))
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False


def attempt(faults, act):
    try:
        return act()
    except drive.Broken as broken:
        faults.append(str(broken))
        return None


def bodies(size):
    return lambda url, seconds: drive.wrk(f"{url}/bytes/{size}", 32, seconds)


MIB = 1024 * 1024
kept = lambda url, seconds: drive.wrk(f"{url}/", 64, seconds)
ALL = [
    Case("h1", "HTTP/1.1, 64 kept connections, one worker", kept, ALL_OF_THEM, calls=True),
    Case("h1-two", "the same, two workers", kept, [name for name in ALL_OF_THEM if name != "floor"], workers=2, closed=False),
    Case("one", "HTTP/1.1, one connection: latency", lambda url, seconds: drive.wrk(f"{url}/", 1, seconds), ALL_OF_THEM, closed=False),
    Case("rate", "HTTP/1.1, 5,000 requests a second over 50 connections: latency",
         lambda url, seconds: drive.h2load(f"{url}/", 50, seconds, http1=True, rate=5000), ALL_OF_THEM, closed=False),
    Case("16k", "bodies of 16 KiB", bodies(16 * 1024), ALL_OF_THEM, unit="MiB", units=16 / 1024),
    Case("1m", "bodies of 1 MiB", bodies(MIB), ALL_OF_THEM, unit="MiB"),
    Case("tls", "TLS 1.3, HTTP/1.1, 64 kept connections", kept, PROXIES, tls=True),
    Case("handshake", "a full TLS handshake for each request",
         lambda url, seconds: drive.handshakes(url, 16, seconds), PROXIES, tls=True, unit="handshake"),
    Case("h2c", "HTTP/2 in the clear, 16 connections of 8 streams", lambda url, seconds: drive.h2load(f"{url}/", 16, seconds, streams=8),
         [name for name in PROXIES if not name.startswith("nginx")], calls=True),
    Case("h2", "HTTP/2 over TLS, 16 connections of 8 streams", lambda url, seconds: drive.h2load(f"{url}/", 16, seconds, streams=8), PROXIES, tls=True),
    Case("grpc", "unary gRPC, HTTP/2 in the clear on both sides",
         lambda url, seconds: drive.h2load(f"{url}/analyzer.Analyzer/Analyze", 16, seconds, streams=8, data="load-tests/comparing/message.bin"), PROXIES, grpc=True),
    Case("drivers", "one loop that only hands bytes on, by epoll and by io_uring", kept,
         ["HAProxy", "floor", "loop, epoll", "loop, io_uring"], closed=False, calls=True),
    Spread("spread", "what the busier of two workers does of the work, by kept connections (50 % is even)"),
    Memory("memory", "resident memory, and what each of 10,000 idle connections adds (as many as the limit of files has room for)"),
    Memory("memory-tls", "the same over TLS", tls=True),
]
