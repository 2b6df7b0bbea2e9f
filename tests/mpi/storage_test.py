"""Checkpoints where storage fails: disks that are full, broken or read-only, directories that go, and kills at
each step of the write. The run goes on, says what failed, keeps the older checkpoint, and does not hammer the
storage. Real ranks and real files; real full and read-only file systems where mounting is allowed."""

import os
import shutil
import signal
import subprocess

import cli
from resume_test import Resuming

END_SECONDS_MAX = 60
FULL, BROKEN, READ_ONLY, GONE = (
    "No space left on device", "Input/output error", "Read-only file system", "No such file or directory")
OFTEN = ["--checkpoint-every", "0.1"]
TOLD = "no checkpoint was taken: "


def sleeper(shards, milliseconds=10):
    return ["run", "sleeper", "--shards", shards, "--milliseconds", milliseconds]


class Storage(Resuming):
    undisturbed_results = {}  # by the number of shards

    def run_sleeper(self, *words, shards=200, ranks=2, dir="run"):
        launch = ["-n", ranks] if ranks > 1 else []
        return self.start([cli.FLAKY_JOB, *sleeper(shards), "--dir", dir, *launch, *words])

    def right(self, ended, shards=200, dir="run"):
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        if shards not in self.undisturbed_results:
            words = [*sleeper(shards, milliseconds=0), "--dir", "undisturbed"]
            self.start([cli.FLAKY_JOB, *words]).end(END_SECONDS_MAX)
            self.undisturbed_results[shards] = self.result("undisturbed")
            shutil.rmtree(self.folder / "undisturbed")
        self.assertEqual(self.result(dir), self.undisturbed_results[shards], ended)

    def told(self, ended, reason):
        """How often a checkpoint failed for that reason, aloud; for no other one."""
        lines = [line for line in ended.own_lines() if TOLD in line]
        for line in lines:
            self.assertIn(reason, line)
        return len(lines)

    def checkpointing(self, dir="run"):
        return (self.status_of(dir) or {}).get("checkpointing") or {}

    def wait_for(self, condition, what, running):
        """Fails at once if the run ends before."""
        def holds():
            value = condition()
            self.assertTrue(value or running.popen.poll() is None, f"the run has ended without {what}")
            return value

        cli.eventually(holds, what, END_SECONDS_MAX)

    def wait_for_sealed(self, running, count, dir="run"):
        self.wait_for(lambda: len(self.checkpoints(dir)) >= count, f"{count} checkpoints", running)

    def proven(self, dir="run"):
        ended = self.regroup("verify", dir)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)


class Injected(Storage):
    def test_it_costs_checkpoints_and_nothing_else(self):
        for fault, reason in (("disk-full", FULL), ("disk-error", BROKEN)):
            with self.subTest(fault=fault):
                ended = self.run_sleeper(*OFTEN, "--inject", f"{fault}:after=2", dir=fault).end(END_SECONDS_MAX)
                self.right(ended, dir=fault)
                self.assertGreaterEqual(self.told(ended, reason), 1, ended)
                how = self.checkpointing(fault)
                self.assertEqual((how["newest"], how["sealed"]), (1, 1))
                self.assertGreaterEqual(how["failed"], 1)
                self.assertIn(reason, how["error"])
                self.assertEqual(self.checkpoints(fault), [1])
                self.proven(fault)

    def test_a_stop_ends_on_the_older_one(self):
        running = self.run_sleeper(*OFTEN, "--inject", "disk-full:after=2")
        self.wait_for(lambda: b"injected" in running.ended().err, "a full disk", running)
        ended = self.stop(running)
        self.assertIn(TOLD, ended.own_lines()[-1])
        self.assertIn(FULL, ended.own_lines()[-1])
        self.assertIn("checkpoint 1 is sealed", ended.own_lines()[-1])
        self.right(self.resume(program=cli.FLAKY_JOB))

    def test_whoever_goes_on_has_a_disk_of_its_own(self):
        faults = "disk-full:after=1,rank=1,kill:rank=0,after-shards=30"
        ended = self.run_sleeper(*OFTEN, "--inject", faults, ranks=3).end(END_SECONDS_MAX)
        self.right(ended)
        self.assertIn("regroup: injected: rank 1 has a full disk from checkpoint write 1 on", ended.own_lines())
        self.assertGreaterEqual(self.told(ended, FULL), 1, ended)

    def test_the_storage_is_left_alone_until_it_is_well(self):
        """Three failures and one more try within a second and a half, where twenty would fit."""
        running = self.run_sleeper("--checkpoint-every", "0.05", "--inject", "disk-error:after=1,for=1500ms",
                                   shards=1000)
        self.wait_for(lambda: self.checkpointing().get("storage") == "open", "an open breaker", running)
        seen = " ".join(self.regroup("inspect", "run").out.decode().split())
        self.assertIn("its storage's breaker is open", seen)
        self.assertIn(BROKEN, seen)
        ended = running.end(END_SECONDS_MAX)
        self.right(ended, shards=1000)
        how = self.checkpointing()
        self.assertIn(how["failed"], (3, 4, 5))
        self.assertEqual((how["storage"], how["error"]), ("closed", ""))
        self.assertGreaterEqual(how["sealed"], 1)
        seen = " ".join(self.regroup("inspect", "run").out.decode().split())
        self.assertIn(f"{how['sealed']} sealed, {how['failed']} failed", seen)
        self.assertIn("its storage's breaker is closed", seen)


class Killed(Storage):
    STEPS = ("part", "manifest", "seal", "sealed")

    def test_alone_at_each_step(self):
        """The older checkpoints are there to go on from; once the newer one has its name, that one is."""
        running = self.run_sleeper(*OFTEN, shards=100, ranks=1)
        self.wait_for_sealed(running, 1)
        self.stop(running)
        sealed = self.checkpoints()
        for step in self.STEPS:
            with self.subTest(step=step):
                killed = self.start([cli.FLAKY_JOB, "resume", "run", *OFTEN, "--inject", f"kill:rank=0,at={step}"])
                self.assertEqual(killed.end(END_SECONDS_MAX).status, -signal.SIGKILL)
                self.assertEqual(self.checkpoints()[:len(sealed)], sealed)
                self.assertEqual(len(self.checkpoints()) - len(sealed), step == "sealed")
        newest = self.checkpoints()[-1]
        ended = self.resume(program=cli.FLAKY_JOB)
        self.assertIn(f"going on from checkpoint {newest}", ended.own_lines()[0])
        self.right(ended, shards=100)

    def test_the_coordinator_at_each_step(self):
        """Another one takes the next number."""
        for step in self.STEPS:
            with self.subTest(step=step):
                ended = self.run_sleeper(*OFTEN, "--inject", f"kill:coordinator,at={step}", ranks=3,
                                         dir=step).end(END_SECONDS_MAX)
                self.right(ended, dir=step)
                status = self.status_of(step)
                self.assertEqual((status["failures_survived"], status["checkpointing"]["failed"]), (1, 0), ended)
                self.assertGreaterEqual(status["checkpointing"]["newest"], 2)
                self.proven(step)


class Flipped(Storage):
    FLIPS = 10_000

    def test_no_bit_of_a_real_checkpoint(self):
        """Manifest, part and view alike: no flip is accepted, and without one the run goes on from there."""
        running = self.run_sleeper(*OFTEN)
        self.wait_for_sealed(running, 1)
        self.stop(running)
        for older in self.checkpoints()[:-1]:
            shutil.rmtree(self.folder / f"run/checkpoints/{older:06}")
        ended = self.start([os.environ["FLIP_BITS_PROGRAM"], "run", self.FLIPS, 1]).end()
        self.assertEqual(ended.status, 0, ended)
        print(ended.out.decode(), end="")
        self.assertRegex(ended.out.decode(), f"^{self.FLIPS} flips in [0-9]+ bits of 3 files, 0 unnoticed")
        self.right(self.resume(program=cli.FLAKY_JOB))


class Mounted(Storage):
    """The run directory is on a file system of its own, in a mount namespace that ends with the run, and is
    copied to `kept` then."""

    SCRIPT = ('mount -t tmpfs -o size=1m tmpfs "$1" && shift || exit 99; "$@"; status=$?; '
              'cp -a disk/run kept && exit "$status"')

    def setUp(self):
        super().setUp()
        self.need_mounts()

    def start_on_disk(self, *words, shards):
        disk = self.folder / "disk"
        disk.mkdir()
        command = ["unshare", "--mount", "bash", "-c", self.SCRIPT, "bash", disk, cli.FLAKY_JOB]
        running = self.start([*command, *sleeper(shards), "--dir", "disk/run", "-n", 2, *words])
        self.disk = self.folder / "seen"  # as the run has it
        self.disk.symlink_to(f"/proc/{running.popen.pid}/root{disk}")
        return running

    def mount(self, running, *words):
        """Mounts, in the namespace of the run."""
        command = ["nsenter", "-t", str(running.popen.pid), "-m", "mount", *words]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def fill(self):
        with open(self.disk / "filler", "wb", buffering=0) as filler:
            try:
                while filler.write(bytes(4096)):
                    pass
            except OSError:
                pass

    def wait_for_failures(self, running, count=1):
        told = lambda: running.ended().err.decode().count(TOLD) >= count
        self.wait_for(told, f"{count} checkpoints that failed", running)

    def test_a_full_disk_that_has_room_again(self):
        running = self.start_on_disk(*OFTEN, shards=600)
        self.wait_for_sealed(running, 2, "seen/run")
        self.fill()
        self.wait_for_failures(running)
        older = self.checkpoints("seen/run")
        self.assertGreaterEqual(len(older), 1)
        self.wait_for_failures(running, 3)
        self.assertEqual(self.checkpoints("seen/run"), older)
        (self.disk / "filler").unlink()
        ended = running.end(END_SECONDS_MAX)
        self.right(ended, shards=600, dir="kept")
        how = self.checkpointing("kept")
        self.assertEqual(how["failed"], self.told(ended, FULL), ended)
        self.assertLessEqual(how["failed"], 8)
        self.proven("kept")

    def test_a_full_disk_that_stays_so(self):
        """Neither result nor status can be written: that is said, and there is a checkpoint to go on from."""
        running = self.start_on_disk(*OFTEN, shards=200)
        self.wait_for_sealed(running, 2, "seen/run")
        self.fill()
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_RESUMABLE, ended)
        self.assertIn("result.h5: cannot write the file to disk: " + FULL, ended.err.decode())
        self.assertFalse((self.folder / "kept/result.h5").exists())
        self.right(self.resume(dir="kept", program=cli.FLAKY_JOB), dir="kept")

    def test_a_read_only_directory(self):
        """Then it may be written to again. The same words are not told again."""
        running = self.start_on_disk(*OFTEN, shards=600)
        self.wait_for_sealed(running, 2, "seen/run")
        checkpoints = str(self.folder / "disk/run/checkpoints")
        self.assertTrue(self.mount(running, "--bind", checkpoints, checkpoints))
        read_only = lambda: self.mount(running, "-o", "remount,bind,ro", checkpoints)
        self.wait_for(read_only, "a moment in which nothing is written", running)
        self.wait_for_failures(running)
        older = self.checkpoints("seen/run")
        self.assertGreaterEqual(len(older), 1)
        self.wait_for(lambda: self.checkpointing("seen/run").get("failed", 0) >= 3, "three failures", running)
        self.assertIn(READ_ONLY, self.checkpointing("seen/run")["error"])
        self.assertEqual(self.checkpoints("seen/run"), older)
        self.assertTrue(self.mount(running, "-o", "remount,bind,rw", checkpoints))
        ended = running.end(END_SECONDS_MAX)
        self.right(ended, shards=600, dir="kept")
        self.assertGreaterEqual(self.told(ended, READ_ONLY), 1)
        self.assertLessEqual(self.checkpointing("kept")["failed"], 8)
        self.proven("kept")


class Removed(Storage):
    def test_the_checkpoints(self):
        """They are gone, and the next one is taken all the same, with a number that was not used."""
        running = self.run_sleeper(*OFTEN)
        self.wait_for_sealed(running, 2)
        (self.folder / "gone").mkdir()
        (self.folder / "run/checkpoints").rename(self.folder / "gone/checkpoints")
        self.right(running.end(END_SECONDS_MAX))
        self.assertGreaterEqual(len(self.checkpoints()), 1)
        self.assertGreater(self.checkpoints()[0], self.checkpoints("gone")[-1])
        self.proven()

    def test_the_whole_run_directory(self):
        """There is no place for the result: the run ends, and says so."""
        running = self.run_sleeper(*OFTEN)
        self.wait_for_sealed(running, 1)
        (self.folder / "run").rename(self.folder / "gone")
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_NOT_RECOVERED, ended)
        self.assertGreaterEqual(self.told(ended, GONE), 1, ended)
        self.assertTrue(any("result.h5" in line and GONE in line for line in ended.own_lines()), ended)
        self.assertIn("run is gone, and with it how the run ended", ended.own_lines()[-1])
        self.assertFalse((self.folder / "run").exists())


if __name__ == "__main__":
    cli.main()
