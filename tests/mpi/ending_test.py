"""How runs end that do not end well: ranks that are killed, signals, a full disk. Always soon, always with
the truth in the exit status and in status.json, and without a process left. The base class sees to the
last."""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import termios

import cli

END_SECONDS_MAX = 20


class Status(cli.CliTest):
    def test_while_running_and_at_the_end(self):
        words = ["run", "sleeper", "--shards", 120, "--milliseconds", 100, "--dir", "run", "-n", 4]
        running = self.start([cli.FLAKY_JOB, *words])
        seen = []

        def over():
            status = self.status_of("run")
            if status and (not seen or seen[-1] != status):
                seen.append(status)
            return running.popen.poll() is not None

        cli.eventually(over, "the end of the run", 60)
        ended = running.end()
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        states = [status["state"] for status in seen]
        self.assertEqual(list(dict.fromkeys(states)), ["starting", "running", "done"])
        for status in seen[:-1]:
            self.assertIsNone(status["exit"])
            self.assertLessEqual(status["shards_done"], status["shards_total"])
        done = [status["shards_done"] for status in seen]
        self.assertEqual(done, sorted(done))
        self.assertGreaterEqual(states.count("running"), 2)
        self.assertRegex(seen[0]["run"], "^[0-9a-f]{32}$")
        self.assertEqual({status["run"] for status in seen}, {seen[0]["run"]})
        middle, last = seen[states.index("running")], seen[-1]
        for status in (middle, last):
            self.assertEqual(status["job"], "sleeper")
            self.assertEqual(status["epoch"], 1)
            self.assertEqual(status["members"], [0, 1, 2, 3])
            self.assertEqual(status["shards_total"], 120)
            self.assertEqual(status["failures_survived"], 0)
        self.assertEqual((last["exit"], last["shards_done"], last["quarantined"]), (0, 120, 0))
        self.assertGreaterEqual(last["seconds"], 3)


class Ending(cli.CliTest):
    def failed(self, ended, directory="long", states=("failed",)):
        """The run must have failed, and say so in one line, in its status and in its exit status. It may
        go on later if and only if there is a checkpoint."""
        sealed = list((self.folder / directory).glob("checkpoints/*/manifest.json"))
        expected = cli.EXIT_RESUMABLE if sealed else cli.EXIT_NOT_RECOVERED
        self.assertEqual(ended.status, expected, ended)
        self.assertEqual(ended.out, b"")
        news = ("regroup: view ", "regroup: checkpoint ")
        lines = [line for line in ended.own_lines() if not line.startswith(news)]
        self.assertEqual(len(lines), 1, ended)
        status = self.status_of(directory)
        self.assertIn(status["state"], states)
        self.assertEqual(status["exit"], expected)
        self.assertEqual("resume" in status["message"], bool(sealed))
        self.assertNotEqual(status["message"], "")
        self.assertIn(status["message"], lines[0])
        self.assertFalse((self.folder / directory / "result.h5").exists())


class Killed(Ending):
    def goes_on_with(self, members):
        told = lambda: self.status_of("long")["members"] == members
        cli.eventually(told, f"a run of ranks {members}", END_SECONDS_MAX)

    def test_the_coordinator_is_killed(self):
        running = self.start_long_run()
        pids = self.rank_pids()
        run = self.status_of("long")["run"]
        os.kill(pids[0], signal.SIGKILL)
        self.goes_on_with([1, 2, 3])
        status = self.status_of("long")
        self.assertEqual((status["failures_survived"], status["pid"], status["run"]), (1, pids[1], run))
        os.kill(running.popen.pid, signal.SIGTERM)
        self.failed(running.end(END_SECONDS_MAX), states=("interrupted",))

    def test_a_rank_is_killed_under_mpirun(self):
        running = self.start_long_run(direct=True)
        os.kill(self.rank_pids()[3], signal.SIGKILL)
        ended = running.end(END_SECONDS_MAX)
        self.assertNotEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertNotEqual(self.status_of("long")["state"], "done")

    def test_a_stopped_rank_ends_with_the_others(self):
        running = self.start_long_run()
        pids = self.rank_pids()
        os.kill(pids[1], signal.SIGSTOP)
        os.kill(pids[0], signal.SIGKILL)
        self.goes_on_with([2, 3])
        os.kill(running.popen.pid, signal.SIGTERM)
        self.failed(running.end(END_SECONDS_MAX), states=("interrupted",))

    def test_mpirun_is_killed(self):
        running = self.start_long_run()
        names = ("mpirun -n", "prterun -n")  # Open MPI 5 becomes the second
        launcher = [pid for pid, line in self.processes().items() if any(name in line for name in names)]
        self.assertEqual(len(launcher), 1, self.processes())
        os.kill(launcher[0], signal.SIGKILL)
        self.failed(running.end(END_SECONDS_MAX), states=("failed", "interrupted"))

    def test_what_a_killed_mpirun_left_is_in_nobodys_way(self):
        """Open MPI 5 does not start where the directory of its process id is there already."""
        newest = int(pathlib.Path("/proc/loadavg").read_text().split()[-1])
        for pid in range(newest, newest + 4000):
            (self.folder / f"tmp/prterun.{socket.gethostname()}.{pid}.{os.geteuid()}").mkdir(parents=True)
        before = set(os.listdir(self.folder / "tmp"))
        self.run_job("montecarlo", "--samples", 1000, ranks=2, env={"TMPDIR": str(self.folder / "tmp")})
        self.assertEqual(set(os.listdir(self.folder / "tmp")), before)

    def test_the_supervisor_is_killed(self):
        running = self.start_long_run()
        running.popen.kill()
        running.end()
        cli.eventually(lambda: not self.processes(), "no process left", END_SECONDS_MAX)


class Signals(Ending):
    def interrupted(self, ended, directory):
        """The run must say, in one line, in its status and in its exit status, that a signal stopped it."""
        self.failed(ended, directory, states=("interrupted",))
        self.assertIn("stopped by signal ", ended.own_lines()[-1])

    def test_a_signal_to_the_supervisor(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number.name):
                running = self.start_long_run(dir=number.name)
                os.kill(running.popen.pid, number)
                self.interrupted(running.end(END_SECONDS_MAX), number.name)

    def test_interrupt_key_of_a_terminal(self):
        master, slave = os.openpty()
        self.addCleanup(os.close, master)
        take_terminal = lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        running = self.start_long_run(stdin=slave, preexec_fn=take_terminal)
        os.close(slave)
        os.write(master, b"\x03")
        self.interrupted(running.end(END_SECONDS_MAX), "long")

    def test_a_signal_to_the_whole_process_group(self):
        running = self.start_long_run()
        os.killpg(running.popen.pid, signal.SIGINT)
        self.interrupted(running.end(END_SECONDS_MAX), "long")

    def test_a_signal_to_one_rank_alone(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number.name):
                running = self.start_long_run(ranks=None, dir=number.name)
                os.kill(running.popen.pid, number)
                self.interrupted(running.end(END_SECONDS_MAX), number.name)

    def test_a_signal_that_the_first_rank_cannot_tell_of(self):
        running = self.start_long_run()
        first = self.rank_pids()[0]
        os.kill(running.popen.pid, signal.SIGTERM)
        os.kill(first, signal.SIGKILL)
        self.interrupted(running.end(END_SECONDS_MAX), "long")

    def test_a_signal_before_the_run_began(self):
        slow = self.folder / "slow"
        slow.mkdir()
        launcher = slow / "mpirun"
        launcher.write_text(
            f"#!/bin/sh\ntouch {slow}/began\nexec python3 -c '"
            f"import os, sys, time; time.sleep({END_SECONDS_MAX}); os.execv(sys.argv[1], sys.argv[1:])'"
            f" {shutil.which('mpirun')} \"$@\"\n")
        launcher.chmod(0o755)
        words = ["run", "montecarlo", "--samples", 10**13, "--dir", "early", "-n", 4]
        path = f"{slow}:{os.environ['PATH']}"
        running = self.start([cli.REGROUP, *words], env={"PATH": path})
        cli.eventually((slow / "began").exists, "the launcher has begun")
        running.popen.terminate()
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual((ended.status, ended.out), (cli.EXIT_NOT_RECOVERED, b""), ended)
        self.assertEqual(len(ended.own_lines()), 1, ended)
        self.assertIn("stopped by signal 15", ended.own_lines()[0])

    def test_a_signal_to_mpirun(self):
        """Open MPI 5 passes nothing on that ranks say after it: then the truth is in the status alone."""
        running = self.start_long_run(direct=True)
        os.kill(running.popen.pid, signal.SIGTERM)
        ended = running.end(END_SECONDS_MAX)
        self.assertNotEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertEqual(ended.out, b"")
        status = self.status_of("long")
        self.assertEqual(status["state"], "interrupted")
        self.assertIn(status["exit"], (cli.EXIT_NOT_RECOVERED, cli.EXIT_RESUMABLE))
        self.assertIn("stopped by signal ", status["message"])
        if cli.open_mpi_major() < 5:
            self.assertGreaterEqual(len(ended.own_lines()), 1, ended)


class FullDisk(Ending):
    """On a file system too small for the result, in a mount namespace that ends with the command."""

    def run_on_disk(self, size, *words):
        disk = self.folder / "disk"
        disk.mkdir(exist_ok=True)
        script = ('mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 || exit 99; "$@"; status=$?; '
                  'cp disk/run/status.json . ; ls disk/run >listing; exit "$status"')
        command = ["unshare", "--mount", "bash", "-c", script, "bash", size, disk, cli.REGROUP]
        return self.start([*command, "run", *words, "--dir", "disk/run"]).end()

    def setUp(self):
        super().setUp()
        self.need_mounts()

    def test_no_room_for_the_result(self):
        self.write("text", b"".join(b"word%d " % number for number in range(200_000)))
        for launch in ([], ["-n", 4]):
            with self.subTest(launch=launch):
                ended = self.run_on_disk("256k", "wordcount", "text", *launch)
                self.assertEqual(ended.status, cli.EXIT_NOT_RECOVERED, ended)
                self.assertEqual(len(ended.own_lines()), 1, ended)
                self.assertIn("disk/run", ended.own_lines()[0])
                self.assertIn("No space left", ended.own_lines()[0])
                status = json.loads((self.folder / "status.json").read_bytes())
                self.assertEqual((status["state"], status["exit"]), ("failed", 3))
                self.assertNotIn("result.h5", (self.folder / "listing").read_text().split())

    def test_room_for_nothing(self):
        for launch in ([], ["-n", 2]):
            with self.subTest(launch=launch):
                ended = self.run_on_disk("4k", "montecarlo", "--samples", 1000, *launch)
                self.assertIn(ended.status, (cli.EXIT_BAD_INPUT, cli.EXIT_NOT_RECOVERED), ended)
                self.assertGreaterEqual(len(ended.own_lines()), 1, ended)
                self.assertIn("No space left", ended.own_lines()[0])


if __name__ == "__main__":
    cli.main()
