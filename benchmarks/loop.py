# SPDX-License-Identifier: MIT
"""Runs the program loop twice, by the clock and under callgrind, and prints as JSON what each loop
of the matrix takes for a request of 4 KiB.

Usage: loop.py LOOP

  instructions   in user mode, exact
  moving         of which within memcpy, memmove and memset
  ns             least of five runs on this machine
"""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

MOVING = re.compile(r"^(__)?mem(cpy|move|set)")
COST = re.compile(r"^[+\-*\d]\S* (\d+)$")


def run(command, limit):
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    if done.returncode != 0:
        sys.exit(f"loop.py: {command[0]} failed: {done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def read_dump(path):
    """(trigger, all instructions, those that move memory) of one of callgrind's files."""
    trigger, total, moving, inside, skip = None, 0, 0, False, False
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith("desc: Trigger: Client Request: "):
                trigger = line.rsplit("Client Request: ", 1)[1].strip()
            elif line.startswith("summary: "):
                total = int(line.split()[1])
            elif line.startswith("fn="):
                inside = bool(MOVING.match(line[3:]))
            elif line.startswith("calls="):
                skip = True  # the next line is what the call took within
            elif COST.match(line.rstrip()):
                if inside and not skip:
                    moving += int(COST.match(line.rstrip()).group(1))
                skip = False
    return trigger, total, moving


def count(program, directory):
    """{(name, way): (instructions, moving)} per request."""
    lines = run(["valgrind", "--tool=callgrind", "--toggle-collect=*::collect()",
                 "--compress-strings=no", "--compress-pos=no",
                 f"--callgrind-out-file={directory}/out", program], 300)
    dumps = {}
    for path in glob.glob(os.path.join(directory, "out.*")):
        trigger, total, moving = read_dump(path)
        if trigger:
            dumps[trigger] = (total, moving)
    counts = {}
    for line in lines:
        few, many = (dumps[f"{line['name']} {line['way']} {turns}"] for turns in (100, 300))
        counts[line["name"], line["way"]] = [round((b - a) / line["requests"])
                                             for a, b in zip(few, many)]
    return counts


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    times = run([sys.argv[1]], 120)
    with tempfile.TemporaryDirectory() as directory:
        counts = count(sys.argv[1], directory)
    found = []
    for line in times:
        instructions, moving = counts[line["name"], line["way"]]
        found.append({"name": line["name"], "way": line["way"], "instructions": instructions,
                      "moving": moving, "ns": line["ns"]})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
