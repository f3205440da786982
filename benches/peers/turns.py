"""Measurements side by side: every one a fresh process, taken in turns, so that a slow spell falls on all of them."""

import json
import os
import statistics
import subprocess
import sys
import time


def memory(field):
    """VmRSS or VmHWM of this process, in MiB."""
    for line in open("/proc/self/status"):
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def cpu_seconds():
    """Busy time of the whole machine since boot, over all cores."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, open("/proc/stat").readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def measure(command):
    """Runs a command that prints one JSON line; adds the share of the machine that others used meanwhile."""
    children = lambda: sum(os.times()[2:4])
    start, all_before, own_before = time.perf_counter(), cpu_seconds(), children()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    took = time.perf_counter() - start
    others = (cpu_seconds() - all_before) - (children() - own_before)
    if done.returncode != 0:
        sys.exit(f"failed ({done.returncode}): {' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    result["others"] = max(0.0, others / took / os.cpu_count())
    return result


def take_turns(runners, rounds):
    """Rounds of turns; what each of the named commands measured, in order of the rounds."""
    results = {name: [] for name in runners}
    names = list(runners)
    for turn in range(rounds):
        first = turn % max(len(names), 1)
        for name in names[first:] + names[:first]:  # nobody always goes first
            results[name].append(measure(runners[name]))
    return results


def cpu_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return os.uname().machine


def span(values, digits=0):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"
