"""Leaves out of a profile (llvm-profdata's text, from stdin to stdout) the functions that never ran and have few branches: most of them, and what the
compiler makes of them hardly matters. Larger ones that never ran stay, so that they are made small and put apart. See load-tests/profile."""

import itertools
import sys

# Counters of a function, about one for each two of its branches.
FEW = 6


def main():
    lines = sys.stdin.read().split("\n")
    said = list(itertools.takewhile(lambda line: line.startswith(":"), lines))
    blocks = "\n".join(lines[len(said):]).split("\n\n")
    kept = [block for block in blocks if block.strip() and matters(block.split("\n"))]
    sys.stdout.write("\n".join(said) + "\n" + "\n\n".join(kept) + "\n\n")


def matters(function):
    counters = function[function.index("# Counter Values:") + 1:]
    counters = list(itertools.takewhile(str.isdigit, counters))
    return len(counters) >= FEW or any(count != "0" for count in counters)


if __name__ == "__main__":
    sys.exit(main())
