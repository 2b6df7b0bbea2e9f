"""Runs that are stopped, or lose everything, and go on from their checkpoint: to the same result, bit for
bit, on whatever number of ranks. With real signals, real kills and real files that are damaged."""

import math
import os
import random
import signal
import subprocess
import unittest
import xml.etree.ElementTree

import cli

try:
    import h5py
    import numpy
except ImportError:
    h5py = None

END_SECONDS_MAX = 60
# Kills of everything at random instants, in a row; a long series is for those who ask for it.
KILLS = int(os.environ.get("RESUME_TEST_KILLS", "6"))
SEED = int(os.environ.get("RESUME_TEST_SEED", "1"))
SLEEPER = ["sleeper", "--shards", 400, "--milliseconds", 40]  # 8 s on 2 ranks: there is time to stop it
PI = ["montecarlo", "--samples", 60_000_000, "--shard-samples", 20_000]
HEAT = ["heat", "--grid", "400x300", "--steps", 20_000, "--blocks", 12]


class Resuming(cli.CliTest):
    def begin(self, *words, dir="run", ranks=3, shards=20, steps=0, program=cli.REGROUP, settings=()):
        """Starts a run and waits until some shards are done, or cells have come to a step."""
        launch = ["-n", ranks] if ranks > 1 else []
        running = self.start([program, "run", *words, "--dir", dir, *launch, *settings])

        def has_begun():
            self.assertIsNone(running.popen.poll(), "the run has ended already")
            status = self.status_of(dir)
            if not status or status["state"] != "running":
                return False
            return (status["step"] or 0) >= steps if steps else status["shards_done"] >= shards

        cli.eventually(has_begun, "a run under way", END_SECONDS_MAX)
        return running

    def stop(self, running, number=signal.SIGTERM):
        os.kill(running.popen.pid, number)
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_RESUMABLE, ended)
        return ended

    def resume(self, *words, dir="run", status=cli.EXIT_DONE, program=cli.REGROUP):
        ended = self.start([program, "resume", dir, *words]).end(END_SECONDS_MAX)
        self.assertEqual(ended.status, status, ended)
        return ended

    def result(self, dir="run"):
        return (self.folder / dir / "result.h5").read_bytes()

    def undisturbed(self, *words, program=cli.REGROUP):
        dir = f"undisturbed-{words[0]}"
        self.start([program, "run", *words, "--dir", dir, "-n", 2]).end(END_SECONDS_MAX)
        return self.result(dir)

    def checkpoints(self, dir="run"):
        """Numbers of the sealed ones."""
        found = (self.folder / dir / "checkpoints").glob("*/manifest.json")
        return sorted(int(path.parent.name) for path in found)

    def wait_for_checkpoints(self, count):
        enough = lambda: self.checkpoints() and self.checkpoints()[-1] >= count
        cli.eventually(enough, f"{count} checkpoints", END_SECONDS_MAX)


class Partitions(Resuming):
    """Map shards whose parts a checkpoint has do not run again, be their sums exact or in order."""

    JOBS = ("logged-counts", "logged-sums")
    SHARDS = 200

    def job(self, name, log):
        return [name, "--shards", self.SHARDS, "--milliseconds", 40, "--log", self.folder / log]

    def times_run(self, log):
        return len((self.folder / log).read_text().splitlines())

    def undisturbed_result(self, name):
        words = [*self.job(name, name + "-log"), "--dir", name, "-n", 2]
        ended = self.start([cli.FLAKY_JOB, "run", *words]).end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertEqual(self.times_run(name + "-log"), self.SHARDS)
        return self.result(name)

    def test_a_lost_owner(self):
        for name in self.JOBS:
            with self.subTest(name):
                dir = name + "-lost"
                faults = ["--checkpoint-every", 0.1, "--partner-copies", "off",
                          "--inject", "kill:rank=2,after-shards=40"]
                words = [*self.job(name, dir + "-log"), "--dir", dir, "-n", 4, *faults]
                ended = self.start([cli.FLAKY_JOB, "run", *words]).end(END_SECONDS_MAX)
                self.assertEqual(ended.status, cli.EXIT_DONE, ended)
                self.assertEqual(self.status_of(dir)["failures_survived"], 1)
                self.assertEqual(self.result(dir), self.undisturbed_result(name))
                memory, partner, file = self.restored_from(dir)
                self.assertEqual((memory, partner), (0, 0), ended)
                self.assertGreater(file, 0, ended)
                # About 160 were done when the rank was lost, and all had parts for it.
                self.assertLess(self.times_run(dir + "-log"), self.SHARDS + 100, ended)

    COPIES = ["--checkpoint-every", "off", "--partner-copies", 0.1]

    def lose_an_owner(self, name, dir, *settings):
        kill = ["--inject", "kill:rank=2,after-shards=40"]
        words = [*self.job(name, dir + "-log"), "--dir", dir, "-n", 4, "--progress", "plain", *settings, *kill]
        ended = self.start([cli.FLAKY_JOB, "run", *words]).end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertEqual(self.status_of(dir)["failures_survived"], 1, ended)
        return ended

    def restored_from(self, dir):
        restored = self.status_of(dir)["restored_from"]
        return restored["memory"], restored["partner"], restored["file"]

    def test_a_lost_owner_comes_back_from_its_partner(self):
        for name in self.JOBS:
            with self.subTest(name):
                dir = name + "-copied"
                ended = self.lose_an_owner(name, dir, *self.COPIES)
                self.assertEqual(self.result(dir), self.undisturbed_result(name))
                self.assertFalse((self.folder / dir / "checkpoints").exists(), "no file was written")
                memory, partner, file = self.restored_from(dir)
                self.assertEqual((memory, file), (0, 0), ended)
                self.assertGreaterEqual(partner, 20, "all of its partitions, of 128 on 4 ranks")
                # About 160 were done when the rank was lost, and all had parts for it.
                self.assertLess(self.times_run(dir + "-log"), self.SHARDS + 100, ended)
                self.assertLess(self.status_of(dir)["shards_repeated"], 100, ended)
                self.assertGreater(self.status_of(dir)["partner_copies"]["rounds"], 0)
                self.assertIn(f"{partner} partitions came back", ended.err.decode())

    # Checkpoints are due and fail: copies in memory go on.
    def test_storage_that_fails_does_not_matter(self):
        settings = ["--checkpoint-every", 0.1, "--partner-copies", 0.1, "--inject", "disk-full:after=1"]
        ended = self.lose_an_owner("logged-counts", "full", *settings)
        self.assertEqual(self.result("full"), self.undisturbed_result("logged-counts"))
        status = self.status_of("full")
        self.assertGreater(status["checkpointing"]["failed"], 0, ended)
        memory, partner, file = self.restored_from("full")
        self.assertEqual((memory, file), (0, 0), ended)
        self.assertGreaterEqual(partner, 20, ended)
        self.assertLess(status["shards_repeated"], 100, ended)

    def test_copies_that_are_off_or_have_no_room(self):
        for settings, rounds in ((["off"], False), ([0.1, "--partner-memory", 0], True)):
            with self.subTest(settings):
                dir = f"none-{rounds}"
                ended = self.lose_an_owner("logged-counts", dir, "--checkpoint-every", "off", "--partner-copies",
                                           *settings)
                self.assertEqual(self.restored_from(dir), (0, 0, 0), ended)
                self.assertGreater(self.times_run(dir + "-log"), self.SHARDS + 100, "all of it runs again")
                copies = self.status_of(dir)["partner_copies"]
                self.assertEqual((copies["rounds"] > 0, copies["refused"] > 0), (rounds, rounds), ended)
                self.assertEqual("--partner-memory gives more" in ended.err.decode(), rounds, ended)

    def test_another_rank_count(self):
        for name in self.JOBS:
            with self.subTest(name):
                dir = name + "-stopped"
                running = self.begin(*self.job(name, dir + "-log"), dir=dir, ranks=3, shards=60,
                                     program=cli.FLAKY_JOB, settings=["--checkpoint-every", "off"])
                self.stop(running)
                self.assertLess(self.status_of(dir)["shards_done"], self.SHARDS)
                self.resume("-n", 2, dir=dir, program=cli.FLAKY_JOB)
                self.assertEqual(self.result(dir), self.undisturbed_result(name))
                self.assertLess(self.times_run(dir + "-log"), self.SHARDS + 50)


class Cells(Resuming):
    """Cells go on from a checkpoint at the step that it has, and are on their grid there for other readers."""

    def test_another_rank_count(self):
        expected = self.undisturbed(*HEAT)
        for before, after in ((3, 2), (1, 4)):
            with self.subTest(before=before, after=after):
                dir = f"stopped-{before}"
                running = self.begin(*HEAT, dir=dir, ranks=before, steps=500, settings=["--checkpoint-every", "off"])
                self.stop(running)
                if h5py:
                    self.assertGreaterEqual(self.step_of(dir), 500)
                self.resume("-n", after, dir=dir)
                self.assertEqual(self.result(dir), expected)

    def test_a_lost_owner(self):
        for source, copies in (("partner", ["--checkpoint-every", "off", "--partner-copies", 0.05]),
                               ("file", ["--checkpoint-every", 0.1, "--partner-copies", "off"])):
            with self.subTest(source):
                dir = f"from-{source}"
                words = [*HEAT, "--dir", dir, "-n", 3, *copies, "--inject", "kill:rank=1,at=1s"]
                ended = self.start([cli.REGROUP, "run", *words]).end(END_SECONDS_MAX)
                self.assertEqual(ended.status, cli.EXIT_DONE, ended)
                status = self.status_of(dir)
                self.assertEqual(status["failures_survived"], 1, ended)
                self.assertGreater(status["restored_from"][source], 0, ended)
                self.assertEqual(self.result(dir), self.undisturbed(*HEAT))

    @unittest.skipUnless(h5py, "there is no h5py")
    def test_the_field_is_what_the_scheme_makes_of_a_sine(self):
        for grid, blocks in (("60x40", 6), ("20x12x16", 8)):
            with self.subTest(grid):
                job = ["heat", "--grid", grid, "--steps", 10**9, "--blocks", blocks]
                self.stop(self.begin(*job, dir=grid, ranks=2, steps=50, settings=["--checkpoint-every", "off"]))
                extents = [int(extent) for extent in reversed(grid.split("x"))]
                step, field = self.field_of(grid)
                self.assertEqual(field.shape, tuple(extents))
                number = 0.9 / (2 * len(extents))
                spacing = 1 / (max(extents) + 1)
                factor, expected = 1, numpy.ones(extents)
                for axis, extent in enumerate(extents):
                    half = math.pi / (2 * (extent + 1))
                    factor -= 4 * number * math.sin(half) ** 2
                    wave = numpy.sin(2 * half * numpy.arange(1, extent + 1))
                    expected *= wave.reshape([-1 if other == axis else 1 for other in range(len(extents))])
                error = abs(field - expected * factor**step).max() / factor**step
                self.assertLess(error, 1e-10, step)
                xdmf = (self.newest(grid) / "fields.xdmf").read_text()
                root = xml.etree.ElementTree.fromstring(xdmf)
                self.assertEqual(root.find(".//Attribute").get("Name"), "temperature")
                dimensions = root.find(".//Attribute/DataItem").get("Dimensions")
                self.assertEqual([int(extent) for extent in dimensions.split()], extents)
                time = step * 0.9 * spacing**2 / (2 * len(extents))
                self.assertAlmostEqual(float(root.find(".//Time").get("Value")) / time, 1, 12)

    def newest(self, dir):
        return self.folder / dir / "checkpoints" / f"{self.checkpoints(dir)[-1]:06}"

    def step_of(self, dir):
        """The step of a checkpoint, which all its parts that have cells agree on."""
        steps = set()
        for part in self.newest(dir).glob("part-*.h5"):
            with h5py.File(part) as file:
                steps |= {int(file.attrs["step"])} if "step" in file.attrs else set()
        self.assertEqual(len(steps), 1)
        return steps.pop()

    def field_of(self, dir):
        with h5py.File(self.newest(dir) / "view.h5") as view:
            return self.step_of(dir), view["fields/temperature"][...]


class Stopped(Resuming):
    def test_each_signal_and_rank_count(self):
        expected = self.undisturbed(*PI)
        cases = ((signal.SIGTERM, 3, 2), (signal.SIGINT, 2, 4), (signal.SIGUSR1, 1, 3), (signal.SIGTERM, 4, 1))
        for number, before, after in cases:
            with self.subTest(signal=number.name, before=before, after=after):
                dir = f"{number.name}-{before}"
                ended = self.stop(self.begin(*PI, dir=dir, ranks=before), number)
                self.assertIn(f"'regroup resume {dir}' goes on", ended.own_lines()[-1])
                self.assertIn(f"stopped by signal {number.value}", ended.own_lines()[-1])
                done = self.status_of(dir)["shards_done"]
                self.assertLess(done, 3000)
                self.resume("-n", after, dir=dir)
                self.assertEqual(self.result(dir), expected)
                self.assertEqual(self.status_of(dir)["members"], list(range(after)))

    def test_as_many_ranks_as_before_unless_told(self):
        self.stop(self.begin(*SLEEPER, ranks=3, program=cli.FLAKY_JOB))
        seconds = self.status_of("run")["seconds"]
        self.resume(program=cli.FLAKY_JOB)
        self.assertEqual(self.status_of("run")["members"], [0, 1, 2])
        self.assertGreater(self.status_of("run")["seconds"], seconds)

    def test_map_and_reduce(self):
        words = b"".join(b"word%d " % (number * number % 100_003) for number in range(400_000))
        self.write("text", words)
        job = ["wordcount", "text", "--shard-bytes", 20_000]
        expected = self.undisturbed(*job)
        running = self.begin(*job, ranks=2, shards=0, settings=["--inject", "slow:rank=0,factor=30",
                                                                "--inject", "slow:rank=1,factor=30"])
        self.stop(running)
        self.resume("-n", 3)
        self.assertEqual(self.result(), expected)

    def test_one_checkpoint_more_and_on_it_goes(self):
        running = self.begin(*SLEEPER, program=cli.FLAKY_JOB, settings=["--checkpoint-every", "off"])
        self.assertEqual(self.checkpoints(), [])
        os.kill(running.popen.pid, signal.SIGUSR2)
        self.wait_for_checkpoints(1)
        self.assertEqual(running.end(END_SECONDS_MAX).status, cli.EXIT_DONE)
        status = self.status_of("run")["checkpointing"]
        self.assertEqual((status["newest"], status["failed"], status["interval_seconds"]), (1, 0, 0))

    def test_under_mpirun_alone(self):
        expected = self.undisturbed(*PI)
        running = self.start_mpirun(3, cli.REGROUP, "run", *PI, "--dir", "run")
        begun = lambda: (self.status_of("run") or {}).get("shards_done", 0) > 20
        cli.eventually(begun, "a run under way", END_SECONDS_MAX)
        os.kill(running.popen.pid, signal.SIGUSR1)
        running.end(END_SECONDS_MAX)
        self.assertEqual(self.status_of("run")["exit"], cli.EXIT_RESUMABLE)
        ended = self.start_mpirun(2, cli.REGROUP, "resume", "run").end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertEqual(self.result(), expected)

    def test_a_second_ctrl_c_waits_for_nothing(self):
        running = self.begin("sleeper", "--shards", 40, "--milliseconds", 5000, ranks=1, shards=0,
                             program=cli.FLAKY_JOB)
        os.kill(running.popen.pid, signal.SIGINT)
        os.kill(running.popen.pid, signal.SIGINT)
        self.assertIn(running.end(END_SECONDS_MAX).status, (cli.EXIT_NOT_RECOVERED, cli.EXIT_RESUMABLE))
        self.assertEqual(self.status_of("run")["state"], "interrupted")


class Killed(Resuming):
    def test_everything_at_random_instants(self):
        """Supervisor, mpirun and ranks, at once; each time another number of ranks goes on. A run that is
        done before enough kills is followed by another."""
        chance = random.Random(SEED)
        for job in (PI, HEAT):
            expected = self.undisturbed(*job)
            kills = runs = 0
            while kills < KILLS:
                dir = f"{job[0]}-{runs}"
                kills += self.kill_until_done(job, dir, KILLS - kills, chance)
                self.assertEqual(self.result(dir), expected)
                runs += 1
                self.assertLess(runs, 4 * KILLS, "the runs are done before they can be killed")
            print(f"{job[0]}: {kills} times everything was killed in {runs} runs; all results are those of the "
                  "undisturbed run")

    def kill_until_done(self, job, dir, kills_max, chance):
        """Returns how often it was killed before it was done."""
        every = ["--checkpoint-every", "0.05"]
        command = [cli.REGROUP, "run", *job, "--dir", dir, "-n", 3, *every]
        for kills in range(kills_max):
            running = self.start(command)
            known = lambda: self.checkpoints(dir) or running.popen.poll() is not None
            cli.eventually(known, "a checkpoint", END_SECONDS_MAX)
            try:
                running.popen.wait(chance.uniform(0.05, 1.2))
            except subprocess.TimeoutExpired:
                self.kill_all(running)
            else:
                self.assertEqual(running.ended().status, cli.EXIT_DONE, running.ended())
                return kills
            command = [cli.REGROUP, "resume", dir, "-n", chance.choice((1, 2, 3, 4)), *every]
        ended = self.start(command).end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        return kills_max

    def kill_all(self, running):
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        running.popen.wait()
        cli.eventually(lambda: not self.processes(), "no process left", END_SECONDS_MAX)

    def test_a_rank_and_then_a_stop(self):
        expected = self.undisturbed(*PI)
        running = self.begin(*PI, ranks=4, settings=["--inject", "kill:rank=0,after-shards=30"])
        cli.eventually(lambda: self.status_of("run")["failures_survived"], "a loss", END_SECONDS_MAX)
        self.stop(running)
        self.resume("-n", 2)
        self.assertEqual(self.result(), expected)


class Damaged(Resuming):
    def two_checkpoints(self):
        running = self.begin(*SLEEPER, program=cli.FLAKY_JOB, settings=["--checkpoint-every", "0.1"])
        self.wait_for_checkpoints(3)
        self.stop(running)
        return self.checkpoints()

    def part(self, number):
        return next((self.folder / f"run/checkpoints/{number:06}").glob("part-*.h5"))

    def flip_byte(self, path):
        contents = bytearray(path.read_bytes())
        contents[len(contents) // 2] ^= 0x10
        path.write_bytes(contents)

    def test_an_older_one_is_taken_and_the_newer_named(self):
        older, newest = self.two_checkpoints()
        self.flip_byte(self.part(newest))
        ended = self.resume(program=cli.FLAKY_JOB)
        lines = ended.own_lines()
        self.assertIn(f"checkpoint {newest} is passed over: ", lines[0])
        self.assertIn(self.part(older).name, lines[0])
        self.assertIn(f"going on from checkpoint {older}", lines[1])

    def test_none_is_right(self):
        for number in self.two_checkpoints():
            self.part(number).unlink()
        ended = self.resume(program=cli.FLAKY_JOB, status=cli.EXIT_NOT_RECOVERED)
        self.assertEqual(len(ended.own_lines()), 1)
        self.assertIn("no checkpoint is right", ended.own_lines()[0])

    def test_one_that_is_asked_for(self):
        older, _ = self.two_checkpoints()
        ended = self.resume("--from", older, program=cli.FLAKY_JOB)
        self.assertIn(f"going on from checkpoint {older}", ended.own_lines()[0])
        self.assertEqual(self.status_of("run")["state"], "done")


class Failing(Resuming):
    def test_no_checkpoint_can_be_written(self):
        """That is said, in words and in the status, and the run goes on."""
        running = self.begin(*SLEEPER, ranks=2, program=cli.FLAKY_JOB, settings=["--checkpoint-every", "off"])
        self.write("run/checkpoints", b"no directory")
        os.kill(running.popen.pid, signal.SIGUSR2)
        failed = lambda: self.status_of("run")["checkpointing"]["failed"] > 0
        cli.eventually(failed, "a checkpoint that failed", END_SECONDS_MAX)
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertIn("run/checkpoints", self.status_of("run")["checkpointing"]["error"])
        told = [line for line in ended.own_lines() if "no checkpoint was taken: " in line]
        self.assertEqual(len(told), 1, ended)

    def test_a_stop_without_one_says_why(self):
        running = self.begin(*SLEEPER, ranks=2, program=cli.FLAKY_JOB, settings=["--checkpoint-every", "off"])
        self.write("run/checkpoints", b"no directory")
        os.kill(running.popen.pid, signal.SIGTERM)
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_NOT_RECOVERED, ended)
        self.assertIn("no checkpoint was taken: ", self.status_of("run")["message"])

    def test_an_older_one_stays(self):
        running = self.begin(*SLEEPER, ranks=2, program=cli.FLAKY_JOB, settings=["--checkpoint-every", "off"])
        os.kill(running.popen.pid, signal.SIGUSR2)
        known = lambda: self.status_of("run")["checkpointing"]["newest"] == 1
        cli.eventually(known, "a checkpoint that counts", END_SECONDS_MAX)
        checkpoints = self.folder / "run/checkpoints"
        checkpoints.rename(self.folder / "kept")
        self.write("run/checkpoints", b"no directory")
        ended = self.stop(running)
        self.assertIn("no checkpoint was taken: ", ended.own_lines()[-1])
        self.assertIn("checkpoint 1 is sealed", ended.own_lines()[-1])
        checkpoints.unlink()
        (self.folder / "kept").rename(checkpoints)
        self.resume(program=cli.FLAKY_JOB)
        self.assertEqual(self.status_of("run")["state"], "done")


class Continue(Resuming):
    """One command that begins a run, goes on with it, and is content when it is done."""

    def again(self, *words, status=cli.EXIT_DONE):
        ended = self.regroup("run", *PI, "--dir", "run", "--continue", "-n", 2, *words)
        self.assertEqual(ended.status, status, ended)
        return ended

    def test_from_the_beginning_to_the_end(self):
        self.stop(self.begin(*PI, "--continue"))
        ended = self.again()
        self.assertIn(b"going on from checkpoint 1", ended.err)
        result = self.result()
        ended = self.again()
        self.assertEqual((len(ended.own_lines()), ended.out), (1, b""), ended)
        self.assertIn("is done", ended.own_lines()[0])
        self.assertEqual(self.result(), result)
        self.assertEqual(result, self.undisturbed(*PI))

    def test_what_is_no_such_run(self):
        self.stop(self.begin(*PI))
        self.assertIn("--spot", self.again("--spot", 90, status=cli.EXIT_BAD_INPUT).own_lines()[0])
        for words in (["wordcount", "--dir", "run", __file__], ["montecarlo"]):
            ended = self.regroup("run", *words, "--continue")
            self.assertEqual((ended.status, len(ended.own_lines())), (cli.EXIT_BAD_INPUT, 1), ended)


class Refused(Resuming):
    def refused(self, command, *texts, status=cli.EXIT_BAD_INPUT):
        ended = self.start([cli.REGROUP, *command]).end(END_SECONDS_MAX)
        self.assertEqual((ended.status, ended.out), (status, b""), ended)
        self.assertEqual(len(ended.own_lines()), 1, ended)
        for text in texts:
            self.assertIn(text, ended.own_lines()[0])

    def test_what_holds_no_run(self):
        (self.folder / "empty").mkdir()
        self.refused(["resume", "nowhere"], "nowhere")
        self.refused(["resume", "empty"], "empty")
        self.refused(["resume"], "directory")

    def test_another_job(self):
        self.stop(self.begin(*PI))
        self.refused(["resume", "run", "--spot", 90], "--spot is 100 in the run and 90 here", "--override")
        self.refused(["resume", "run", "--seed", 7, "--kind", "put"], "--seed", "--kind")
        self.refused(["resume", "run", "--override", "spott=90"], "spott")
        self.refused(["resume", "run", "--override", "spot=x"], "spot")
        self.refused(["resume", "run", "--from", 99], "99", status=cli.EXIT_NOT_RECOVERED)
        self.refused(["resume", "run", "--keep", 1], "--keep")
        self.refused(["run", *PI, "--dir", "run"], "regroup resume run")
        self.resume("-n", 2)
        self.refused(["resume", "run"], "done", status=cli.EXIT_DONE)

    def test_settings(self):
        for words in (["--checkpoint-every", "soon"], ["--checkpoint-every", "-1"], ["--keep", 1],
                      ["--partner-copies", "never"], ["--grace", 0], ["--mtbf", 0]):
            with self.subTest(words=words):
                self.refused(["run", "montecarlo", "--dir", "none", *words], words[0])
                self.assertFalse((self.folder / "none").exists())

    def test_a_live_run(self):
        running = self.begin(*PI, settings=["--checkpoint-every", "0.1"])
        self.wait_for_checkpoints(1)
        self.refused(["resume", "run"], "run")
        self.stop(running)


if __name__ == "__main__":
    cli.main()
