#!/usr/bin/env python3
"""How fast the state of an iterative job gets into its partners' memory while it is computed.

Ranks take steps of the job heat and give copies of all their cells to their partners again and again; the rate is that
of all bytes by the time in which some copies of the slowest rank were under way, hashes and computing beside it
included. In turns with that, the same bytes go round a ring of as many processes by
plain MPI sends (bulk_bench). Medians, and after +- half the distance between the quartiles. Build the release preset
first, then: tests/bench/partner_copies.py [--quick]
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from dispatch import Sample

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
RUN_TIMEOUT_SECONDS = 300
LOOK_SECONDS = 0.02
COPY_BYTES_PER_SECOND_MIN = 3e9


def rates_of_run(options, folder):
    """Of each round of copies of one run, in bytes a second."""
    command = [str(pathlib.Path(options.build) / "bin/regroup"), "run", "heat", "--grid", options.grid,
               "--blocks", str(options.blocks), "--steps", str(options.steps), "-n", str(options.ranks),
               "--partner-copies", str(options.every), "--checkpoint-every", "off", "--dir", str(folder),
               "--format", "json", "--progress", "none"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    rates, rounds, end = [], 0, time.monotonic() + RUN_TIMEOUT_SECONDS
    while running.poll() is None:
        if time.monotonic() > end:
            running.terminate()
            sys.exit("partner_copies.py: the run did not end")
        time.sleep(LOOK_SECONDS)
        try:
            copies = json.loads((folder / "status.json").read_bytes())["partner_copies"]
        except (FileNotFoundError, KeyError):
            continue
        whole = copies and copies["rounds"] >= rounds + options.ranks and copies["rounds"] % options.ranks == 0
        if whole and copies["sending_seconds"]:
            rounds = copies["rounds"]
            rates.append(copies["sent_bytes"] / copies["sending_seconds"])
    if running.returncode != 0:
        sys.exit(f"partner_copies.py: exit status {running.returncode} from: {' '.join(command)}")
    return rates


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=REPOSITORY / "build/release")
    parser.add_argument("--dir", help="where runs are kept meanwhile")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--grid", default="8192x8192", help="512 MiB of cells")
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=float, default=0.5, help="seconds between copies")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one run of a quarter of that")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.grid = 1, "4096x4096"
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="regroup-partner-copies-", dir=options.dir))
    try:
        rates = [rate for run in range(options.runs) for rate in rates_of_run(options, scratch / str(run))]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not rates:
        sys.exit("partner_copies.py: no round of copies was seen")
    sample = Sample(rates)
    print(f"{options.grid} on {options.ranks} ranks, {len(rates)} rounds of copies: "
          f"{sample.median / 1e9:.2f} +- {sample.spread / 1e9:.2f} GB/s, best {max(rates) / 1e9:.2f}")
    return 0 if sample.median >= COPY_BYTES_PER_SECOND_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
