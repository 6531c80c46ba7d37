# SPDX-License-Identifier: MIT
"""Collects what guest.sh has measured into one JSON file, and renders that as a report.

Usage: report.py collect --lines DIR --scope S --command C --commit C --compiler C >results.json
       report.py render results.json DIR      writes DIR/report.md and DIR/report.html
       report.py ram-disk results.json        prints our RAM disk in percent of loop
       report.py compare results.json         prints what compare.sh has measured
"""
import argparse
import json
import os
import platform
import sys
import time

import document
import goals
from figures import Figures

VERSION = 3


class Broken(Exception):
    """The input is not what it should be."""


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError as wrong:
                raise Broken(f"{path}, line {number}: {wrong}") from None


def cpu_model():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def read_array(path):
    """What loop.py or user_instructions.sh has printed; nothing where it was not asked to."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def lean(cell):
    """Without digits that nobody needs, nor the servers' memory, which has lines of its own."""
    measured = {}
    for name, value in cell["measured"].items():
        if name.endswith("_kib"):
            continue
        measured[name] = round(value) if name.endswith("_ns") else value
    return {**cell, "measured": measured}


def collect(asked):
    cells, memory, guests = [], [], {}
    for name in sorted(os.listdir(asked.lines)):
        path = os.path.join(asked.lines, name)
        kind, _, which = name.partition(".")
        if kind == "guest":
            with open(path, encoding="utf-8") as file:
                guests[which] = file.read().strip()
        elif kind == "lines":
            for line in read_lines(path):
                if "memory" in line:
                    memory.append(line)
                else:
                    cells.append(lean(line))
    return {
        "version": VERSION,
        "scope": asked.scope,
        "about": {
            "command": asked.command,
            "commit": asked.commit,
            "compiler": asked.compiler,
            "machine": f"{cpu_model()}, {os.cpu_count()} CPUs, Linux {platform.release()}",
            "guests": guests,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        },
        "own": read_array(os.path.join(asked.lines, "own")),
        "user": read_array(os.path.join(asked.lines, "user")),
        "memory": memory,
        "cells": cells,
    }


CELL = {"group": str, "contender": str, "instrument": str, "client": str, "way": str,
        "bytes": int, "depth": int, "jobs": int, "round": int, "measured": dict}


def check(results):
    """What a report is made from is all there, and of the right kind."""
    if not isinstance(results, dict) or results.get("version") != VERSION:
        raise Broken(f"not a results file of version {VERSION}")
    for name, kind in (("about", dict), ("own", list), ("user", list), ("memory", list),
                       ("cells", list)):
        if not isinstance(results.get(name), kind):
            raise Broken(f"{name} is missing")
    if not results["cells"]:
        raise Broken("nothing was measured")
    for number, cell in enumerate(results["cells"]):
        for name, kind in CELL.items():
            if not isinstance(cell, dict) or not isinstance(cell.get(name), kind):
                raise Broken(f"cell {number}: {name} is missing or of the wrong kind")
        for name in ("requests", "ns"):
            value = cell["measured"].get(name)
            if not isinstance(value, int) or value <= 0:
                raise Broken(f"cell {number}: {name} is {value}")
        if cell["instrument"] not in ("counts", "clock"):
            raise Broken(f"cell {number}: instrument {cell['instrument']}")


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            results = json.load(file)
    except (OSError, ValueError) as wrong:
        raise Broken(f"{path}: {wrong}") from None
    check(results)
    return results


def render(results, directory):
    pages = document.report(results, Figures(results["cells"]), goals)
    for name, text in (("report.md", document.markdown(pages)),
                       ("report.html", document.html(pages))):
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)
    for line in goals.summary(results, Figures(results["cells"])):
        print(line)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("collect")
    for name in ("lines", "scope", "command", "commit", "compiler"):
        step.add_argument("--" + name, required=True)
    step = steps.add_parser("render")
    step.add_argument("results")
    step.add_argument("directory")
    for name in ("ram-disk", "compare"):
        steps.add_parser(name).add_argument("results")
    asked = parser.parse_args()
    try:
        if asked.step == "collect":
            results = collect(asked)
            check(results)
            json.dump(results, sys.stdout, indent=None, separators=(",", ":"))
            print()
        elif asked.step == "render":
            render(load(asked.results), asked.directory)
        else:
            figures = Figures(load(asked.results)["cells"])
            page = goals.ram_disk_table if asked.step == "ram-disk" else document.compare_page
            sys.stdout.write(document.markdown([page(figures)]))
    except Broken as wrong:
        sys.exit(f"report.py: {wrong}")


if __name__ == "__main__":
    main()
