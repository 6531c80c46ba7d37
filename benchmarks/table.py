# SPDX-License-Identifier: MIT
"""Turns the lines of file-guest.sh into a Markdown table on stdout and a JSON file.

Usage: table.py COUNTING LINES JSON [COMMAND]...
"""
import json
import statistics
import sys

KUBLK = ["kublk", "kublk-auto-zc", "kublk-batch", "kublk-auto-zc-batch", "kublk-user-copy"]


def read_figures(path, counting):
    """{(backing, mode, rw, bytes, depth): {contender: [figure of each round]}}"""
    cells = {}
    with open(path, encoding="ascii") as lines:
        for line in lines:
            _, backing, mode, rw, size, depth, contender, milliseconds, requests = line.split()
            per_request = float(milliseconds) * 1e6 / float(requests)
            figure = per_request if counting else 1e9 / per_request
            cell = (backing, mode, rw, int(size), int(depth))
            cells.setdefault(cell, {}).setdefault(contender, []).append(figure)
    return cells


def lend_kublk(cells):
    """kublk is measured in the direct mode only; the buffered rows show the same figures."""
    for (backing, mode, *rest), figures in cells.items():
        if mode == "buffered":
            direct = cells[(backing, "direct", *rest)]
            figures.update({k: v for k, v in direct.items() if k in KUBLK})


def show(values, counting):
    median = f"{statistics.median(values):,.0f}"
    if counting and len(values) == 1:
        return median
    return f"{median} ({min(values):,.0f}–{max(values):,.0f})"


def row(cell, figures, contenders, counting):
    backing, mode, rw, size, depth = cell
    medians = {name: statistics.median(values) for name, values in figures.items()}
    best = (min if counting else max)(KUBLK, key=medians.get)
    # A ratio above 1 says that ours is the faster one, whatever is measured.
    faster = lambda a, b: medians[b] / medians[a] if counting else medians[a] / medians[b]
    words = [f"{backing} {mode}", rw, f"{size >> 10} KiB", str(depth)]
    words += [show(figures[name], counting) for name in contenders]
    words.append(best)
    words.append(f"{faster(best, 'loop'):.2f}")
    for name in contenders:
        if name.startswith("ours"):
            words += [f"{faster(name, best):.2f}", f"{faster(name, 'loop'):.2f}"]
    return words


def print_table(cells, commands, counting):
    ours = [f"ours{i + 1}" for i in range(len(commands))]
    contenders = ["loop", *KUBLK, *ours]
    titles = ["file", "requests", "size", "depth", *contenders, "best kublk", "its speed / loop's"]
    for name in ours:
        titles += [f"{name} / best kublk", f"{name} / loop"]
    unit = "Instructions per request, of the whole system" if counting else "Requests per second"
    print(unit + "; in the last columns, how many times as fast.\n")
    for name, command in zip(ours, commands):
        print(f"- {name}: `{command}`")
    print(("\n" if ours else "") + "| " + " | ".join(titles) + " |")
    print("|---" * len(titles) + "|")
    for cell in cells:
        print("| " + " | ".join(row(cell, cells[cell], contenders, counting)) + " |")


def write_json(path, cells, commands, counting):
    names = ("backing", "mode", "rw", "bytes", "depth")
    data = {
        "unit": "instructions per request" if counting else "requests per second",
        "ours": commands,
        "cells": [dict(zip(names, cell), figures=figures) for cell, figures in cells.items()],
    }
    with open(path, "w", encoding="ascii") as file:
        json.dump(data, file, indent=1)
        file.write("\n")


def main():
    counting = sys.argv[1] == "yes"
    commands = sys.argv[4:]
    cells = read_figures(sys.argv[2], counting)
    lend_kublk(cells)
    write_json(sys.argv[3], cells, commands, counting)
    print_table(cells, commands, counting)


main()
