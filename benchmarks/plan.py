# SPDX-License-Identifier: MIT
"""Writes what guest.sh is to measure, one line each (its header tells their form).

Usage: plan.py SCOPE INSTRUMENT [--rounds N] [--disks FILE] [--programs NAME=PATH]...

  SCOPE       quick, full, ram-disk, four-cpus, compare or profile
  INSTRUMENT  counts (few rounds: they repeat) or clock (in rounds)
  --disks     JSON list of all disks that the program serves, for the matrix of a full run
  --programs  where the guest has our server; in the scope compare two of them
  --contenders NAME...  what is profiled, by --profile QUEUES "CLIENT WAY BYTES DEPTH JOBS REQUESTS"
"""
import argparse
import json

TARGET = "/opt/benchmark/target"
CONTENDERS = {
    "null_blk": "null_blk",
    "brd": "brd",
    "loop": "loop buffered",
    "loop-direct": "loop direct",
}
KUBLK = {
    "kublk": "",
    "kublk-u": "-u",
    "kublk-b": "-b",
    "kublk-auto_zc": "--auto_zc",
    "kublk-auto_zc-b": "--auto_zc -b",
}
NULL = [
    "null/per_cpu/per_wakeup/copy",
    "null/per_cpu/per_wakeup/get_data",
    "null/per_cpu/batch_io/copy",
]
HOLLOW = [
    "hollow/per_cpu/per_wakeup/copy",
    "hollow/per_cpu/per_wakeup/user_copy",
    "hollow/per_cpu/per_wakeup/auto_buffer",
    "hollow/per_cpu/batch_io/auto_buffer",
]
RAM_DISK = [
    "memory/per_cpu/per_wakeup/get_data",
    "memory/per_cpu/per_wakeup/copy",
    "memory/per_cpu/batch_io/copy",
]
MEMORY = RAM_DISK + [
    "memory/per_cpu/per_wakeup/user_copy",
    "memory/per_cpu/batch_io/user_copy",
    "file/per_cpu/per_wakeup/auto_buffer",
]
FILE = "file/per_cpu/per_wakeup/copy"
KIB, MIB = 1 << 10, 1 << 20


def requests_of(size, depth):
    """So many that a cell takes some 200 million instructions: start and end are little of it."""
    if size >= MIB:
        return 400
    if size >= 64 * KIB:
        return 4000
    return {1: 8000, 4: 12000}.get(depth, 20000)


class Plan:
    """Lines for guest.sh."""

    def __init__(self, instrument, rounds, milliseconds):
        self.lines = []
        self.instrument = instrument
        self.rounds = rounds
        self.counts = 1  # rounds of counting: they repeat
        self.milliseconds = milliseconds

    def group(self, name, queues, contenders, depth=128, max_io="1M", kublk="null"):
        self.lines.append(f"group {name} {queues} {depth} {max_io}")
        for each in contenders:
            self.contender(each, kublk)

    def contender(self, name, kublk):
        if "/" in name:
            self.lines.append(f"contender {name} ours {TARGET} {name}")
        elif name in KUBLK:
            self.lines.append(f"contender {name} kublk {kublk} {KUBLK[name]}".rstrip())
        else:
            self.lines.append(f"contender {name} {CONTENDERS[name]}")

    def cell(self, way="read", size=4 * KIB, depth=64, jobs=1, client="load", requests=None,
             rounds=None, goal=False):
        """What a goal is about is counted three times, to know how far that repeats."""
        count = requests or requests_of(size, depth)
        last = (rounds or self.rounds) if self.instrument == "clock" else self.counts
        if goal and self.instrument == "counts":
            last = 3
        enters = 0 if client == "fio" else min(count, 4000)
        expected = self.expected(client, size, depth, count + enters)
        self.lines.append(f"cell {client} {way} {size} {depth} {jobs} {count} "
                          f"{self.milliseconds} {enters} 1 {last} {expected}")

    def expected(self, client, size, depth, requests):
        """Milliseconds that one measurement takes where CPUs are emulated."""
        counted = requests * ((26000 if depth == 1 else 10000) + 1.7 * size) / 250000
        started = 2500 if client == "fio" else 300
        return round(started + (counted if self.instrument == "counts" else self.milliseconds + 400))

    def end(self):
        self.lines.append("end")


def axes(plan):
    """One thing at a time is changed around 4 KiB reads, 64 at a time."""
    plan.cell(goal=True)
    plan.cell(client="single", goal=True)
    plan.cell(client="fio", requests=60000, rounds=1)
    plan.cell(depth=1, goal=True)
    for depth in (4, 16, 128):
        plan.cell(depth=depth)
    for size in (64 * KIB, MIB):
        plan.cell(size=size)
    for way in ("write", "mixed"):
        plan.cell(way=way)


def jobs(plan, rounds):
    for count in (1, 2, 4):
        plan.cell(jobs=count, rounds=rounds)


def ram_disk(plan, rounds, clients, contenders=None):
    """Three cells, two queues, beside loop on tmpfs."""
    plan.group("ram-disk", 2, ["loop"] + (contenders or RAM_DISK))
    for client in clients:
        for way, count in (("read", 1), ("read", 4), ("write", 4)):
            plan.cell(way=way, jobs=count, client=client, rounds=rounds,
                      requests=60000 if client == "fio" else None, goal=client != "fio")
    plan.end()


def file_on_tmpfs(plan):
    """The disk that most people serve first: a file, without options."""
    plan.group("file", 1, ["loop", "kublk", FILE], kublk="loop")
    plan.cell(client="single", goal=True)
    plan.cell(depth=1, goal=True)
    plan.end()


def four_cpus(plan):
    """Four queues, so that each client has a queue thread on its own CPU; and what servers take of
    memory, before any request."""
    plan.group("four-cpus", 4, ["null_blk", *KUBLK, *NULL], max_io="256K")
    plan.lines.append("memory")
    for client in ("single", "load"):
        for count in (1, 4):
            plan.cell(jobs=count, client=client, goal=True)
    plan.end()


def quick(plan):
    """Of the kinds of kublk the two that are its best at one of these cells."""
    if plan.instrument == "counts":
        plan.group("null", 1, ["null_blk", "kublk", "kublk-b", *NULL])
        plan.cell(goal=True)
        plan.cell(client="single", goal=True)
        plan.cell(depth=1, goal=True)
        plan.end()
        ram_disk(plan, 0, ["single", "load"], RAM_DISK[1:])
        file_on_tmpfs(plan)
    else:
        plan.group("null-jobs", 2, ["null_blk", "kublk-b", "kublk-auto_zc-b", NULL[0], NULL[2],
                                    HOLLOW[3]])
        jobs(plan, 3)
        plan.end()
        ram_disk(plan, 5, ["load"], RAM_DISK[1:])


def full(plan, disks):
    plan.group("null", 1, ["null_blk", *KUBLK, *NULL, *HOLLOW])
    axes(plan)
    plan.end()
    plan.group("null-jobs", 2, ["null_blk", *KUBLK, *NULL, *HOLLOW[2:]])
    jobs(plan, 5)
    plan.end()
    plan.group("memory", 1, ["loop", "loop-direct", "brd", *KUBLK, *MEMORY], kublk="loop")
    axes(plan)
    plan.end()
    ram_disk(plan, 9, ["single", "load"] + (["fio"] if plan.instrument == "counts" else []))
    if plan.instrument == "counts":
        file_on_tmpfs(plan)
        matrix(plan, disks)


def keeps_busy(disk):
    """Whether it takes CPU time while nobody asks anything of it. Emulated CPUs take turns: the
    one that spins has all of its turn, and a request takes half a million instructions."""
    return "spin" in disk or "sqpoll" in disk


def matrix(plan, disks):
    calm = [each for each in disks if not keeps_busy(each)]
    for first in range(0, len(calm), 16):
        plan.group("matrix", 1, calm[first:first + 16], depth=64, max_io="64K")
        plan.cell()
        plan.cell(depth=1)
        plan.end()


def compare(plan, programs):
    """The same disks of two builds beside each other."""
    plan.counts = 3
    for disk in NULL + RAM_DISK:
        plan.lines.append("group compare 1 128 1M")
        for name, path in programs:
            plan.lines.append(f"contender {name}:{disk} ours {path} {disk}")
        for depth in (1, 64):
            plan.cell(depth=depth)
        plan.cell(way="write")
        plan.end()


def profile(plan, asked, disks):
    """Some devices, each once with the profiler's marks."""
    known = [*CONTENDERS, *KUBLK, *disks]
    for each in asked.contenders:
        if each not in known:
            ours = [disk for disk in disks if disk.split("/")[0] == each.split("/")[0]]
            raise SystemExit(f"plan.py: no disk {each}: " + ", ".join(ours or known))
    plan.group("profile", int(asked.profile[0]), asked.contenders)
    plan.lines.append("profile " + asked.profile[1])
    plan.end()


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("scope", choices=["quick", "full", "ram-disk", "four-cpus", "compare",
                                          "profile"])
    parser.add_argument("instrument", choices=["counts", "clock"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--milliseconds", type=int, default=300)
    parser.add_argument("--disks")
    parser.add_argument("--programs", nargs=2, default=[])
    parser.add_argument("--contenders", nargs="+", default=[])
    parser.add_argument("--profile", nargs=2)
    asked = parser.parse_args()
    plan = Plan(asked.instrument, asked.rounds, asked.milliseconds)
    if asked.scope == "full":
        with open(asked.disks, encoding="ascii") as file:
            full(plan, json.load(file))
    elif asked.scope == "profile":
        with open(asked.disks, encoding="ascii") as file:
            profile(plan, asked, json.load(file))
    elif asked.scope == "ram-disk":
        ram_disk(plan, max(asked.rounds, 9), ["single", "load"])
    elif asked.scope == "compare":
        compare(plan, [each.split("=", 1) for each in asked.programs])
    else:
        {"quick": quick, "four-cpus": four_cpus}[asked.scope](plan)
    print("\n".join(plan.lines))


if __name__ == "__main__":
    main()
