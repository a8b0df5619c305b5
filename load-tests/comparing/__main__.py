"""Runs the cases that were asked for, and prints what they say. See load-tests/compare."""

import argparse
import json
import os
import pathlib
import sys
import tempfile

import cases
import machine
import programs
import tables

RAW = pathlib.Path("target/compare/raw.json")


def main():
    parser = argparse.ArgumentParser(prog="load-tests/compare")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--only", default="", help="names of programs, by commas")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("case", nargs="*")
    asked = parser.parse_args()
    if asked.list:
        for case in cases.ALL:
            print(f"{case.name:12} {case.about}")
        return 0
    unknown = set(asked.case) - {case.name for case in cases.ALL}
    if unknown:
        parser.error(f"there is no case {', '.join(sorted(unknown))}; --list names them")
    chosen = [case for case in cases.ALL if not asked.case or case.name in asked.case]
    only = set(asked.only.split(",")) if asked.only else None
    print(machine.described(), flush=True)
    raw, faults = [], []
    with tempfile.TemporaryDirectory() as folder:
        place = programs.Place(pathlib.Path(folder))
        for case in chosen:
            found = case.measure(place, asked.rounds, asked.seconds, only)
            raw.append({"case": case.name, "about": case.about, "figures": found})
            faults += [f"{case.name}: {fault}" for figure in found for fault in figure["faults"]]
            print("\n" + tables.of(case, found), flush=True)
    RAW.parent.mkdir(parents=True, exist_ok=True)
    RAW.write_text(json.dumps({"machine": machine.described(), "cases": raw}, indent=1))
    for fault in faults:
        print(f"not to be reported: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    os.chdir(pathlib.Path(__file__).resolve().parents[2])
    sys.exit(main())
