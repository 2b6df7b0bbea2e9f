#!/usr/bin/env python3
"""How fast Regroup hands out shards and collects them, beside a bare MPI master/worker (bare_mpi.cpp).

Both run on the same cores, in turns, several times; the table shows medians and, after +-, half the
distance between the quartiles. Work inside a shard is counted in CPU work, never in wall time, so that
ranks may share cores. Build the release preset first, then: tests/bench/dispatch.py [--quick]
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PIPELINES = (1, 4, 16, 64)
RUN_TIMEOUT_SECONDS = 120
# A shard's time is varied within these to find the smallest that keeps half of the cores busy.
METG_NS_MIN, METG_NS_MAX = 2, 1_000_000
TARGETS = {
    "a": ("at least 60 % of bare MPI", lambda value: value >= 0.60),
    "b": ("at least 60 % of bare MPI", lambda value: value >= 0.60),
    "c": ("at least 98 % of the cores", lambda value: value >= 0.98),
    "d": ("at most 5 us", lambda value: value <= 5.0),
    "e": ("less than 0.5 s", lambda value: value < 0.5),
    "f": ("less than 5 % of a core", lambda value: value < 0.05),
}


class Sample:
    """Repeated measurements of one thing."""

    def __init__(self, values):
        self.values = sorted(values)

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def spread(self):
        if len(self.values) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return (high - low) / 2

    def to_json(self):
        return {"median": self.median, "spread": self.spread, "values": self.values}


class Bench:
    """Starts the programs: the same ranks, cores and MPI options for all of them."""

    def __init__(self, options):
        self.options = options
        self.cores = len(expand_cores(options.cores))
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="regroup-dispatch-"))
        self.runs = 0
        self.environment = os.environ | {
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PRTE_ALLOW_RUN_AS_ROOT": "1",
            "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }
        self.iterations_per_ns = self.calibrate()

    def program(self, name):
        return str(pathlib.Path(self.options.build) / "tests/bench" / name)

    def mpirun(self, *program):
        return [
            "taskset", "-c", self.options.cores, "mpirun", "-n", str(self.options.ranks),
            "--oversubscribe", "--bind-to", "none",
            "--mca", "btl_vader_single_copy_mechanism", "none",
            "--mca", "btl_sm_single_copy_mechanism", "none", *program,
        ]

    def output_of(self, command):
        done = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, text=True,
                              timeout=RUN_TIMEOUT_SECONDS)
        if done.returncode != 0:
            sys.exit(f"dispatch.py: exit status {done.returncode} from: {' '.join(command)}")
        return done.stdout

    def calibrate(self):
        """Iterations of work a nanosecond, with all of the cores busy at it."""
        running = [
            subprocess.Popen(["taskset", "-c", core, self.program("bare_mpi"), "--calibrate"],
                             stdout=subprocess.PIPE, text=True)
            for core in expand_cores(self.options.cores)
        ]
        return statistics.mean(
            json.loads(process.communicate()[0])["iterations_per_ns"] for process in running)

    def work_arguments(self, shards, shard_ns):
        iterations = round(shard_ns * self.iterations_per_ns)
        return ["--shards", str(int(shards)), "--iterations", str(iterations)]

    def bare(self, shards, shard_ns=0, batch=1, pipeline=4, computes=False):
        """Seconds that the bare master/worker takes for the shards."""
        # Its ranks poll without end: sharing cores, they are many times faster when they yield.
        yielding = ["--mca", "mpi_yield_when_idle", "1"]
        command = self.mpirun(*yielding, self.program("bare_mpi"), *self.work_arguments(shards, shard_ns),
                              "--batch", str(batch), "--pipeline", str(pipeline),
                              *(["--master-computes"] if computes else []))
        return json.loads(self.output_of(command))["run_seconds"]

    def alone(self, shards, shard_ns, processes):
        """Seconds that so many processes, placed by the kernel, take for their shares without any MPI:
        what there is to have."""
        share = self.work_arguments(shards / processes, shard_ns)
        running = [subprocess.Popen(["taskset", "-c", self.options.cores, self.program("bare_mpi"),
                                     "--alone", *share], stdout=subprocess.PIPE, text=True)
                   for _ in range(processes)]
        return statistics.mean(
            json.loads(process.communicate()[0])["run_seconds"] for process in running)

    def regroup_command(self, shards, supervised=False, **settings):
        """By mpirun with the options that all programs get, or as a user starts it: `run -n`."""
        run = [self.program("empty_job"), "run", *self.regroup_arguments(shards, **settings)]
        if not supervised:
            return self.mpirun(*run)
        return ["taskset", "-c", self.options.cores, *run, "-n", str(self.options.ranks)]

    def regroup_arguments(self, shards, shard_ns=0, batch=0, computes=True, stamp=False):
        self.runs += 1
        return [
            "empty", "--dir", str(self.scratch / str(self.runs)),
            *self.work_arguments(shards, shard_ns), "--batch", str(batch),
            "--coordinator", "computes" if computes else "dedicated",
            "--schedule", self.options.schedule, "--format", "json", "--progress", "none",
            *(["--stamp"] if stamp else [])]

    def regroup(self, shards, **settings):
        """Seconds that Regroup takes for the shards."""
        return json.loads(self.output_of(self.regroup_command(shards, **settings)))["run_seconds"]

    def close(self):
        shutil.rmtree(self.scratch, ignore_errors=True)


def expand_cores(text):
    """'0,2-3' to ['0', '2', '3']."""
    cores = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cores += [str(core) for core in range(int(first), int(last or first) + 1)]
    return cores


def interleaved(measurements, repeats):
    """Name -> Sample; every round takes each measurement once, so that all see the same weather."""
    values = {name: [] for name in measurements}
    for _ in range(repeats):
        for name, measure in measurements.items():
            values[name].append(measure())
    return {name: Sample(taken) for name, taken in values.items()}


def rates(bench, runs, repeats):
    """Shards a second, by name. A run is a function of a number of shards that returns seconds."""
    sized = {name: shards_to_take(run, bench.options.seconds) for name, run in runs.items()}
    return interleaved({name: lambda run=run, count=sized[name]: count / run(count)
                        for name, run in runs.items()}, repeats)


def shards_to_take(run, seconds):
    """So many shards that the run takes about `seconds`."""
    shards = 100_000
    while (taken := run(shards)) < seconds / 4:
        shards *= 4
    return max(1, int(shards * seconds / taken))


class Results:
    """The table, on standard output as it grows and in the end as JSON."""

    def __init__(self):
        self.rows = []

    def add(self, part, what, sample, unit, scale=1.0, against=None, judged=None):
        """`against`: a sample that this one is a share of. `judged`: what is held to the target."""
        row = {"part": part, "what": what, "unit": unit, "scale": scale} | sample.to_json()
        text = f"{part}  {what:<46} {sample.median / scale:10.3f} +- {sample.spread / scale:<8.3f} {unit}"
        if against is not None:
            row["ratio"] = sample.median / against.median
            text += f"  {row['ratio']:5.2f} of the best bare"
        if judged is not None:
            words, holds = TARGETS[part]
            row["target"], row["met"] = words, bool(holds(judged))
            text += f"  [{'met' if row['met'] else 'MISSED'}: {words}]"
        self.rows.append(row)
        print(text, flush=True)


def measure_rates(bench, results, part, batch, settings):
    """Parts a and b: empty shards, `batch` of them in a message of the bare program, which is taken with
    the pipeline that suits it best."""
    for computes in (False, True):
        role = "master computes too" if computes else "dedicated master"
        runs = {f"bare, batch {batch}, pipeline {pipeline}": lambda shards, pipeline=pipeline: bench.bare(
            shards, batch=batch, pipeline=pipeline, computes=computes) for pipeline in PIPELINES}
        bare_names = list(runs)
        for name, regroup_batch in settings.items():
            runs[name] = lambda shards, regroup_batch=regroup_batch: bench.regroup(
                shards, batch=regroup_batch, computes=computes)
        found = rates(bench, runs, bench.options.repeats)
        best = found[max(bare_names, key=lambda name: found[name].median)]
        for name, sample in found.items():
            judged = sample.median / best.median if name in settings and not computes else None
            results.add(part, f"{name}, {role}", sample, "M/s", 1e6, best, judged)


def measure_efficiency(bench, results, shard_ns=1e6):
    """Part c: how much of the cores goes into shards of 1 ms."""
    shards = int(4 * bench.options.seconds * 1e9 / shard_ns) * bench.cores
    busy = shards * shard_ns / 1e9 / bench.cores
    found = interleaved({
        "no MPI, one process a core": lambda: busy / bench.alone(shards, shard_ns, bench.cores),
        "no MPI, as many processes as ranks": lambda: busy / bench.alone(
            shards, shard_ns, bench.options.ranks),
        "bare, one shard a message, pipeline 4": lambda: busy / bench.bare(shards, shard_ns),
        "bare, the master computes too": lambda: busy / bench.bare(shards, shard_ns, computes=True),
        "Regroup": lambda: busy / bench.regroup(shards, shard_ns=shard_ns),
        "Regroup, coordinator dedicated": lambda: busy / bench.regroup(
            shards, shard_ns=shard_ns, computes=False),
    }, bench.options.repeats)
    for name, sample in found.items():
        results.add("c", f"1 ms shards: {name}", sample, "of the cores",
                    judged=sample.median if name == "Regroup" else None)


def metg(bench, run):
    """Minimum effective task granularity (Slaughter et al., SC20): microseconds of the smallest shard
    with which half of the cores' time is work. By bisection over logarithms of shard times."""
    low, high = METG_NS_MIN, METG_NS_MAX
    while high / low > 1.1:
        shard_ns = (low * high) ** 0.5
        shards = max(1000, int(bench.options.seconds * 0.5 * bench.cores * 1e9 / shard_ns))
        busy = shards * shard_ns / 1e9 / bench.cores
        seconds = statistics.median(run(shards, shard_ns) for _ in range(3))
        if busy / seconds >= 0.5:
            high = shard_ns
        else:
            low = shard_ns
    return high / 1e3


def measure_metg(bench, results):
    found = interleaved({
        "bare, one shard a message, pipeline 64": lambda: metg(
            bench, lambda shards, shard_ns: bench.bare(shards, shard_ns, pipeline=64)),
        "bare, batch 64, pipeline 4": lambda: metg(
            bench, lambda shards, shard_ns: bench.bare(shards, shard_ns, batch=64)),
        "Regroup, batch 1": lambda: metg(
            bench, lambda shards, shard_ns: bench.regroup(shards, shard_ns=shard_ns, batch=1)),
        "Regroup": lambda: metg(
            bench, lambda shards, shard_ns: bench.regroup(shards, shard_ns=shard_ns)),
    }, 1 if bench.options.quick else 3)
    for name, sample in found.items():
        results.add("d", f"METG: {name}", sample, "us",
                    judged=sample.median if name == "Regroup" else None)


def seconds_of(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


def measure_start(bench, results):
    ranks = bench.options.ranks

    def first_shard(supervised):
        start = time.time()
        command = bench.regroup_command(1, supervised=supervised, stamp=True)
        return json.loads(bench.output_of(command))["result"]["sum"] / 1e9 - start

    found = interleaved({
        "true": lambda: seconds_of(lambda: bench.output_of(bench.mpirun("true"))),
        "whole": lambda: seconds_of(
            lambda: bench.output_of(bench.regroup_command(1, supervised=True))),
        "run -n": lambda: first_shard(True),
        "mpirun": lambda: first_shard(False),
    }, bench.options.repeats)
    base = found["true"].median

    def beyond(name):
        return Sample([value - base for value in found[name].values])

    results.add("e", f"mpirun -n {ranks} true", found["true"], "s")
    results.add("e", f"regroup run -n {ranks}, first shard, beyond that", beyond("run -n"), "s",
                judged=beyond("run -n").median)
    results.add("e", f"regroup run -n {ranks} of one shard, to its end", beyond("whole"), "s")
    results.add("e", "mpirun with its own defaults, first shard", beyond("mpirun"), "s")


def cpu_seconds(pid):
    """CPU time of all threads of a process."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def processes_named(name, ancestor):
    """Processes running the program of this name below `ancestor`."""
    parents, names = {}, {}
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            before, _, after = (folder / "stat").read_text().rpartition(")")
        except OSError:
            continue
        parents[int(folder.name)] = int(after.split()[1])
        names[int(folder.name)] = before.partition("(")[2]
    def below(pid):
        while pid in parents and pid != ancestor:
            pid = parents[pid]
        return pid == ancestor
    return [pid for pid in parents if names[pid] == name and below(pid)]


def idle_shares(bench, computes):
    """Share of a core that each rank takes while one of them has the only shard, ascending."""
    command = bench.regroup_command(1, shard_ns=6e9, computes=computes)
    running = subprocess.Popen(command, env=bench.environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while True:
        pids = processes_named("empty_job", running.pid)
        # It has begun once one rank has worked for a while.
        if len(pids) == bench.options.ranks and max(map(cpu_seconds, pids)) > 1.5:
            break
        if time.monotonic() > deadline:
            sys.exit("dispatch.py: the job to measure idle ranks with does not get going")
        time.sleep(0.05)
    start = time.monotonic()
    before = [cpu_seconds(pid) for pid in pids]
    time.sleep(2)
    elapsed = time.monotonic() - start
    shares = sorted((cpu_seconds(pid) - taken) / elapsed for pid, taken in zip(pids, before))
    running.wait(timeout=RUN_TIMEOUT_SECONDS)
    return shares


def measure_idle(bench, results):
    for computes in (True, False):
        rounds = [idle_shares(bench, computes) for _ in range(2 if bench.options.quick else 3)]
        worst = Sample([shares[-2] for shares in rounds])  # the last one computes
        role = "computing" if computes else "dedicated"
        results.add("f", f"CPU of the busiest idle rank, coordinator {role}", worst, "of a core",
                    judged=worst.median)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(REPOSITORY / "build/release"), help="build folder")
    parser.add_argument("--cores", default="0,1", help="cores that all ranks share; default 0,1")
    parser.add_argument("--ranks", type=int, default=4, help="ranks; default 4")
    parser.add_argument("--schedule", default="dynamic", help="Regroup's --schedule; default dynamic")
    parser.add_argument("--parts", default="abcdef", help="which parts to measure; default all")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of each measurement; default 7")
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long one run computes")
    parser.add_argument("--json", metavar="FILE", help="write all figures there as well")
    parser.add_argument("--quick", action="store_true", help="3 shorter rounds: minutes, not many")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.seconds = 3, 0.5
    return options


def main():
    options = parse_arguments()
    bench = Bench(options)
    results = Results()
    print(f"{options.ranks} ranks on cores {options.cores}, schedule {options.schedule}, "
          f"{bench.iterations_per_ns:.3f} iterations/ns, load {os.getloadavg()[0]:.1f}")
    parts = {
        "a": lambda: measure_rates(bench, results, "a", 64, {"Regroup, batch 64": 64, "Regroup": 0}),
        "b": lambda: measure_rates(bench, results, "b", 1, {"Regroup, batch 1": 1}),
        "c": lambda: measure_efficiency(bench, results),
        "d": lambda: measure_metg(bench, results),
        "e": lambda: measure_start(bench, results),
        "f": lambda: measure_idle(bench, results),
    }
    try:
        for part, measure in parts.items():
            if part in options.parts:
                measure()
    finally:
        bench.close()
    print(f"load {os.getloadavg()[0]:.1f}")
    if options.json:
        setting = {"ranks": options.ranks, "cores": options.cores, "schedule": options.schedule,
                   "iterations_per_ns": bench.iterations_per_ns}
        pathlib.Path(options.json).write_text(json.dumps(setting | {"rows": results.rows}, indent=1))


if __name__ == "__main__":
    main()
