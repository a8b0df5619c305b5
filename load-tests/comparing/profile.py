"""What serin does while it is counted how often each part of its code runs. See load-tests/profile."""

import os
import pathlib
import subprocess
import sys
import tempfile

import drive
import programs

SECONDS = 4
# What a browser says beside the learner.
BROWSER = ["user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
           "accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "accept-language: en-GB,en;q=0.7", "accept-encoding: gzip, br",
           "cookie: session=2d8c7b0f; seen=1", "referer: http://localhost/"]
SCENARIOS = pathlib.Path("load-tests/scenarios")
# Each a plan and the world that it is tried in, so often.
SIMULATED = [("six_hours", "healthy"), ("six_hours", "always_failing"), ("six_hours", "outage"), ("aa", "aa"), ("detection", "errors_15_60s")]
RUNS = 6


def main():
    with tempfile.TemporaryDirectory() as folder:
        place = programs.Place(pathlib.Path(folder))
        for grpc, tls in [(False, False), (False, True), (True, False)]:
            upstream = programs.Upstream(place, grpc)
            try:
                serving(place, upstream, grpc, tls)
            finally:
                upstream.stop()
    # What the gate and its statistics do.
    for plan, world in SIMULATED:
        words = [os.environ["SERIN_BIN"], "simulate", "--config", SCENARIOS / f"{plan}.plan.toml", "--scenario", SCENARIOS / f"{world}.toml", "--runs", str(RUNS)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def serving(place, upstream, grpc, tls):
    program = programs.start("serin", place, upstream, 1, tls, grpc)
    url = f"{'https' if tls else 'http'}://{programs.HOST}:{program.port}"
    try:
        if grpc:
            drive.h2load(f"{url}/analyzer.Analyzer/Analyze", 16, SECONDS, streams=8, data="load-tests/comparing/message.bin")
            return
        drive.wrk(f"{url}/", 64, SECONDS)
        drive.h2load(f"{url}/", 16, SECONDS, streams=8)
        for protocol in (["--h1", "-c32"], ["-c8", "-m8"]):
            heads = [word for head in ["x-learner-id: anna", *BROWSER] for word in ("-H", head)]
            drive.run(["h2load", *protocol, f"-D{SECONDS}", *heads, f"{url}/"], SECONDS)
        for size in (16 * 1024, 1024 * 1024):
            drive.wrk(f"{url}/bytes/{size}", 16, SECONDS)
        if tls:
            drive.handshakes(url, 16, SECONDS)
    finally:
        program.stop()


if __name__ == "__main__":
    sys.exit(main())
