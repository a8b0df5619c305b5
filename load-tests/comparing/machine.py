"""What the kernel knows of processes: their CPU time, memory and system calls, and what machine this is."""

import datetime
import os
import pathlib
import re
import signal
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")


def described():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    versions = [line for line in (
        first_line([os.environ["SERIN_BIN"], "--version"]),
        first_line(["haproxy", "-v"]),
        "nginx " + first_line(["/usr/sbin/nginx", "-v"]).rpartition("/")[2],
    )]
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return f"{today}, {os.cpu_count()} cores ({model.group(1) if model else 'unknown'}); " + "; ".join(versions)


def first_line(words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return (done.stdout.splitlines() or [""])[0]


def family(pid):
    """A process and all that it started."""
    found = [pid]
    for child in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for other in child.read_text().split():
            found += family(int(other))
    return found


def cpu_seconds(pids):
    """User and system time so far."""
    user = system = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11])
        system += int(fields[12])
    return user / TICKS, system / TICKS


def thread_seconds(pid):
    """Time on a processor so far of each thread of a process and of all that it started."""
    files = [path for one in family(pid) for path in pathlib.Path(f"/proc/{one}/task").glob("*/schedstat")]
    return {path.parent.name: int(path.read_text().split()[0]) / 1e9 for path in files}


def resident_kib(pids):
    """Memory that is theirs: shared pages are counted by their share."""
    text = "".join(pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(kib) for kib in re.findall(r"^Pss:\s+(\d+)", text, re.M))


def steal():
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) / TICKS


class Calls:
    """Counts the system calls of processes until it is asked."""

    def __init__(self, pids, follow=True):
        words = ["strace", *["-f"] * follow, "-c", "-U", "calls,name"]
        for pid in pids:
            words += ["-p", str(pid)]
        self.tracer = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(1.0)

    def end(self):
        self.tracer.send_signal(signal.SIGINT)
        _, told = self.tracer.communicate(timeout=20)
        calls = {}
        for count, name in re.findall(r"^\s*(\d+)\s+(\w+)$", told, re.M):
            if name != "total":
                calls[name] = int(count)
        return calls
