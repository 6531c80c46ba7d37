# SPDX-License-Identifier: MIT
"""Writes what guest.sh is to measure, one line each (its header tells their form).

Usage: plan.py SCOPE INSTRUMENT [--rounds N] [--disks FILE] [--programs NAME=PATH]...

  SCOPE       quick, full, seed, memory (of the servers) or compare
  INSTRUMENT  counts (each measurement once: they repeat) or clock (in rounds)
  --disks     JSON list of all disks that the program serves, for the matrix of a full run
  --programs  where the guest has our server; in the scope compare two of them
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
SEED = [
    "memory/per_cpu/per_wakeup/get_data",
    "memory/per_cpu/per_wakeup/copy",
    "memory/per_cpu/batch_io/copy",
]
MEMORY = SEED + [
    "memory/per_cpu/per_wakeup/user_copy",
    "memory/per_cpu/batch_io/user_copy",
    "file/per_cpu/per_wakeup/auto_buffer",
]
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
             rounds=None):
        count = requests or requests_of(size, depth)
        last = self.counts if self.instrument == "counts" else (rounds or self.rounds)
        enters = 0 if client == "fio" else min(count, 4000)
        self.lines.append(f"cell {client} {way} {size} {depth} {jobs} {count} "
                          f"{self.milliseconds} {enters} 1 {last}")

    def end(self):
        self.lines.append("end")


def axes(plan):
    """One thing at a time is changed around 4 KiB reads, 64 at a time."""
    plan.cell()
    plan.cell(client="fio", requests=60000, rounds=1)
    for depth in (1, 4, 16, 128):
        plan.cell(depth=depth)
    for size in (64 * KIB, MIB):
        plan.cell(size=size)
    for way in ("write", "mixed"):
        plan.cell(way=way)


def jobs(plan, rounds):
    for count in (1, 2, 4):
        plan.cell(jobs=count, rounds=rounds)


def seed(plan, rounds, clients):
    """The three rows of the table in the README of the library that this one comes from."""
    plan.group("seed", 2, ["loop"] + SEED)
    for client in clients:
        for way, count in (("read", 1), ("read", 4), ("write", 4)):
            plan.cell(way=way, jobs=count, client=client, rounds=rounds,
                      requests=60000 if client == "fio" else None)
    plan.end()


def quick(plan):
    plan.group("null", 1, ["null_blk", "kublk", "kublk-b", "kublk-auto_zc"] + NULL)
    if plan.instrument == "counts":
        plan.cell()
        plan.cell(client="fio", requests=40000)
    plan.cell(depth=1, rounds=2)
    plan.end()
    if plan.instrument == "clock":
        plan.group("null-jobs", 2, ["null_blk", *KUBLK, *NULL, *HOLLOW[2:]])
        jobs(plan, 3)
        plan.end()
    seed(plan, 9, ["load"])


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
    seed(plan, 9, ["load", "fio"])
    if plan.instrument == "counts":
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


def memory(plan):
    plan.group("server-memory", 4, ["kublk"] + NULL, max_io="256K")
    plan.lines.append("memory")
    plan.cell(jobs=4)
    plan.end()


def compare(plan, programs):
    """The same disks of two builds beside each other."""
    plan.counts = 3
    for disk in NULL + SEED:
        plan.lines.append("group compare 1 128 1M")
        for name, path in programs:
            plan.lines.append(f"contender {name}:{disk} ours {path} {disk}")
        for depth in (1, 64):
            plan.cell(depth=depth)
        plan.cell(way="write")
        plan.end()


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("scope", choices=["quick", "full", "seed", "memory", "compare"])
    parser.add_argument("instrument", choices=["counts", "clock"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--milliseconds", type=int, default=300)
    parser.add_argument("--disks")
    parser.add_argument("--programs", nargs=2, default=[])
    asked = parser.parse_args()
    plan = Plan(asked.instrument, asked.rounds, asked.milliseconds)
    if asked.scope == "full":
        with open(asked.disks, encoding="ascii") as file:
            full(plan, json.load(file))
    elif asked.scope == "seed":
        seed(plan, max(asked.rounds, 9), ["load", "fio"])
    elif asked.scope == "compare":
        compare(plan, [each.split("=", 1) for each in asked.programs])
    else:
        {"quick": quick, "memory": memory}[asked.scope](plan)
    print("\n".join(plan.lines))


if __name__ == "__main__":
    main()
