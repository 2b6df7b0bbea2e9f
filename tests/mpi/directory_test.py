"""The verbs that tell of a run directory, inspect and verify: over real runs, whole, live, killed and
damaged."""

import json
import os
import random
import signal

import cli

PLANT_CHECKPOINTS = os.environ["PLANT_CHECKPOINTS_PROGRAM"]
SEED = 2**64 - 1  # of the checkpoints that are planted
FLIPS = 100


class Directory(cli.CliTest):
    def inspect(self, directory="run"):
        ended = self.regroup("inspect", directory, "--format", "json")
        self.assertEqual((ended.status, ended.err), (0, b""), ended)
        return json.loads(ended.out)

    def inspect_text(self, directory="run"):
        ended = self.regroup("inspect", directory)
        self.assertEqual((ended.status, ended.err), (0, b""), ended)
        for line in ended.out.decode().splitlines():
            self.assertLessEqual(len(line), 80)
        return ended.out.decode()

    def verify(self, expected=0, directory="run"):
        ended = self.regroup("verify", directory, "--format", "json")
        self.assertEqual((ended.status, ended.err), (expected, b""), ended)
        report = json.loads(ended.out)
        self.assertEqual(report["valid"], expected == 0)
        text = self.regroup("verify", directory)
        self.assertEqual((text.status, text.err), (expected, b""), text)
        lines = [line for line in text.out.decode().splitlines() if line.startswith("problem: ")]
        self.assertEqual(
            lines, [f"problem: {one['file']}: {one['reason']}" for one in report["problems"]])
        return report

    def planted(self):
        """A run with checkpoints in its directory."""
        self.run_job("montecarlo", "--samples", 1000, "--seed", SEED, dir="run")
        self.assertEqual(self.start([PLANT_CHECKPOINTS, "run"]).end().status, 0)

    def flip(self, name, bit):
        path = self.folder / "run" / name
        contents = bytearray(path.read_bytes())
        contents[bit // 8] ^= 1 << bit % 8
        path.write_bytes(contents)


class Whole(Directory):
    def test_a_run_that_is_done(self):
        self.write("text", b"some words and some more")
        self.run_job("wordcount", "text", ranks=2, dir="run")
        before = self.listing()
        found = self.inspect()
        self.assertEqual((found["job"], found["state"], found["exit"]), ("wordcount", "done", 0))
        self.assertEqual(found["shards_done"], found["shards_total"])
        self.assertEqual((found["members"], found["in_use"]), ([0, 1], False))
        self.assertEqual(found["result"]["rows"], 4)
        self.assertEqual(found["result"]["columns"], ["count", "word"])
        self.assertEqual((found["checkpoints"], found["next"]), ([], "regroup results run"))
        text = self.inspect_text()
        self.assertIn("done, exit status 0\n", text)
        self.assertIn("next           regroup results run\n", text)
        report = self.verify()
        self.assertEqual((report["files"], report["datasets"], report["notes"]), (2, 3, []))
        self.assertEqual(report["bytes"], sum(
            (self.folder / "run" / name).stat().st_size for name in ("status.json", "result.h5")))
        self.assertEqual(self.listing(), before)

    def test_a_run_with_shards_given_up(self):
        words = ["run", "broken", "--shards", 12, "--max-attempts", 1, "--dir", "run"]
        ended = self.start([cli.FLAKY_JOB, *words]).end()
        self.assertEqual(ended.status, cli.EXIT_QUARANTINED, ended)
        self.assertIn("done, exit status 1\n", self.inspect_text())
        self.verify()

    def test_checkpoints(self):
        self.planted()
        states = [(one["checkpoint"], one["state"]) for one in self.inspect()["checkpoints"]]
        self.assertEqual(states, [(3, "unfinished"), (2, "sealed"), (1, "sealed")])
        self.assertEqual(self.inspect()["checkpoints"][1]["linked_part_files"], 1)
        self.assertEqual(self.inspect()["checkpoints"][1]["fields"], ["heat"])
        self.assertIn("1 of them linked from earlier ones, 1 field;", " ".join(self.inspect_text().split()))
        report = self.verify()
        self.assertEqual([part["name"] for part in report["parts"]], [
            "status.json", "checkpoints/000002", "checkpoints/000001", "result.h5"])
        self.assertEqual(len(report["notes"]), 1)

    def test_a_run_that_survived_a_failure(self):
        job = ("montecarlo", "--samples", 20_000_000, "--shard-samples", 10_000)
        for rank in (2, 0):  # the latter coordinates
            with self.subTest(rank=rank):
                directory = f"without-{rank}"
                self.run_job(*job, "--inject", f"kill:rank={rank},after-shards=5", ranks=3, dir=directory)
                found = self.inspect(directory)
                self.assertEqual(found["failures_survived"], 1)
                self.assertEqual(found["recoveries"][0]["lost"], [rank])
                self.assertIn(f"without rank {rank}", self.inspect_text(directory))
                self.assertEqual(self.verify(directory=directory)["notes"], [])

    def test_a_status_of_an_older_regroup(self):
        self.run_job("montecarlo", "--samples", 1000, dir="run")
        status = self.status_of("run")
        for name in ("run", "seed", "result", "xxh3_128"):
            del status[name]
        self.write("run/status.json", json.dumps(status))
        self.assertEqual(self.inspect()["state"], "done")
        self.assertEqual(len(self.verify()["notes"]), 2)


class Live(Directory):
    def test_a_live_run(self):
        running = self.start_long_run(ranks=2, dir="run")
        found = self.inspect()
        self.assertEqual((found["state"], found["in_use"], found["next"]), ("running", True, None))
        self.assertIn("a live run holds the directory", self.inspect_text())
        self.assertTrue(self.verify()["in_use"])
        running.popen.terminate()
        running.end(30)
        found = self.inspect()
        self.assertEqual((found["state"], found["exit"], found["in_use"]), ("interrupted", 75, False))
        self.assertEqual(found["next"], "regroup resume run")
        self.assertEqual([one["state"] for one in found["checkpoints"]], ["sealed"])
        self.assertIn("stopped by signal", self.inspect_text())
        self.verify()

    def test_a_run_that_was_killed_and_begun_again(self):
        running = self.start_long_run(ranks=None, dir="run")
        os.kill(running.popen.pid, signal.SIGKILL)
        running.end()
        found = self.inspect()
        self.assertEqual((found["state"], found["in_use"], found["next"]), ("running", False, None))
        self.assertIn("no live run is there", self.inspect_text())
        ended = self.regroup("verify", "run")
        self.assertIn(b"nothing is to be verified yet", ended.out)
        self.run_job("montecarlo", "--samples", 1000, "--seed", SEED, dir="run")
        again = self.inspect()
        self.assertEqual((again["state"], again["run"]), ("done", found["run"]))
        self.verify()


class Damaged(Directory):
    def test_flipped_bits_of_the_result(self):
        self.write("text", b" ".join(b"word%d" % number for number in range(2000)))
        self.run_job("wordcount", "text", dir="run")
        seeded = random.Random(5)
        for _ in range(FLIPS):
            bit = seeded.randrange(8 * (self.folder / "run/result.h5").stat().st_size)
            self.flip("result.h5", bit)
            ended = self.regroup("verify", "run")
            self.assertEqual(ended.status, 1, f"bit {bit}: {ended}")
            self.assertIn(b"problem: result.h5: ", ended.out)
            self.flip("result.h5", bit)
        self.verify()

    def test_checkpoints(self):
        self.planted()
        for name in ("part-0001.h5", "part-0000-of-000001.h5", "view.h5", "fields.xdmf", "manifest.json"):
            with self.subTest(name=name):
                file = f"checkpoints/000002/{name}"
                self.flip(file, 8 * ((self.folder / "run" / file).stat().st_size // 2))
                problems = self.verify(expected=1)["problems"]
                self.assertIn(file, [problem["file"] for problem in problems])
                self.flip(file, 8 * ((self.folder / "run" / file).stat().st_size // 2))
        (self.folder / "run/checkpoints/000001/part-0001.h5").unlink()
        self.assertEqual(self.inspect()["checkpoints"][2]["state"], "damaged")
        self.assertEqual(len(self.verify(expected=1)["problems"]), 1)

    def test_a_result_that_is_gone(self):
        self.planted()
        (self.folder / "run/result.h5").unlink()
        self.assertIsNone(self.inspect()["next"])
        self.assertEqual(self.verify(expected=1)["problems"][0]["file"], "result.h5")

    def test_the_result_of_another_run(self):
        self.planted()
        self.run_job("montecarlo", "--samples", 1000, "--seed", 7, dir="other")
        (self.folder / "other/result.h5").replace(self.folder / "run/result.h5")
        self.assertEqual(self.verify(expected=1)["problems"][0]["file"], "result.h5")


class Refused(Directory):
    def refused(self, directory, *names):
        for verb in ("inspect", "verify"):
            with self.subTest(verb=verb, directory=directory):
                before = self.listing()
                ended = self.regroup(verb, directory)
                self.assertEqual((ended.status, ended.out), (cli.EXIT_BAD_INPUT, b""), ended)
                self.assertEqual(len(ended.err.splitlines()), 1, ended)
                for name in names:
                    self.assertIn(name, ended.own_lines()[0])
                self.assertEqual(self.listing(), before)

    def test_what_is_no_run_directory(self):
        self.write("file", b"mine")
        self.write("foreign/file", b"mine")
        self.write("truncated/status.json", b'{"job": "montecarlo", "sta')
        self.write("package/status.json", b'{"name": "a package"}')
        self.refused("no-such-run", "no-such-run is not there")
        self.refused("file", "file is not a directory")
        self.refused("foreign", "foreign is not a run directory", "status.json")
        self.refused("truncated", "truncated/status.json is no status of a run")
        self.refused("package", "package/status.json is no status of a run")
        self.refused("", "no name")

    def test_arguments(self):
        for verb in ("inspect", "verify"):
            for words, name in (([], "DIR"), (["a", "b"], "too many"), (["a", "--format", "xml"], "xml")):
                ended = self.regroup(verb, *words)
                self.assertEqual(ended.status, cli.EXIT_BAD_INPUT, ended)
                self.assertIn(name, ended.own_lines()[0])


if __name__ == "__main__":
    cli.main()
