"""Nodes that are lost in the middle of a run, with their daemon and all their ranks at once: the others
go on in place. NODE_LOSSES says how many losses to try of each kind; 20 are meant for a long test."""

import json
import os
import random
import re
import time

import nodes
from nodes import cli

LOSSES = int(os.environ.get("NODE_LOSSES", "1"))
SHARDS = 240
SHARD_SAMPLES = 250_000
SHARD_SECONDS = 0.05  # on any machine: 4 ranks go on for a second and more after the latest loss
SUSPECT_AFTER_SECONDS = 2
# As is asked of a run: how long after a node is lost the next shard begins, at most.
GO_ON_SECONDS = SUSPECT_AFTER_SECONDS + 0.5
BEGIN_SECONDS_MAX = 150  # a start that hangs is given up, and others follow
END_SECONDS_MAX = 120
STAMPS = re.compile(rb"recovery: rank (\d+) epoch (\d+) evidence (\S+) detected (\d+) revoked (\d+) "
                    rb"entered (\d+) resumed (\d+|-)")
SEED = int(os.environ.get("NODE_LOSS_SEED", "0")) or random.randrange(2**32)


class NodeLoss(nodes.NodesTest):
    def setUp(self):
        super().setUp()
        if cli.open_mpi_major() >= 5:
            self.skipTest("Open MPI 5 ends a run that loses a node")
        self.random = random.Random(SEED)
        print(f"NODE_LOSS_SEED={SEED}")

    def prepare(self, ranks):
        words, self.meant, self.slowly = self.slowed_montecarlo(SHARDS, SHARD_SAMPLES, SHARD_SECONDS, ranks)
        self.words = ["run", *words, "--format", "json", "--suspect-after", SUSPECT_AFTER_SECONDS * 1000]

    def survive(self, hosts, lose, name):
        """Runs on the hosts, loses a node at a random instant, and returns the summary and how long
        after that the next shard began."""
        directory = f"{name}-{self.random.randrange(10**9)}"
        running = self.start(
            [cli.REGROUP, *self.words, "--dir", directory, "--hosts", hosts, "--network", nodes.DEVICE,
             "--remote-shell", self.nodes.agent], env=self.slowly | {"REGROUP_RECOVERY_STAMPS": "1"})
        after = self.random.randrange(1, SHARDS // 4)

        def has_come_so_far():
            self.assertIsNone(running.popen.poll(), f"ended before: {running.ended()}")
            status = self.status_of(directory)
            return status and status["state"] == "running" and status["shards_done"] >= after

        try:
            cli.eventually(has_come_so_far, f"{after} shards are done")
        except AssertionError as late:
            raise AssertionError(f"{late}; status {self.status_of(directory)}; {running.ended()}") from late
        time.sleep(self.random.random())
        begin = time.monotonic_ns()
        lose(name)
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        summary = json.loads(ended.out)
        self.assertEqual((self.folder / directory / "result.h5").read_bytes(), self.meant, ended)
        self.assertEqual(summary["shards"], SHARDS)
        self.assertNotIn(b"ucx", ended.err, "what MPI says of a lost node is known")
        resumed = [int(stamps[6]) for stamps in STAMPS.findall(ended.err) if stamps[6] != b"-"]
        return summary, min(time - begin for time in resumed if time > begin) / 1e9

    def lose_all_kinds(self, hosts, who):
        ranks = {name: int(count) for name, count in (word.split(":") for word in hosts.split(","))}
        self.prepare(sum(ranks.values()))
        for kind, lose, bring_back in (
                ("reset", self.nodes.kill, lambda name: None),
                ("silent", self.nodes.lose, self.nodes.heal)):
            seconds = []
            for _ in range(LOSSES):
                with self.subTest(kind=kind, node=who):
                    summary, gone_on = self.survive(hosts, lose, who)
                    seconds.append(gone_on)
                    lost = len(summary["recoveries"][0]["lost"])
                    self.assertEqual(lost, ranks[who])
                    self.assertLess(gone_on, GO_ON_SECONDS)
                bring_back(who)
                self.nodes.revive(who)
            shown = ", ".join(f"{value:.3f}" for value in sorted(seconds))
            print(f"{hosts}, {who} lost ({kind}): next shard after {shown} s")

    def test_a_worker_of_three(self):
        self.lose_all_kinds("n1:1,n2:1,n3:1", "n2")

    def test_the_coordinator_of_three(self):
        self.lose_all_kinds("n1:1,n2:1,n3:1", "n1")

    def test_several_ranks_at_once(self):
        self.lose_all_kinds("n1:1,n2:2,n3:1", "n2")

    def test_either_of_two(self):
        for who in ("n1", "n2"):
            self.lose_all_kinds("n1:1,n2:1", who)


class LostState(nodes.NodesTest):
    """What the ranks of a node held comes back from copies on another node, and from no file."""

    count = 2

    def lose_half(self, program, *words, ready):
        if cli.open_mpi_major() >= 5:
            self.skipTest("Open MPI 5 ends a run that loses a node")
        words = [str(word) for word in words]
        meant = self.regroup("run", *words, "--dir", "meant", "-n", 2, program=program)
        self.assertEqual(meant.status, cli.EXIT_DONE, meant)
        running = self.start(
            [program, "run", *words, "--dir", "run", "--hosts", "n1:2,n2:2", "--network", nodes.DEVICE,
             "--remote-shell", self.nodes.agent, "--checkpoint-every", "off", "--partner-copies", 0.1])

        def is_ready():
            self.assertIsNone(running.popen.poll(), f"ended before: {running.ended()}")
            status = self.status_of("run")
            return status and status["state"] == "running" and ready(status)

        cli.eventually(is_ready, "there is something to lose", BEGIN_SECONDS_MAX)
        self.nodes.kill("n2")
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertEqual(*((self.folder / name / "result.h5").read_bytes() for name in ("run", "meant")))
        self.assertFalse((self.folder / "run/checkpoints").exists(), "no file was written")
        status = self.status_of("run")
        self.assertEqual((status["failures_survived"], status["relaunches"]), (2, 0), ended)
        return status

    def test_partitions(self):
        log = self.folder / "log"
        status = self.lose_half(
            cli.FLAKY_JOB, "logged-counts", "--shards", 200, "--milliseconds", 40, "--log", log,
            ready=lambda status: status["shards_done"] >= 60 and status["partner_copies"]["rounds"] >= 2)
        restored = status["restored_from"]
        self.assertGreaterEqual(restored["partner"], 40, "all of two ranks' partitions, of 128 on 4 ranks")
        self.assertEqual(restored["file"], 0)
        self.assertLess(status["shards_repeated"], 120)

    def test_cells(self):
        status = self.lose_half(
            cli.REGROUP, "heat", "--grid", "400x300", "--steps", 60_000, "--blocks", 12,
            ready=lambda status: (status["step"] or 0) >= 1000 and status["partner_copies"]["rounds"] >= 1)
        restored = status["restored_from"]
        self.assertGreater(restored["partner"], 0)
        self.assertEqual(restored["file"], 0)


if __name__ == "__main__":
    nodes.main()
