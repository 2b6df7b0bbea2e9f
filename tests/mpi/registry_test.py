"""The registry on real ranks: shards raise one counter, and the count is exact whoever is killed meanwhile; and
shards wait for what others put."""

import json

import cli

END_SECONDS_MAX = 60
RANKS = 4
SHARDS = 200


class Registry(cli.CliTest):
    def count(self, *words, shards=SHARDS, ranks=RANKS, milliseconds=10):
        """Runs the counter. Returns its summary."""
        ended = self.regroup("run", "counter", "--shards", shards, "--milliseconds", milliseconds, "-n", ranks,
                             "--dir", self.new_dir(), "--format", "json", "--progress", "none", *words,
                             program=cli.FLAKY_JOB, seconds_max=END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        summary = json.loads(ended.out)
        self.assertEqual(summary["quarantined"], 0, ended)
        return summary

    def exact(self, summary, shards=SHARDS):
        self.assertEqual(summary["result"], {"shards": shards, "highest": shards})

    def test_shards_raise_a_counter(self):
        for ranks in (1, 2, 4):
            for standbys in (0, 2):
                with self.subTest(ranks=ranks, standbys=standbys):
                    self.exact(self.count("--standbys", standbys, ranks=ranks, milliseconds=0))

    def test_the_count_is_exact_though_ranks_are_killed(self):
        for fault, losses in (("kill:rank=0,after-shards=10", 1), ("kill:rank=2,after-shards=10", 1),
                              ("kill:rank=1,at=200ms", 1), ("kill:coordinator,at=150ms,kill:rank=1,at=400ms", 2),
                              ("kill:coordinator,at=200ms,kill:rank=3,at=election", 2)):
            with self.subTest(fault=fault):
                summary = self.count("--inject", fault, "--max-attempts", 1)
                self.assertEqual(summary["failures_survived"], losses)
                self.exact(summary)

    def test_the_count_is_exact_when_puts_are_nearly_all_that_happens(self):
        """The time of the kill is any: in many a run a put is made then, and not yet answered."""
        for fault in ("kill:rank=0,after-shards=100", "kill:rank=0,after-shards=200", "kill:rank=0,after-shards=300",
                      "kill:rank=0,at=400ms"):
            with self.subTest(fault=fault):
                summary = self.count("--inject", fault, "--max-attempts", 1, shards=2000, milliseconds=0)
                self.assertLessEqual(summary["failures_survived"], 1)
                self.exact(summary, 2000)

    def test_a_rank_that_stood_still_counts_nothing_twice(self):
        for rank in (0, 2):
            with self.subTest(rank=rank):
                self.exact(self.count("--inject", f"stop:rank={rank},at=200ms,for=800ms", "--suspect-after", 300,
                                      shards=500), 500)

    def test_shards_wait_for_each_other(self):
        shards = 8
        ended = self.regroup("run", "relay", "--shards", shards, "-n", shards, "--schedule", "static", "--dir",
                             self.new_dir(), "--format", "json", program=cli.FLAKY_JOB,
                             seconds_max=END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        tokens = json.loads(ended.out)["result"]["tokens"].split()
        self.assertEqual(tokens, ["start" + "." * (shard + 1) for shard in range(shards)])


if __name__ == "__main__":
    cli.main()
