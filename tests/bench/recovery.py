#!/usr/bin/env python3
"""How long Regroup takes to go on after a rank is lost, and what being ready for that costs.

Ranks share two cores. A run of short shards is disturbed once it computes; the ranks that are left say when they
did what (REGROUP_RECOVERY_STAMPS), on the clock that the kill is timed with. Each figure is a median over
repeated runs; the spread after +- is half the distance between the quartiles. Build the release preset first,
then: tests/bench/recovery.py [--quick]
"""

import argparse
import ctypes
import json
import os
import pathlib
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from dispatch import Sample, expand_cores

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60
SETTLE_SECONDS = 0.3  # of computing before the fault
SHARE_RUNS = 4  # as long as so many others, to look at the detector's thread for as long as one
DETECTOR_THREAD = "regroup-beat"
STAMPS = re.compile(r"recovery: rank (\d+) epoch (\d+) evidence (\w+) detected (\d+) revoked (\d+) "
                    r"entered (\d+) resumed (\d+|-)")


class NotSurvived(Exception):
    """The run did not go on."""


class Run:
    """A run under way, as a user starts it, and what its ranks said."""

    def __init__(self, bench, ranks, shards, *more):
        bench.runs += 1
        self.ranks = ranks
        self.folder = bench.scratch / str(bench.runs)
        command = ["taskset", "-c", bench.options.cores, bench.program, "run", "empty", "-n", str(ranks),
                   "--dir", str(self.folder), "--shards", str(shards),
                   "--iterations", str(bench.iterations), "--format", "json", "--progress", "none",
                   *map(str, more)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=os.environ | {"REGROUP_RECOVERY_STAMPS": "1",
                                                          "BENCH_FOLDER": str(self.folder)})

    def pids(self):
        """Process ids by rank, once all of them compute."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            found = self.find_pids()
            if len(found) == self.ranks and self.state() == "running":
                time.sleep(SETTLE_SECONDS)
                return found
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                sys.exit("recovery.py: a run does not get going")
            time.sleep(0.02)

    def find_pids(self):
        found = {}
        mark = f"BENCH_FOLDER={self.folder}".encode()
        for folder in pathlib.Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                words = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark in words:
                for word in words:
                    if word.startswith(b"OMPI_COMM_WORLD_RANK="):
                        found[int(word.partition(b"=")[2])] = int(folder.name)
        return found

    def state(self):
        try:
            status = json.loads((self.folder / "status.json").read_bytes())
        except OSError:
            return None
        return status["state"] if status["shards_done"] else "starting"

    def end(self):
        """What it printed at its end: the summary, and lines on standard error."""
        try:
            out, err = self.process.communicate(timeout=DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise NotSurvived("it hangs") from None
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.process.returncode != 0:
            raise NotSurvived(f"exit status {self.process.returncode}")
        return json.loads(out), err

    def stamps(self, lost):
        """Of the first change of view, by rank: what the survivors said."""
        summary, err = self.end()
        stamps = {}
        for match in STAMPS.finditer(err):
            rank, epoch, evidence, *times = match.groups()
            if epoch == "2":
                times = [None if text == "-" else int(text) for text in times]
                stamps[int(rank)] = dict(zip(("detected", "revoked", "entered", "resumed"), times),
                                         evidence=evidence)
        missing = set(range(self.ranks)) - {lost} - set(stamps)
        if missing:
            raise NotSurvived(f"no word from {sorted(missing)}")
        return summary, stamps


class Bench:
    def __init__(self, options):
        self.options = options
        self.program = str(pathlib.Path(options.build) / "tests/bench/empty_job")
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="regroup-recovery-"))
        self.runs = 0
        calibrated = subprocess.run(
            [str(pathlib.Path(options.build) / "tests/bench/bare_mpi"), "--calibrate"],
            stdout=subprocess.PIPE, text=True, check=True)
        per_ns = json.loads(calibrated.stdout)["iterations_per_ns"]
        self.iterations = round(options.shard_us * 1000 * per_ns)
        # So many shards that there is work for about this long, however fast they are.
        cores = len(expand_cores(options.cores))
        self.shards = round(options.seconds * cores * 1e6 / options.shard_us)


class Results:
    def __init__(self):
        self.rows = []

    def add(self, what, values, unit, target=None):
        sample = Sample(values)
        load = os.getloadavg()[0]
        text = (f"{what:<58} {sample.median:9.3f} +- {sample.spread:<8.3f} {unit}"
                f"  worst {sample.values[-1]:.3f} of {len(values)}, load {load:.1f}")
        row = {"what": what, "unit": unit, "load": load} | sample.to_json()
        if target is not None:
            row["target"], row["met"] = target, sample.median <= target
            text += f"  [{'met' if row['met'] else 'MISSED'}: at most {target:g}]"
        self.rows.append(row)
        print(text, flush=True)

    def say(self, text):
        self.rows.append({"what": text})
        print(text, flush=True)


def milliseconds(later, earlier):
    return (later - earlier) / 1e6


def repeated(bench, results, what, once):
    """What `once` returns, of the runs that were survived; says how many were not."""
    taken, failures = [], []
    for _ in range(bench.options.repeats):
        try:
            taken.append(once())
        except NotSurvived as failure:
            failures.append(str(failure))
            if len(failures) == 3 and not taken:
                break
    if failures:
        results.say(f"{what}: not survived in {len(failures)} of {len(failures) + len(taken)}: {failures[0]}")
    return taken


def ask_for_short_slices():
    """So that this process, not those it starts, hears of a death as soon as Regroup's threads may
    (runtime/host/thread_slice.hpp)."""
    sched_setattr = {"x86_64": 314, "aarch64": 274}.get(os.uname().machine)
    if sched_setattr is not None:
        reset_on_fork = 1
        attributes = struct.pack("=IIQiIQQQ", 48, 0, reset_on_fork, 0, 0, 100_000, 0, 0)
        ctypes.CDLL(None).syscall(sched_setattr, 0, attributes, 0)


def kill_and_hear(pid):
    """When it was killed, and when the kernel told this process so."""
    process = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        killed = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        if not poll.poll(DEADLINE_SECONDS * 1000):
            raise NotSurvived("it could not be killed")
        return killed, time.monotonic_ns()
    finally:
        os.close(process)


def measure_kill(bench, results, ranks, victim, view_target, shard_target):
    """Kill to the view at every survivor, to the first and to the last rank that computes again."""
    who = "coordinator" if victim == 0 else "worker"

    def once():
        run = Run(bench, ranks, bench.shards)
        pid = run.pids()[victim]
        killed, told = kill_and_hear(pid)
        _, stamps = run.stamps(victim)
        resumed = [rank["resumed"] for rank in stamps.values() if rank["resumed"]]
        return {
            "told": milliseconds(told, killed),
            "detected": milliseconds(min(rank["detected"] for rank in stamps.values()), killed),
            "revoked": milliseconds(max(rank["revoked"] for rank in stamps.values()), killed),
            "entered": milliseconds(max(rank["entered"] for rank in stamps.values()), killed),
            "first": milliseconds(min(resumed), killed) if resumed else None,
            "last": milliseconds(max(resumed), killed) if resumed else None,
        }

    what = f"{ranks} ranks, {who} killed"
    taken = repeated(bench, results, what, once)
    for key, name, target in (("told", "the kernel's report to a bystander", None),
                              ("detected", "first evidence", None), ("revoked", "revoked everywhere", None),
                              ("entered", "new view everywhere", view_target),
                              ("first", "next shard", shard_target),
                              ("last", "next shard on every rank", None)):
        values = [run[key] for run in taken if run[key] is not None]
        if values:
            results.add(f"{what}: to {name}", values, "ms", target)
    # Of what ranks can do nothing about, the soonest that anybody knew.
    for key, name in (("entered", "new view everywhere"), ("first", "next shard")):
        values = [run[key] - min(run["told"], run["detected"]) for run in taken if run[key] is not None]
        if values:
            results.add(f"{what}: from the report to {name}", values, "ms")


def measure_silence(bench, results, ranks):
    """A worker that is stopped: only its heartbeats are missing. Suspicion is due after 2.5 periods."""
    period_ms = bench.options.heartbeat_ms
    due_ms = 2.5 * period_ms

    def once():
        run = Run(bench, ranks, bench.shards, "--heartbeat", period_ms, "--suspect-after", round(due_ms))
        pid = run.pids()[2]
        stopped = time.monotonic_ns()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(2 * due_ms / 1e3 + 0.3)
        os.kill(pid, signal.SIGCONT)
        _, stamps = run.stamps(2)
        silent = [rank["detected"] for rank in stamps.values() if rank["evidence"] == "silent"]
        if not silent:
            raise NotSurvived("nobody suspected it")
        return milliseconds(min(silent), stopped)

    what = f"{ranks} ranks, worker stopped, heartbeat {period_ms} ms"
    taken = repeated(bench, results, what, once)
    if taken:
        results.add(f"{what}: to suspicion", taken, "ms", due_ms + 20)


def detector_seconds(pid):
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == DETECTOR_THREAD:
            return int((task / "schedstat").read_text().split()[0]) / 1e9
    sys.exit("recovery.py: a rank has no detector's thread")


def measure_cost(bench, results, ranks):
    """Shards a second with heartbeats as usual and with next to none, in turns; and the thread's share."""
    settings = {"heartbeats as usual": (),
                "a heartbeat a minute": ("--heartbeat", 60_000, "--suspect-after", 120_000)}
    iterations, bench.iterations = bench.iterations, 0
    rates = {name: [] for name in settings}
    for _ in range(bench.options.repeats):
        for name, more in settings.items():
            try:
                summary, _ = Run(bench, ranks, bench.options.empty_shards, *more).end()
            except NotSurvived as failure:
                sys.exit(f"recovery.py: an undisturbed run failed: {failure}")
            rates[name].append(bench.options.empty_shards / summary["run_seconds"] / 1e6)
    bench.iterations = iterations
    for name, values in rates.items():
        results.add(f"{ranks} ranks, empty shards, {name}", values, "M/s")
    pairs = zip(*rates.values())
    results.add(f"{ranks} ranks, rate without heartbeats over that with them",
                [without / usual for usual, without in pairs], "")

    shares = []
    for _ in range(max(1, bench.options.repeats // 10)):
        run = Run(bench, ranks, SHARE_RUNS * bench.shards)
        pids = run.pids()
        start, before = time.monotonic(), {pid: detector_seconds(pid) for pid in pids.values()}
        time.sleep(bench.options.seconds)
        elapsed = time.monotonic() - start
        shares += [100 * (detector_seconds(pid) - before[pid]) / elapsed for pid in pids.values()]
        run.end()
    results.add(f"{ranks} ranks, detector's thread", shares, "% of a core", 1.0)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(REPOSITORY / "build/release"), help="build folder")
    parser.add_argument("--cores", default="0,1", help="cores that all ranks share; default 0,1")
    parser.add_argument("--ranks", default="4,8", help="numbers of ranks; default 4,8")
    parser.add_argument("--parts", default="wcsd",
                        help="w: worker killed, c: coordinator killed, s: silence, d: the detector's cost")
    parser.add_argument("--repeats", type=int, default=30, help="runs of each measurement; default 30")
    parser.add_argument("--shard-us", type=float, default=200, help="a shard's work; default 200")
    parser.add_argument("--seconds", type=float, default=1.5, help="about how long one run computes")
    parser.add_argument("--heartbeat-ms", type=int, default=100, help="for part s; default 100")
    parser.add_argument("--empty-shards", type=int, default=300_000_000, help="for part d")
    parser.add_argument("--json", metavar="FILE", help="write all figures there as well")
    parser.add_argument("--quick", action="store_true", help="5 runs of each")
    options = parser.parse_args()
    if options.quick:
        options.repeats = 5
    return options


def main():
    options = parse_arguments()
    ask_for_short_slices()
    bench = Bench(options)
    results = Results()
    print(f"cores {options.cores}, shards of {options.shard_us:g} us, load {os.getloadavg()[0]:.1f}")
    try:
        for ranks in map(int, options.ranks.split(",")):
            if "w" in options.parts:
                measure_kill(bench, results, ranks, 2, 10, 15)
            if "c" in options.parts:
                measure_kill(bench, results, ranks, 0, None, 30)
            if "s" in options.parts:
                measure_silence(bench, results, ranks)
            if "d" in options.parts:
                measure_cost(bench, results, ranks)
    finally:
        shutil.rmtree(bench.scratch, ignore_errors=True)
    print(f"load {os.getloadavg()[0]:.1f}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(
            {"cores": options.cores, "shard_us": options.shard_us, "rows": results.rows}, indent=1))


if __name__ == "__main__":
    main()
