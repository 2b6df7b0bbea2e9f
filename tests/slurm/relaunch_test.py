"""Runs over several nodes whose ranks cannot go on by themselves: their supervisor starts others, on the
nodes that are left, from the newest checkpoint. And runs whose supervisor is lost, which leave nothing."""

import json
import os
import pathlib
import signal
import time

import nodes
from nodes import cli

SAMPLES = 6 * 10**7
LONG_SAMPLES = 10**11  # of a run that is not to come to its end
SHARD_SAMPLES = 300_000
HOSTS = "n1:1,n2:1,n3:1"
SUSPECT_AFTER_SECONDS = 2
START_TIMEOUT_SECONDS = 8
BEGIN_SECONDS_MAX = 150  # a start that hangs is given up, and others follow
END_SECONDS_MAX = 150
NOTHING_LEFT_SECONDS_MAX = 60
MARK = b"REGROUP_INTERNAL_LAUNCH"


class OnNodes(nodes.NodesTest):
    def setUp(self):
        super().setUp()
        words = ["run", "montecarlo", "--samples", SAMPLES, "--shard-samples", SHARD_SAMPLES]
        self.words = [*words, "--format", "json"]
        meant = self.regroup(*self.words, "-n", 2)
        self.assertEqual(meant.status, cli.EXIT_DONE, meant)
        self.meant = json.loads(meant.out)["result"]

    def begin(self, *more, words=None, shards=20, checkpoints=1):
        """Starts a run and waits until it has come so far."""
        running = self.start(
            [cli.REGROUP, *(words or self.words), "--dir", "run", "--hosts", HOSTS, "--network", nodes.DEVICE,
             "--remote-shell", self.nodes.agent, "--suspect-after", SUSPECT_AFTER_SECONDS * 1000,
             "--checkpoint-every", 0.5, *more])

        def has_come_so_far():
            self.assertIsNone(running.popen.poll(), f"ended before: {running.ended()}")
            status = self.status_of("run")
            if not status or status["state"] != "running" or status["shards_done"] < shards:
                return False
            return status["checkpointing"]["newest"] >= checkpoints

        cli.eventually(has_come_so_far, "the run has begun", BEGIN_SECONDS_MAX)
        return running

    def processes_of_launches(self):
        """Of ranks, daemons and mpirun, on all nodes, as the head sees them."""
        pids = [int(pid) for pid in os.listdir("/proc") if pid.isdigit()]
        return [pid for pid in pids if MARK in cli.environment_of(pid)]

    def keepers(self):
        """Those who look after what a supervisor left, which asks nodes that may not answer."""
        found = []
        for pid in self.processes():
            try:
                name = pathlib.Path(f"/proc/{pid}/comm").read_text()
            except OSError:
                continue
            if name == "regroup-keeper\n":
                found.append(pid)
        return found

    def nothing_is_left(self):
        left = lambda: self.processes_of_launches() + self.keepers()
        cli.eventually(lambda: not left(), "no process of the run is left", NOTHING_LEFT_SECONDS_MAX)

    def done(self, running, relaunches=None):
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        summary = json.loads(ended.out)
        self.assertEqual(summary["result"], self.meant, ended)
        if relaunches is not None:
            self.assertEqual(summary["relaunches"], relaunches, ended)
        self.nothing_is_left()
        return summary, ended


class Relaunch(OnNodes):
    def test_a_node_that_does_not_answer_from_the_start(self):
        self.nodes.kill("n2")
        running = self.start(
            [cli.REGROUP, *self.words, "--dir", "run", "--hosts", HOSTS, "--network", nodes.DEVICE,
             "--remote-shell", self.nodes.agent])
        summary, ended = self.done(running, relaunches=1)
        self.assertEqual(summary["ranks"], 2)
        self.assertIn(b"starting 2 ranks again on n1:1,n3:1, from the beginning", ended.err)

    def test_a_start_that_hangs(self):
        """A node's daemon never says a word, the first time."""
        agent = self.folder / "hangs_once"
        agent.write_text("\n".join([
            "#!/bin/sh",
            f'if [ "$1" = n2 ] && mkdir {self.folder}/hung 2>/dev/null; then exec sleep 1000; fi',
            f'exec {self.nodes.agent} "$@"']))
        agent.chmod(0o755)
        running = self.start(
            [cli.REGROUP, *self.words, "--dir", "run", "--hosts", HOSTS, "--network", nodes.DEVICE,
             "--remote-shell", agent, "--start-timeout", START_TIMEOUT_SECONDS])
        summary, ended = self.done(running, relaunches=1)
        self.assertEqual(summary["ranks"], 3)
        self.assertIn(f"the ranks did not begin within {START_TIMEOUT_SECONDS} s: starting 3 ranks again".encode(), ended.err)

    def test_more_nodes_are_wanted_than_answer(self):
        self.nodes.kill("n2")
        ended = self.regroup(
            *self.words, "--dir", "run", "--hosts", HOSTS, "--network", nodes.DEVICE, "--remote-shell",
            self.nodes.agent, "--min-nodes", 3, seconds_max=END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_NOT_RECOVERED, ended)
        self.assertIn("2 of 3 nodes answer, and 3 are wanted", ended.own_lines()[-1])
        self.nothing_is_left()

    def test_a_majority_is_lost(self):
        running = self.begin("--on-partition", "halt")
        for happens in (self.nodes.cut, self.nodes.kill):
            happens("n1")
            happens("n2")
        summary, ended = self.done(running, relaunches=1)
        self.assertIn(b"starting 1 ranks again on n3:1, from checkpoint", ended.err)

    def test_all_nodes_are_lost_and_two_come_back(self):
        if cli.open_mpi_major() >= 5:
            self.skipTest("it ends with the first node, and asks the others at once")
        running = self.begin()
        for name in self.nodes.names:
            self.nodes.kill(name)
        self.nodes.revive("n1")
        self.nodes.revive("n3")
        summary, ended = self.done(running, relaunches=1)
        self.assertEqual(summary["ranks"], 2)
        self.assertIn(b"starting 2 ranks again on n1:1,n3:1, from checkpoint", ended.err)

    def test_all_nodes_are_lost(self):
        running = self.begin()
        for name in self.nodes.names:
            self.nodes.kill(name)
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_RESUMABLE, ended)
        self.assertIn("0 of 3 nodes answer", ended.own_lines()[-1])
        self.assertEqual(self.status_of("run")["exit"], cli.EXIT_RESUMABLE)
        self.nothing_is_left()
        self.assertEqual(self.result_of_resume("-n", 2), self.meant)

    def result_of_resume(self, *words):
        ended = self.regroup("resume", "run", "--format", "json", *words)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        return json.loads(ended.out)["result"]

    def test_all_ranks_are_killed(self):
        running = self.begin()
        for pid in self.rank_pids_everywhere().values():
            os.kill(pid, signal.SIGKILL)
        summary, ended = self.done(running, relaunches=1)
        self.assertEqual(summary["ranks"], 3)

    def rank_pids_everywhere(self):
        pids = {}
        for pid in self.processes_of_launches():
            rank = cli.environment_of(pid).get(b"OMPI_COMM_WORLD_RANK")
            if rank is not None:
                pids[int(rank)] = pid
        return pids

    def test_mpirun_is_killed(self):
        running = self.begin()
        os.kill(self.mpirun_of(running), signal.SIGKILL)
        summary, ended = self.done(running, relaunches=1)
        self.assertEqual(summary["ranks"], 3)

    def mpirun_of(self, running):
        with open(f"/proc/{running.popen.pid}/task/{running.popen.pid}/children") as children:
            return int(children.read().split()[0])


class Supervisor(OnNodes):
    def begin(self, *more):
        return super().begin(*more, words=["run", "montecarlo", "--samples", LONG_SAMPLES])

    def test_it_is_killed(self):
        running = self.begin()
        running.popen.kill()
        running.end()
        self.nothing_is_left()

    def test_it_is_killed_after_a_node_was_lost(self):
        running = self.begin()
        self.nodes.lose("n2")
        lost = lambda: self.status_of("run")["members"] == [0, 2]
        cli.eventually(lost, "the run goes on without the node")
        running.popen.kill()
        running.end()
        self.nothing_is_left()

    def test_a_signal_after_a_node_was_lost(self):
        running = self.begin()
        self.nodes.lose("n2")
        cli.eventually(lambda: self.status_of("run")["members"] == [0, 2], "it goes on")
        running.popen.terminate()
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_RESUMABLE, ended)
        self.assertIn("stopped by signal 15", ended.own_lines()[-1])
        self.nothing_is_left()


class Partition(OnNodes):
    def has_members(self, *members):
        told = lambda: self.status_of("run")["members"] == list(members)
        cli.eventually(told, f"a run of ranks {members}")

    def test_a_minority_that_is_cut_off_and_comes_back(self):
        running = self.begin(words=["run", "montecarlo", "--samples", LONG_SAMPLES])
        for name, others in (("n3", (0, 1)), ("n1", (1, 2))):
            self.nodes.cut(name)
            self.has_members(*others)
            time.sleep(1)
            self.nodes.heal(name)
            self.has_members(0, 1, 2)
        running.popen.terminate()
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_RESUMABLE, ended)
        self.assertEqual(self.status_of("run")["relaunches"], 0)
        self.nothing_is_left()

    def test_a_minority_that_stays_cut_off(self):
        running = self.begin("--on-partition", "halt", shards=5)
        self.nodes.cut("n1")
        summary, ended = self.done_but_for_the_cut(running)
        self.assertEqual([recovery["lost"] for recovery in summary["recoveries"]], [[0]])
        self.nodes.heal("n1")
        self.nothing_is_left()

    def done_but_for_the_cut(self, running):
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        summary = json.loads(ended.out)
        self.assertEqual(summary["result"], self.meant, ended)
        return summary, ended

    def test_no_side_has_a_majority(self):
        running = self.begin("--on-partition", "halt", "--relaunches", 0, shards=5)
        for name in self.nodes.names:
            self.nodes.cut(name)
        ended = running.end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_RESUMABLE, ended)
        for name in self.nodes.names:
            self.nodes.heal(name)
        self.nothing_is_left()


if __name__ == "__main__":
    nodes.main()
