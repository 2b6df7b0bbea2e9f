#!/usr/bin/env python3
"""What checkpoints cost a run in which nothing fails, and how long the coordinator's state takes to seal.

a: runs that take checkpoints as often as `--checkpoint-every auto` ever does, as on a cluster where something fails
   every ten seconds, and the same runs without any, in turns: how much longer they take, of a bag and of a
   map-reduce job.
b: the time from the beginning of a checkpoint of so many shards to its seal.
Medians, and after +- half the distance between the quartiles. Build the release preset first, then:
tests/bench/checkpoint_cost.py [--quick]
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from dispatch import Sample

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
RUN_TIMEOUT_SECONDS = 300
FAILURE_SECONDS = 10
KEPT = 1000  # checkpoints: all that a run takes
OVERHEAD_PERCENT_MAX = 1.0
SEAL_MS_MAX = 50.0


class Bench:
    def __init__(self, options):
        self.options = options
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="regroup-checkpoint-cost-", dir=options.dir))
        self.runs = 0

    def program(self, name):
        return str(pathlib.Path(self.options.build) / name)

    def run(self, *words):
        """The run's seconds, and its directory."""
        self.runs += 1
        folder = self.scratch / str(self.runs)
        command = ["taskset", "-c", self.options.cores, *map(str, words), "-n", str(self.options.ranks),
                   "--dir", str(folder), "--format", "json", "--progress", "none"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=RUN_TIMEOUT_SECONDS)
        if done.returncode != 0:
            sys.exit(f"checkpoint_cost.py: exit status {done.returncode} from: {' '.join(command)}")
        return json.loads(done.stdout)["run_seconds"], folder

    def bag(self, shards, iterations):
        return [self.program("tests/bench/empty_job"), "run", "empty", "--shards", shards,
                "--iterations", iterations]

    def count_words(self, text):
        return [self.program("bin/regroup"), "run", "wordcount", text]

    def close(self):
        shutil.rmtree(self.scratch, ignore_errors=True)


def checkpoints_of(folder):
    """Sealed ones that are still there: the seconds that each took."""
    manifests = sorted((folder / "checkpoints").glob("*/manifest.json"))
    return [json.loads(path.read_text())["cost_seconds"] for path in manifests]


def write_text(path, megabytes):
    """Many different words, so that what the partitions hold grows."""
    with open(path, "w") as text:
        for block in range(megabytes):
            words = ((block * 131_071 + i) * 2_654_435_761 % 9_999_991 for i in range(120_000))
            text.write(" ".join(f"w{word:07d}" for word in words) + "\n")


def sized(bench, make, seconds):
    """A size for which make(size) runs about so long."""
    size = 1
    while (taken := bench.run(*make(size), "--checkpoint-every", "off")[0]) < seconds / 4:
        size *= 2
    return max(1, round(size * seconds / taken))


def measure_overhead(bench, name, make):
    size = sized(bench, make, bench.options.seconds)
    ratios, again, taken = [], [], []
    for _ in range(bench.options.repeats):
        without, _ = bench.run(*make(size), "--checkpoint-every", "off")
        with_them, folder = bench.run(*make(size), "--mtbf", FAILURE_SECONDS)
        once_more, _ = bench.run(*make(size), "--checkpoint-every", "off")
        ratios.append(100 * (with_them / ((without + once_more) / 2) - 1))
        again.append(100 * (once_more / without - 1))
        taken.append(json.loads((folder / "status.json").read_text())["checkpointing"]["sealed"])
        shutil.rmtree(folder)
    overhead, noise = Sample(ratios), Sample(again)
    met = overhead.median < OVERHEAD_PERCENT_MAX
    print(f"a  {name:<34} {overhead.median:7.2f} +- {overhead.spread:<6.2f} % of {with_them:.1f} s, "
          f"{Sample(taken).median:g} checkpoints; none against none {noise.median:.2f} +- {noise.spread:.2f} "
          f"[{'met' if met else 'MISSED'}: less than {OVERHEAD_PERCENT_MAX:g} %]", flush=True)


def measure_seal(bench, shards, seconds, bound_ms):
    """Work of a shard in iterations of about a nanosecond: the run takes `seconds`, or some times that."""
    costs = []
    iterations = round(seconds / shards * 1e9)
    for _ in range(bench.options.repeats):
        _, folder = bench.run(*bench.bag(shards, iterations), "--checkpoint-every", 0.2,
                              "--keep", KEPT)
        costs += [1000 * cost for cost in checkpoints_of(folder)]
        shutil.rmtree(folder)
    if not costs:
        sys.exit("checkpoint_cost.py: the runs ended before their first checkpoint: give more --seconds")
    sample = Sample(costs)
    verdict = ""
    if bound_ms is not None:
        verdict = f" [{'met' if sample.median < bound_ms else 'MISSED'}: less than {bound_ms:g} ms]"
    print(f"b  sealed, with {shards:>12,} shards       {sample.median:7.1f} +- {sample.spread:<6.1f} ms, "
          f"{sample.values[0]:.1f} to {sample.values[-1]:.1f}, {len(costs)} checkpoints{verdict}", flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(REPOSITORY / "build/release"), help="build folder")
    parser.add_argument("--dir", help="where runs have their directories; default: where temporary files go")
    parser.add_argument("--cores", default="0,1", help="cores that all ranks share; default 0,1")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--parts", default="ab")
    parser.add_argument("--repeats", type=int, default=11, help="runs of each; default 11")
    parser.add_argument("--seconds", type=float, default=10, help="about how long a run of part a takes")
    parser.add_argument("--quick", action="store_true", help="3 runs of each")
    options = parser.parse_args()
    if options.quick:
        options.repeats = 3
    return options


def main():
    options = parse_arguments()
    bench = Bench(options)
    print(f"cores {options.cores}, {options.ranks} ranks, in {bench.scratch}, load {os.getloadavg()[0]:.1f}")
    try:
        if "a" in options.parts:
            measure_overhead(bench, "a bag of short shards", lambda size: bench.bag(2_000 * size, 20_000))
            text = bench.scratch / "text"
            write_text(text, 8)
            measure_overhead(bench, "words counted, again and again",
                             lambda size: bench.count_words(text) + [text] * (size - 1))
        if "b" in options.parts:
            measure_seal(bench, 1_000_000, options.seconds / 3, None)
            measure_seal(bench, 10_000_000, options.seconds / 3, SEAL_MS_MAX)
    finally:
        bench.close()
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
