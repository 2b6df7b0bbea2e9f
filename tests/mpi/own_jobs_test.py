"""Jobs of a user's own, built on the public header: shards that throw, results of every kind and size, and
sums that show in which order they were taken."""

import json

import cli

SHARDS = 64
LAUNCHES = ((1, "dynamic"), (2, "peer"), (4, "dynamic"), (4, "affinity"), (4, "static"),
            (8, "dynamic"), (8, "peer"))


class OwnJobs(cli.CliTest):
    def run_own(self, *words, ranks=4, expected=cli.EXIT_DONE):
        """Runs a job of flaky_job. Returns its directory, its summary and what it printed."""
        directory = self.new_dir()
        ended = self.regroup("run", *words, "-n", ranks, "--dir", directory, "--format", "json",
                             program=cli.FLAKY_JOB)
        self.assertEqual(ended.status, expected, ended)
        return directory, json.loads(ended.out), ended

    def same_everywhere(self, *words, expected=cli.EXIT_DONE):
        """Runs the job on several rank counts and schedules. Returns one directory and its summary."""
        first = None
        for ranks, schedule in LAUNCHES:
            with self.subTest(words=words, ranks=ranks, schedule=schedule):
                directory, summary, ended = self.run_own(
                    *words, "--schedule", schedule, ranks=ranks, expected=expected)
                contents = (self.folder / directory / "result.h5").read_bytes()
                first = first or (contents, directory, summary)
                self.assertTrue(contents == first[0], f"other bytes: {ended}")
        return first[1:]

    def rows(self, directory):
        text = self.results(directory, program=cli.FLAKY_JOB).decode()
        return [line.split("\t") for line in text.splitlines()]

    def test_shards_that_throw_at_first(self):
        _, summary = self.same_everywhere("flaky", "--shards", SHARDS)
        self.assertEqual(summary["result"]["shards"], SHARDS)
        self.assertEqual(summary["result"]["numbers"], SHARDS * (SHARDS - 1) // 2)
        self.assertEqual((summary["shards"], summary["quarantined"]), (SHARDS, 0))

    def test_shards_that_always_throw(self):
        given_up = [5] + [shard for shard in range(SHARDS) if shard % 10 == 7]
        merged = [shard for shard in range(SHARDS) if shard not in given_up]
        directory, summary = self.same_everywhere(
            "broken", "--shards", SHARDS, expected=cli.EXIT_QUARANTINED)
        self.assertEqual(summary["result"]["shards"], len(merged))
        self.assertEqual(summary["result"]["numbers"], sum(merged))
        self.assertEqual((summary["quarantined"], summary["exit"]), (len(given_up), 1))
        status = self.status_of(directory)
        self.assertEqual((status["state"], status["exit"]), ("done", 1))
        self.assertEqual(status["quarantined"], len(given_up))

    def test_what_is_said_of_shards_given_up(self):
        _, _, ended = self.run_own(
            "broken", "--shards", 20, "--max-attempts", 2, expected=cli.EXIT_QUARANTINED)
        lines = ended.own_lines()
        for shard, why in ((5, "no std::exception"), (7, "broken for good"), (17, "broken for good")):
            self.assertTrue(
                any(f"shard {shard} " in line and why in line and "2 attempts" in line for line in lines),
                ended)
        self.assertEqual(len(lines), 4, ended)

    def test_a_job_without_one_success(self):
        _, summary = self.same_everywhere(
            "hopeless", "--shards", 12, "--max-attempts", 1, expected=cli.EXIT_QUARANTINED)
        self.assertEqual((summary["quarantined"], summary["result"]["shards"]), (12, 0))

    def test_results_that_cannot_be_merged(self):
        directory, summary, ended = self.run_own(
            "unmergeable", "--shards", 12, expected=cli.EXIT_NOT_RECOVERED)
        self.assertIn("they do not fit", summary["message"])
        self.assertIn(b"they do not fit", ended.err)
        self.assertEqual(self.status_of(directory)["state"], "failed")
        self.assertFalse((self.folder / directory / "result.h5").exists())

    def test_a_job_without_shards(self):
        _, summary = self.same_everywhere("flaky", "--shards", 0)
        self.assertEqual(summary["result"]["shards"], 0)

    def test_one_try_only(self):
        _, summary, _ = self.run_own(
            "flaky", "--shards", 9, "--max-attempts", 1, expected=cli.EXIT_QUARANTINED)
        self.assertEqual((summary["quarantined"], summary["result"]["shards"]), (6, 3))

    def test_texts_of_up_to_a_megabyte(self):
        _, summary = self.same_everywhere("texts", "--shards", SHARDS)
        self.assertGreater(summary["result"]["bytes"], 4 << 20)

    def test_vectors(self):
        directory, _ = self.same_everywhere("vectors", "--shards", SHARDS)
        values = [float(value) for _, value in self.rows(directory)]
        self.assertEqual(values, sorted(values, key=lambda value: -(-value // 1)))
        self.assertGreaterEqual(len(values), 5000)

    def test_structs(self):
        directory, _ = self.same_everywhere("structs", "--shards", SHARDS)
        counts = {}
        for shard in range(SHARDS):
            for i in range(shard + 1):
                counts[f"key{i % 37}"] = counts.get(f"key{i % 37}", 0) + 1
        self.assertEqual({key: int(count) for count, key in self.rows(directory)}, counts)

    def test_sums_of_doubles_by_key(self):
        directory, _ = self.same_everywhere("sums", "--shards", SHARDS)
        # In the order of the shards, within a shard in that of its pairs: bit for bit (I8).
        sums = {}
        for shard in range(SHARDS):
            of_shard = {}
            for i in range(500):
                key, value = f"key{(shard * 31 + i * 17) % 211}", 1.0 / (shard * 500 + i + 1)
                of_shard[key] = of_shard[key] + value if key in of_shard else value
            for key, value in of_shard.items():
                sums[key] = sums[key] + value if key in sums else value
        self.assertEqual({key: float(value) for value, key in self.rows(directory)}, sums)

    def test_own_program_has_the_whole_command_line(self):
        ended = self.regroup("jobs", program=cli.FLAKY_JOB)
        self.assertEqual(ended.status, 0, ended)
        self.assertIn(b"sums", ended.out)
        self.assertNotIn(b"montecarlo", ended.out)
        ended = self.mpirun(2, "run", "flaky", program=cli.FLAKY_JOB)
        self.assertEqual(ended.status, 0, ended)


if __name__ == "__main__":
    cli.main()
