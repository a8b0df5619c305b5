"""Instructions, allocations and system calls per request, and whether they are within their budget. See load-tests/counts."""

import pathlib
import re
import subprocess
import sys
import tempfile

import machine
import programs

# Twice as many requests cost twice as much; what a process costs by itself falls out of the difference.
FEW, MANY = 1_000, 3_000
ALLOCATING = re.compile(r"_rjem_(malloc|mallocx|calloc|rallocx|realloc)$")
# Above what was measured (docs/PERFORMANCE.md) by what a compiler's next version may change: 10 %. Where much of the code has changed, the profile that it is
# compiled by may want to be written anew first (load-tests/profile). Calls depend on how many connections are ready at
# once, and have 20 %.
BUDGET = {
    "HTTP/1.1": {"instructions": 28_500, "allocations": 11, "system calls": 5.3},
    "HTTP/2": {"instructions": 42_500, "allocations": 17, "system calls": 4.0},
    "TLS 1.3, HTTP/1.1": {"instructions": 35_700, "allocations": 15, "system calls": 5.3},
    "TLS 1.3, HTTP/2": {"instructions": 47_400, "allocations": 18, "system calls": 4.0},
}
SHAPES = {"HTTP/1.1": ["--h1", "-c8"], "HTTP/2": ["-c2", "-m4"], "TLS 1.3, HTTP/1.1": ["--h1", "-c8"], "TLS 1.3, HTTP/2": ["-c2", "-m4"]}
# What callgrind counts beside instructions with its model of a cache of 32 KiB each and of a predictor; and how it is called here.
SIMULATED = ["--cache-sim=yes", "--branch-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=33554432,16,64"]
SHOWN = {"instructions": ["Ir"], "missed code": ["I1mr"], "missed data": ["D1mr", "D1mw"], "mispredicted": ["Bcm", "Bim"]}


def main():
    if sys.argv[1:] == ["beside"]:
        return beside()
    over = []
    print("| per request | " + " | ".join(BUDGET["HTTP/1.1"]) + " |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        place = programs.Place(pathlib.Path(folder))
        upstream = programs.Upstream(place, False)
        try:
            for shape, words in SHAPES.items():
                found = measured(place, upstream, (words, shape.startswith("TLS")))
                said = [f"{found[what]:,.1f} (at most {most:,})" for what, most in BUDGET[shape].items()]
                print(f"| {shape} | " + " | ".join(said) + " |", flush=True)
                over += [f"{shape}: {what}" for what, most in BUDGET[shape].items() if found[what] > most]
        finally:
            upstream.stop()
    for what in over:
        print(f"over its budget: {what}", file=sys.stderr)
    return 1 if over else 0


def beside():
    """The same work in HAProxy and in serin: what each runs in user mode, and what of it misses the first caches."""
    print("| per request | program | " + " | ".join(SHOWN) + " |\n|---|---|" + "---|" * len(SHOWN))
    with tempfile.TemporaryDirectory() as folder:
        place = programs.Place(pathlib.Path(folder))
        upstream = programs.Upstream(place, False)
        try:
            for shape, words in SHAPES.items():
                for name in ("HAProxy", "serin"):
                    few, many = (simulated(place, upstream, name, (words, shape.startswith("TLS")), requests) for requests in (FEW, MANY))
                    each = [sum(many[event] - few[event] for event in events) / (MANY - FEW) for events in SHOWN.values()]
                    print(f"| {shape} | {name} | " + " | ".join(f"{count:,.0f}" for count in each) + " |", flush=True)
        finally:
            upstream.stop()
    return 0


# What the busiest thread of a program cost that served so many requests.
def simulated(place, upstream, name, shape, requests):
    return max((events_of(text) for text in counting(place, upstream, name, shape, requests, SIMULATED)), key=lambda events: events["Ir"])


def events_of(text):
    names = re.search(r"^events: (.+)", text, re.M).group(1).split()
    totals = re.search(r"^(?:totals|summary): (.+)", text, re.M).group(1).split()
    return dict(zip(names, map(int, totals)))


def measured(place, upstream, shape):
    few, many = (counted(place, upstream, shape, requests) for requests in (FEW, MANY))
    per_request = [(more - less) / (MANY - FEW) for less, more in zip(few, many)]
    return {"instructions": per_request[0], "allocations": per_request[1], "system calls": calls(place, upstream, shape)}


def counted(place, upstream, shape, requests):
    """Instructions and allocations of a worker that served so many requests."""
    return max(of_thread(text) for text in counting(place, upstream, "serin", shape, requests, []))


def counting(place, upstream, name, shape, requests, options):
    """What callgrind says of each thread of a program that served so many requests."""
    profile = place.folder / "profile"
    wrapper = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", "--separate-threads=yes", *options]
    program = begin(place, upstream, wrapper, name, shape)
    try:
        drive(program.port, shape, requests)
    finally:
        program.stop()
    told = [path.read_text() for path in place.folder.glob("profile-*")]
    for path in place.folder.glob("profile*"):
        path.unlink()
    return told


def of_thread(text):
    total = events_of(text)["Ir"]
    names = dict(re.findall(r"^c?fn=\((\d+)\) (.+)$", text, re.M))
    called = re.findall(r"^cfn=\((\d+)\).*\ncalls=(\d+)", text, re.M)
    return total, sum(int(count) for name, count in called if ALLOCATING.search(names.get(name, "")))


def calls(place, upstream, shape):
    program = begin(place, upstream, [], "serin", shape)
    try:
        drive(program.port, shape, FEW)
        worker = next(path.parent.name for path in pathlib.Path(f"/proc/{program.pid}/task").glob("*/comm")
                      if path.read_text().strip() == "worker-0")
        counting = machine.Calls([worker], follow=False)
        drive(program.port, shape, MANY)
        return sum(counting.end().values()) / MANY
    finally:
        program.stop()


def begin(place, upstream, wrapper, name, shape):
    port = programs.free_port()
    command = programs.PROGRAMS[name](place, port, upstream.port, 1, shape[1], False)
    return programs.Running([*wrapper, *command], "0", port, place.folder / f"{name}.log")


def drive(port, shape, requests):
    words, tls = shape
    url = f"{'https' if tls else 'http'}://{programs.HOST}:{port}/"
    done = subprocess.run(["h2load", *words, f"-n{requests}", "-H", "x-learner-id: anna", url],
                          capture_output=True, text=True, timeout=120, check=True)
    if f"{requests} succeeded" not in done.stdout:
        raise SystemExit(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
