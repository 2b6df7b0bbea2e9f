"""What the tests of the command line share: they run regroup as a user does, on real ranks.

Each test has a folder of its own, which is its working directory and is removed afterwards. Every
command is held to a time limit, and a test fails if a process that it started outlives it, however
that process came to be: all of them carry a mark in their environment. Nothing here is asked of the
machine but Open MPI and the standard library.
"""

import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing
import unittest

REGROUP = os.environ["REGROUP_PROGRAM"]
FLAKY_JOB = os.environ["FLAKY_JOB_PROGRAM"]
RECOVERY = os.environ.get("CLI_TEST_RECOVERY")  # the backend that runs are to have; if not set, any
IS_SANITIZED = os.environ.get("PROGRAMS_ARE_SANITIZED") == "1"

MARK = "CLI_TEST_FOLDER"
SKIPPED_STATUS = 77
COMMAND_SECONDS_MAX = 100
LEFTOVER_SECONDS_MAX = 5
POLL_SECONDS = 0.01

EXIT_DONE, EXIT_QUARANTINED, EXIT_BAD_INPUT, EXIT_NOT_RECOVERED = 0, 1, 2, 3
EXIT_RESUMABLE = 75


class Ended(typing.NamedTuple):
    """A command that has ended; negative status: by that signal."""

    command: list
    status: int
    out: bytes
    err: bytes

    def __str__(self):
        tail = self.err[-4000:].decode(errors="replace")
        return f"{' '.join(map(str, self.command))}\nended with {self.status}; it said:\n{tail}"

    def own_lines(self):
        """The lines on standard error that are regroup's, not the launcher's nor progress."""
        lines = self.err.decode(errors="replace").splitlines()
        return [line for line in lines if line.startswith("regroup: ") and "shards  " not in line]


class Running:
    """A command under way, in a session of its own. `out` and `err` are files, None if not captured."""

    def __init__(self, command, popen, out, err):
        self.command, self.popen, self._out, self._err = command, popen, out, err

    def end(self, seconds_max=COMMAND_SECONDS_MAX):
        """Waits for its end; out of time, it is killed and the test fails."""
        try:
            self.popen.wait(seconds_max)
        except subprocess.TimeoutExpired:
            CliTest.current.tell_what_runs()
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()
            raise AssertionError(f"no end within {seconds_max} s: {self.ended()}") from None
        return self.ended()

    def ended(self):
        out, err = (b"" if path is None else path.read_bytes() for path in (self._out, self._err))
        return Ended(self.command, self.popen.returncode, out, err)


def eventually(condition, what, seconds_max=30):
    """Polls until the condition is true, and returns its value."""
    deadline = time.monotonic() + seconds_max
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds_max} s: {what}")
        time.sleep(POLL_SECONDS)


def open_mpi_major():
    said = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"Open MPI\)? v?(\d+)", said).group(1))


def environment_of(pid):
    """The environment a process was started with; empty if it is gone or not ours."""
    try:
        entries = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)


def clean_environment():
    """Ours without what a launch or a user's settings would have left in it."""
    unwanted = ("REGROUP_", "OMPI_COMM_", "OMPI_ALLOW_", "PRTE_ALLOW_", "PMIX_RANK", "PMI_")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


class CliTest(unittest.TestCase):
    current = None  # the test under way, for who must end it from outside

    def setUp(self):
        CliTest.current = self
        self._root = pathlib.Path(tempfile.mkdtemp(prefix="regroup-cli-"))
        self.folder = self._root / "work"
        self.folder.mkdir()
        temporary = self._root / "tmp"  # a launcher that is killed leaves a directory there
        temporary.mkdir()
        self.environment = clean_environment() | {MARK: str(self.folder), "TMPDIR": str(temporary)}
        if RECOVERY:
            self.environment["REGROUP_RECOVERY"] = RECOVERY
        self._dirs = 0
        self.addCleanup(self._remove)

    def tearDown(self):
        if not self._outcome.success:
            self.tell_what_runs()

    def tell_what_runs(self):
        """For whoever wonders why a test failed: how its runs stand, and where its processes wait."""
        for path in sorted(self.folder.glob("*/status.json")):
            print(f"---- {path}\n{path.read_text(errors='replace')}", file=sys.stderr)
        for pid, command in self.processes().items():
            print(f"---- {pid}: {command}", file=sys.stderr)
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
                print(" ".join(self._whereabouts(task)), file=sys.stderr)

    @staticmethod
    def _whereabouts(task):
        """A thread's name, state, system call and the kernel's functions that it is in."""
        yield task.name
        for name in ("comm", "syscall", "stack"):
            try:
                yield " / ".join((task / name).read_text(errors="replace").split("\n")).strip(" /")
            except OSError:
                yield "-"

    def _remove(self):
        left = self._wait_for_leftovers()
        self.abandon()
        self.assertEqual(left, {}, "processes outlived the test")

    def abandon(self):
        """Kills every process of the test and removes its folder."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self._root, ignore_errors=True)

    def processes(self):
        """Commands of all processes that this test started and that live, by process id."""
        found = {}
        mark = str(self.folder).encode()
        for entry in os.listdir("/proc"):
            if entry.isdigit() and environment_of(entry).get(MARK.encode()) == mark:
                try:
                    line = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes()
                except OSError:
                    continue
                found[int(entry)] = line.replace(b"\0", b" ").decode(errors="replace")
        return found

    def _wait_for_leftovers(self):
        deadline = time.monotonic() + LEFTOVER_SECONDS_MAX
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return left

    def rank_pids(self):
        """Process ids by rank, of the launch under way."""
        ranks = {}
        for pid in self.processes():
            rank = environment_of(pid).get(b"OMPI_COMM_WORLD_RANK")
            if rank is not None:
                ranks[int(rank)] = pid
        return ranks

    # ---- running commands ----

    def start(self, command, env=None, **settings):
        """Starts a command in the test's folder. Keywords are those of Popen."""
        settings = {"cwd": self.folder, "stdin": subprocess.DEVNULL} | settings
        captured = {}
        for stream in ("stdout", "stderr"):
            if stream not in settings:
                handle, path = tempfile.mkstemp(dir=self._root)
                settings[stream], captured[stream] = handle, pathlib.Path(path)
        command = [str(word) for word in command]
        popen = subprocess.Popen(
            command, env=self.environment | (env or {}), start_new_session=True, **settings)
        for stream in captured:
            os.close(settings[stream])
        return Running(command, popen, captured.get("stdout"), captured.get("stderr"))

    def regroup(self, *words, program=REGROUP, seconds_max=COMMAND_SECONDS_MAX, **settings):
        """Runs `regroup WORDS...` to its end."""
        return self.start([program, *words], **settings).end(seconds_max)

    def mpirun(self, ranks, *words, program=REGROUP, **settings):
        """Runs `mpirun -n RANKS regroup WORDS...` to its end."""
        return self.start_mpirun(ranks, program, *words, **settings).end()

    def start_mpirun(self, ranks, *command, env=None, **settings):
        allow = {}
        if os.geteuid() == 0:
            names = ("OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT")
            allow = {name + end: "1" for name in names for end in ("", "_CONFIRM")}
        if RECOVERY == "ulfm" and "--with-ft" not in command:
            allow["REGROUP_RECOVERY"] = "auto"  # ranks whose mpirun has no such flag refuse it
        words = ["mpirun", "--oversubscribe", "-n", ranks, *command]
        return self.start(words, env=allow | (env or {}), **settings)

    def new_dir(self):
        """A name for a run directory that is not there yet."""
        self._dirs += 1
        return f"run-{self._dirs}"

    def run_job(self, *words, ranks=None, direct=False, dir=None, **settings):
        """Runs a job that must succeed. Returns its run directory and what it printed."""
        directory = dir or self.new_dir()
        words = ["run", *words, "--dir", directory]
        if direct:
            ended = self.mpirun(ranks, *words, **settings)
        else:
            ended = self.regroup(*words, *(["-n", ranks] if ranks else []), **settings)
        self.assertEqual(ended.status, EXIT_DONE, ended)
        return self.folder / directory, ended

    def slowed_montecarlo(self, shards, shard_samples, shard_seconds, ranks, *words):
        """A job that takes as long on any machine and leaves the cores to others: its words, the bytes of
        its result, and the environment in which any of so many ranks sleeps until a shard took so long."""
        words = ["montecarlo", "--samples", shards * shard_samples, "--shard-samples", shard_samples, *words]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        directory, _ = self.run_job(*words, "--threads", 1)
        seconds = (resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before) / shards
        factor = max(1, shard_seconds / seconds)
        slowed = ",".join(f"slow:rank={rank},factor={factor:.1f}" for rank in range(ranks))
        return words, (directory / "result.h5").read_bytes(), {"REGROUP_INJECT": slowed}

    def summary(self, *words, **settings):
        """Runs a job that must succeed. Returns its JSON summary."""
        _, ended = self.run_job(*words, "--format", "json", **settings)
        return json.loads(ended.out)

    def results(self, directory, *words, program=REGROUP):
        ended = self.regroup("results", directory, *words, program=program)
        self.assertEqual(ended.status, EXIT_DONE, ended)
        return ended.out

    def status_of(self, directory):
        """What status.json says, None while there is none. It must never be half a file."""
        try:
            return json.loads((self.folder / directory / "status.json").read_bytes())
        except FileNotFoundError:
            return None

    def start_long_run(self, ranks=4, direct=False, dir="long", **settings):
        """A run that would take hours, once it has finished a shard. Nobody starts its ranks again."""
        words = ["run", "montecarlo", "--samples", 10**13, "--shard-samples", 20000, "--dir", dir,
                 "--relaunches", 0]
        if direct:
            running = self.start_mpirun(ranks, REGROUP, *words, **settings)
        else:
            words += ["-n", ranks] if ranks else []
            running = self.start([REGROUP, *words], **settings)
        self.addCleanup(lambda: running.popen.poll() is None and running.popen.terminate())

        def is_running():
            self.assertIsNone(running.popen.poll(), "the long run has ended")
            status = self.status_of(dir)
            return status and status["state"] == "running" and status["shards_done"] > 0

        eventually(is_running, "the long run has begun", 60)
        return running

    def need_mounts(self):
        """Skips the test where file systems may not be mounted."""
        probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", str(self.folder)]
        if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
            self.skipTest("may not mount file systems here")

    # ---- files ----

    def write(self, name, contents):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        return path

    def listing(self):
        """Every path below the test's folder, with what files hold."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.folder.rglob("*"))
        }


def stop(*_):
    if CliTest.current is not None:
        CliTest.current.abandon()
    os._exit(1)


def main():
    """Runs the module's tests; a status of its own says that all of them were skipped."""
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    program = unittest.main(module="__main__", verbosity=2, exit=False)
    result = program.result
    if result.wasSuccessful() and len(result.skipped) == result.testsRun > 0:
        sys.exit(SKIPPED_STATUS)
    sys.exit(0 if result.wasSuccessful() and result.testsRun > 0 else 1)
