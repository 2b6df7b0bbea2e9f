"""The result of a run is the same file, byte for byte, whatever ran it: any rank count, schedule,
batch, number of threads, and launched by regroup or by mpirun."""

import itertools
import random
import shutil

import cli

RANKS = (1, 2, 4, 8)
SCHEDULES = ("dynamic", "affinity", "static", "peer")
COORDINATORS = ("computes", "dedicated")
SETTINGS = (
    ("--batch", 1), ("--batch", 64), ("--prefetch", 1), ("--prefetch", 50), ("--threads", 1),
    ("--threads", 3), ("--bind", "none"), ("--vector-clocks", "off"), ("--max-attempts", 1),
)


class SameResult(cli.CliTest):
    def check(self, *job):
        """Every combination against a run of one rank."""
        directory, _ = self.run_job(*job)
        expected = (directory / "result.h5").read_bytes()
        for ranks, schedule, coordinator in itertools.product(RANKS, SCHEDULES, COORDINATORS):
            words = ("--schedule", schedule, "--coordinator", coordinator)
            self.check_one(expected, job, words, ranks=ranks)
        for ranks, schedule in itertools.product(RANKS, SCHEDULES):
            coordinator = COORDINATORS[SCHEDULES.index(schedule) % 2]
            words = ("--schedule", schedule, "--coordinator", coordinator)
            self.check_one(expected, job, words, ranks=ranks, direct=True)
        for words in SETTINGS:
            self.check_one(expected, job, words, ranks=4)

    def check_one(self, expected, job, words, **launch):
        with self.subTest(words=words, **launch):
            directory, _ = self.run_job(*job, *words, **launch)
            self.assertTrue((directory / "result.h5").read_bytes() == expected, "other bytes")
            shutil.rmtree(directory)


class MonteCarlo(SameResult):
    def test_same_bytes(self):
        self.check("montecarlo", "--samples", 200_000, "--shard-samples", 1000)


class WordCount(SameResult):
    def test_same_bytes(self):
        seeded = random.Random(1)
        words = [b"word%d" % seeded.randrange(20_000) for _ in range(200_000)]
        self.write("a.txt", b" ".join(words[:150_000]))
        self.write("b.txt", b"\n".join(words[150_000:]))
        self.check("wordcount", "a.txt", "b.txt", "--shard-bytes", 8192)


if __name__ == "__main__":
    cli.main()
