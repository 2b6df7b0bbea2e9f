#!/usr/bin/env python3
"""How fast the state of an iterative job gets into its partners' memory.

a: ranks of 8 cells of 32 MiB each that have next to nothing to compute (cells_job) give copies of all of them to each
   other again and again. The rate is that of all bytes by the time in which some copies of the slowest rank were under
   way, hashes and the writing down of the cells that follow included. Rounds that touch memory for the first time are
   left out. Before and after that, the same ranks send as much round a ring by plain MPI (bulk_bench).
b: what it costs the job heat: seconds with copies and without, in turns, for each GB that was copied.
Medians, and after +- half the distance between the quartiles. Build the release preset first, then:
tests/bench/partner_copies.py [--quick]
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from dispatch import Sample

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
RUN_TIMEOUT_SECONDS = 300
LOOK_SECONDS = 0.02
CELL_MIB = 32
CELLS_PER_RANK = 8
WARM_UP_ROUNDS = 3  # of each rank: two steps of all copies, and what was lent between
COPY_BYTES_PER_SECOND_MIN = 3e9


class Bench:
    def __init__(self, options):
        self.options = options
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="regroup-partner-copies-", dir=options.dir))
        self.runs = 0

    def program(self, name):
        return str(pathlib.Path(self.options.build) / name)

    def start(self, *words):
        self.runs += 1
        folder = self.scratch / str(self.runs)
        command = [*map(str, words), "-n", str(self.options.ranks), "--checkpoint-every", "off", "--dir", str(folder),
                   "--format", "json", "--progress", "none"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True), folder

    def end(self, running):
        out, _ = running.communicate(timeout=RUN_TIMEOUT_SECONDS)
        if running.returncode != 0:
            sys.exit(f"partner_copies.py: exit status {running.returncode} from: {' '.join(running.args)}")
        return json.loads(out)

    def copies_of(self, folder):
        try:
            return json.loads((folder / "status.json").read_bytes())["partner_copies"]
        except (FileNotFoundError, KeyError):
            return None

    def rates(self):
        """Of rounds of copies of one run in which all ranks took part, in bytes a second."""
        ranks = self.options.ranks
        running, folder = self.start(self.program("tests/bench/cells_job"), "run", "still", "--cells",
                                     CELLS_PER_RANK * ranks, "--mib", CELL_MIB, "--steps", self.options.steps,
                                     "--milliseconds", 1, "--partner-copies", 0.5, "--partner-memory", 4096)
        rates, rounds, end = [], WARM_UP_ROUNDS * ranks, time.monotonic() + RUN_TIMEOUT_SECONDS
        while running.poll() is None and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
            copies = self.copies_of(folder)
            if copies and copies["rounds"] > rounds and copies["rounds"] % ranks == 0 and copies["sending_seconds"]:
                rounds = copies["rounds"]
                rates.append(copies["sent_bytes"] / copies["sending_seconds"])
        self.end(running)
        return rates

    def ring(self):
        """Bytes a second of bare MPI."""
        allow = [] if os.geteuid() else ["--allow-run-as-root"]
        command = ["mpirun", *allow, "-n", str(self.options.ranks), "--oversubscribe", "--bind-to", "none", "--mca",
                   "btl_vader_single_copy_mechanism", "none", self.program("tests/bench/bulk_bench"), str(CELL_MIB), "10"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=RUN_TIMEOUT_SECONDS, check=True)
        return float(re.search(r"bare MPI ([0-9.]+) GB/s", done.stdout)[1]) * 1e9

    def heat(self, every):
        """Seconds of a run, and the bytes that were copied in it."""
        running, folder = self.start(self.program("bin/regroup"), "run", "heat", "--grid", "4096x4096", "--steps",
                                     self.options.heat_steps, "--partner-copies", every)
        seconds = self.end(running)["run_seconds"]
        copies = self.copies_of(folder)
        return seconds, copies["bytes"] * copies["rounds"] / self.options.ranks

    def close(self):
        shutil.rmtree(self.scratch, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=REPOSITORY / "build/release")
    parser.add_argument("--dir", help="where runs are kept meanwhile")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--heat-steps", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--parts", default="ab")
    parser.add_argument("--quick", action="store_true", help="one run of each")
    options = parser.parse_args()
    if options.quick:
        options.runs = 1
    bench = Bench(options)
    missed = False
    try:
        if "a" in options.parts:
            rings, rates = [bench.ring()], []
            for _ in range(options.runs):
                rates += bench.rates()
                rings.append(bench.ring())
            if not rates:
                sys.exit("partner_copies.py: no round of copies was seen")
            copies, ring = Sample(rates), Sample(rings)
            missed = copies.median < COPY_BYTES_PER_SECOND_MIN
            print(f"a: {options.ranks} ranks, {len(rates)} rounds of {CELLS_PER_RANK} x {CELL_MIB} MiB each: "
                  f"{copies.median / 1e9:.2f} +- {copies.spread / 1e9:.2f} GB/s; bare MPI {ring.median / 1e9:.2f} +- "
                  f"{ring.spread / 1e9:.2f} GB/s, ratio {copies.median / ring.median:.2f}")
        if "b" in options.parts:
            pairs = [(bench.heat("off")[0], *bench.heat(0.5)) for _ in range(options.runs)]
            costs = Sample([(with_copies - without) / copied * 1e9 for without, with_copies, copied in pairs if copied])
            without = Sample([pair[0] for pair in pairs])
            print(f"b: heat without copies {without.median:.2f} +- {without.spread:.2f} s; a copied GB costs "
                  f"{costs.median:.2f} +- {costs.spread:.2f} s")
    finally:
        bench.close()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
