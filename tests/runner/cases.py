#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs a GoogleTest program, or reads the log of a run, and says what failed.

Usage: cases.py [--counts FILE] [--silence SECONDS] -- PROGRAM [ARG]...
       cases.py [--counts FILE] --log FILE

One start runs many cases. What a case prints is shown only where it failed. A case that crashes or
hangs is named too, and the cases after it run in a new process.

  --counts FILE       gets a line "PASSED FAILED SKIPPED"
  --silence SECONDS   how long the program may print nothing before it counts as hanging (120)

Exit status: 0 all passed or were skipped; 1 some failed; 2 wrong usage.
"""

import argparse
import os
import re
import selectors
import signal
import subprocess
import sys

MARKER = re.compile(
    r"\[( RUN      |       OK |  FAILED  |  SKIPPED )\] ([^\s,:()]+\.[^\s,()]+)"
    r"(?:, where .*?)?(?: \(\d+ ms\))?\s*$")


class Cases:
    """The cases that a program's output tells of."""

    def __init__(self):
        self.outcome = {}  # name: "OK", "FAILED" or "SKIPPED"
        self.output = {}  # name: lines
        self.running = None
        self.elsewhere = []  # lines outside of any case

    def take(self, line):
        found = MARKER.search(line)
        if not found:
            self._keep(line)
            return
        kind, name = found[1].strip(), found[2]
        if kind == "RUN":
            self.end("ended without a verdict")
            self.running = self._unused(name)
            self.output[self.running] = []
        elif self.running is not None and name == self.running.split(" ")[0]:
            self._keep(line)
            self.outcome[self.running] = kind
            self.running = None
        # Else the summary repeats names.

    def _unused(self, name):
        """GTEST_REPEAT runs a case more than once."""
        number, unused = 1, name
        while unused in self.outcome:
            number += 1
            unused = f"{name} (time {number})"
        return unused

    def end(self, reason):
        """A case still running now has failed."""
        if self.running is not None:
            self._keep(reason)
            self.outcome[self.running] = "FAILED"
            self.running = None

    def _keep(self, line):
        lines = self.elsewhere if self.running is None else self.output[self.running]
        lines.append(line)

    def names(self, outcome):
        return [name for name, each in self.outcome.items() if each == outcome]

    def report(self):
        skipped = self.names("SKIPPED")
        for name in skipped:
            reason = " ".join(" ".join(self.output[name][:-1]).split())
            print(f"skipped: {name}: {reason[:200]}")
        failed = self.names("FAILED")
        for name in failed:
            print(f"\n[ RUN      ] {name}")
            print("\n".join(self.output[name]))
        for name in failed:
            print(f"failed: {name}")
        print(f"{len(self.names('OK'))} passed, {len(failed)} failed, {len(skipped)} skipped",
              flush=True)


def read_log(path):
    cases = Cases()
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log:
            cases.take(line.rstrip("\r\n"))
    cases.end("the log ends here")
    return cases


def lines_of(process, silence):
    """The lines that a process prints; None once it was silent for too long."""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        rest = b""
        while True:
            if not selector.select(silence):
                yield None
                return
            piece = os.read(process.stdout.fileno(), 1 << 16)
            if not piece:
                break
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


def how_it_ended(status):
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by {signal.Signals(-status).name}"


def run_once(command, environment, cases, silence):
    """Whether the program came to its end, and its status."""
    process = subprocess.Popen(command + ["--gtest_color=no"], env=environment,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               start_new_session=True)
    hangs = False
    for line in lines_of(process, silence):
        if line is None:
            hangs = True
            os.killpg(process.pid, signal.SIGKILL)
            break
        cases.take(line)
    try:
        status = process.wait(timeout=silence)
    except subprocess.TimeoutExpired:
        hangs = True
        os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    regular = cases.running is None and status in (0, 1)
    cases.end(f"hangs: nothing was printed for {silence} s" if hangs
              else f"the program {how_it_ended(status)} here")
    return regular, status


def listed(command, environment):
    """The cases that a program would run, in their order, as GoogleTest deals them to shards."""
    said = subprocess.run(command + ["--gtest_list_tests"], env=environment, check=True,
                          timeout=120, stdout=subprocess.PIPE).stdout.decode()
    names, suite = [], ""
    for line in said.splitlines():
        name = line.split("#")[0].rstrip()
        if not name.startswith(" "):
            suite = name
        elif "DISABLED_" not in suite + name:
            names.append(suite + name.strip())
    total = int(environment.get("GTEST_TOTAL_SHARDS", "1"))
    return names[int(environment.get("GTEST_SHARD_INDEX", "0"))::total]


def run(command, silence):
    cases = Cases()
    environment = dict(os.environ)
    complaint = None
    regular, status = run_once(command, environment, cases, silence)
    if not regular:
        wanted = listed(command, environment)
        for name in ("GTEST_TOTAL_SHARDS", "GTEST_SHARD_INDEX"):
            environment.pop(name, None)
        while not regular:
            known = len(cases.outcome)
            rest = [name for name in wanted if name not in cases.outcome]
            if not rest:
                break
            environment["GTEST_FILTER"] = ":".join(rest)
            regular, status = run_once(command, environment, cases, silence)
            if len(cases.outcome) == known:
                break
    if not cases.names("FAILED") and (not regular or status != 0):
        complaint = f"the program {how_it_ended(status)}, and no case failed"
    # A filter may leave a shard without any.
    if not cases.outcome and not {"GTEST_FILTER", "GTEST_TOTAL_SHARDS"} <= os.environ.keys():
        complaint = "no case was run"
    if complaint:
        print("\n".join(cases.elsewhere[-100:]))
        print(f"failed: {complaint}")
    return cases, complaint


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1])
    parser.add_argument("--counts")
    parser.add_argument("--silence", type=int, default=120)
    parser.add_argument("--log")
    parser.add_argument("command", nargs="*")
    asked = parser.parse_args()
    if (asked.log is None) == (not asked.command):
        parser.error("either --log FILE or -- PROGRAM")
    complaint = None
    if asked.log:
        cases = read_log(asked.log)
    else:
        try:
            cases, complaint = run(asked.command, asked.silence)
        except OSError as why:
            parser.error(str(why))
    cases.report()
    failed = len(cases.names("FAILED")) + (complaint is not None)
    if asked.counts:
        with open(asked.counts, "w", encoding="ascii") as counts:
            print(len(cases.names("OK")), failed, len(cases.names("SKIPPED")), file=counts)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
