#!/usr/bin/env python3
"""How long an iterative job takes to go on after a rank is killed, with all of its state in memory.

`heat` on a grid of some 256 MiB. Once its partners have a copy of every cell a rank is killed, and the ranks that
are left say when they did what (REGROUP_RECOVERY_STAMPS), on the clock that the kill is timed with. `restored` is
when the last rank takes a cell to its next step, so that all cells are where they were at the copy. Beside it,
the least that this takes: one core's copy of what a rank restores, for cells of its own into the memory that
they had, for those of others into memory that is new to it. Build the release preset first, then:
tests/bench/cells_recovery.py [--repeats N]
"""

import argparse
import json
import mmap
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from recovery import STAMPS, Results, ask_for_short_slices, kill_and_hear, milliseconds

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 120
COPIES_SECONDS = 1
TARGET_MS = 100


class Run:
    def __init__(self, options, ranks, folder):
        self.ranks, self.folder = ranks, folder
        command = [str(pathlib.Path(options.build) / "bin/regroup"), "run", "heat", "--grid", options.grid,
                   "--blocks", str(options.blocks), "--steps", str(options.steps), "-n", str(ranks),
                   "--dir", str(folder), "--partner-copies", str(COPIES_SECONDS), "--checkpoint-every", "off",
                   "--progress", "none"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                        env=os.environ | {"REGROUP_RECOVERY_STAMPS": "1",
                                                          "BENCH_FOLDER": str(folder)})

    def wait_for_copies(self):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                status = json.loads((self.folder / "status.json").read_bytes())
                if status["partner_copies"]["rounds"] >= self.ranks:
                    return status["partner_copies"]["bytes"]
            except OSError:
                pass
            time.sleep(0.01)
        sys.exit("cells_recovery.py: no rank has a copy of its cells")

    def pid_of(self, rank):
        for folder in pathlib.Path("/proc").iterdir():
            try:
                words = (folder / "environ").read_bytes().split(b"\0") if folder.name.isdigit() else ()
            except OSError:
                continue
            if f"BENCH_FOLDER={self.folder}".encode() in words and (
                    f"OMPI_COMM_WORLD_RANK={rank}".encode() in words):
                return int(folder.name)
        sys.exit(f"cells_recovery.py: there is no rank {rank}")

    def stamps(self):
        """By survivor; and where cells came back from."""
        _, err = self.process.communicate(timeout=DEADLINE_SECONDS)
        status = json.loads((self.folder / "status.json").read_bytes())
        if self.process.returncode != 0:
            sys.exit(f"cells_recovery.py: not survived: {err}")
        found = {}
        for match in STAMPS.finditer(err):
            rank, epoch, _, *times = match.groups()
            if epoch == "2":
                found[int(rank)] = dict(zip(("detected", "revoked", "entered", "resumed"), map(int, times)))
        return found, status["restored_from"]


def copy_ms(size, size_new):
    """One core's copy into memory that was touched before, and of so many bytes more into huge pages that were not."""
    source = memoryview(bytearray(os.urandom(1 << 20)) * (max(size, size_new) >> 20))
    target = bytearray(source[:size])
    new = mmap.mmap(-1, size_new, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    new.madvise(mmap.MADV_HUGEPAGE)
    begin = time.monotonic_ns()
    target[:] = source[:len(target)]
    new[:] = source[:size_new]
    return milliseconds(time.monotonic_ns(), begin)


def of_a_survivor(size, came_from, blocks, survivors):
    """Bytes of cells that it had, and of cells that are new to it, in whole pages."""
    regained = size * came_from["partner"] // blocks // survivors >> 20 << 20
    return (size // survivors - regained) >> 20 << 20, regained


def measure(options, results, ranks, victim, scratch):
    taken = []
    for number in range(options.repeats):
        run = Run(options, ranks, scratch / f"{ranks}-{victim}-{number}")
        size = run.wait_for_copies()
        killed, _ = kill_and_hear(run.pid_of(victim))
        stamps, came_from = run.stamps()
        taken.append({
            "detected": milliseconds(min(rank["detected"] for rank in stamps.values()), killed),
            "entered": milliseconds(max(rank["entered"] for rank in stamps.values()), killed),
            "first": milliseconds(min(rank["resumed"] for rank in stamps.values()), killed),
            "restored": milliseconds(max(rank["resumed"] for rank in stamps.values()), killed),
            "memcpy": copy_ms(*of_a_survivor(size, came_from, options.blocks, ranks - 1)),
            "partner": came_from["partner"]})
        shutil.rmtree(run.folder)
    who = "coordinator" if victim == 0 else "worker"
    what = f"{size / 2**20:.0f} MiB on {ranks} ranks, {who} killed"
    for key, name, target in (("detected", "first evidence", None), ("entered", "new view everywhere", None),
                              ("first", "next step of a cell", None),
                              ("restored", "next step on every rank", TARGET_MS)):
        results.add(f"{what}: to {name}", [one[key] for one in taken], "ms", target)
    results.add(f"{what}: one core's copy of a survivor's cells", [one["memcpy"] for one in taken], "ms")
    results.add(f"{what}: cells that came from a partner", [one["partner"] for one in taken], "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(REPOSITORY / "build/release"), help="build folder")
    parser.add_argument("--grid", default="8192x4096", help="default 8192x4096, 256 MiB")
    parser.add_argument("--blocks", type=int, default=24, help="default 24")
    parser.add_argument("--steps", type=int, default=600, help="default 600")
    parser.add_argument("--ranks", default="2,3", help="numbers of ranks; default 2,3")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each measurement; default 7")
    options = parser.parse_args()
    ask_for_short_slices()
    results = Results()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="regroup-recovery-"))
    try:
        for ranks in map(int, options.ranks.split(",")):
            for victim in (ranks - 1, 0):
                measure(options, results, ranks, victim, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
