"""The scripts of slurm/, submitted as they stand: what is the cluster's own (nodes, ranks, time limit) is
given to sbatch, or in the environment. However often a run is cut, cancelled or robbed of its nodes,
the result has the same bytes as an undisturbed run's.

What must last is slowed down: its ranks sleep, so that a run takes as long on any machine, and leaves the
cores to others."""

import json
import os
import pathlib
import time

import nodes
from nodes import cli
from slurm_cluster import POLL_SECONDS, SlurmTest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "slurm"
ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL")
SHARD_SAMPLES = 500_000
SHARD_SECONDS = 0.5  # of one that is slowed down
NODES = ("--nodes=2", "--ntasks-per-node=1")
RANKS = 2
CHAIN_RANKS = 8
ONE_MINUTE = ("--time=1", "--signal=B:USR1@30")
QUICK_SECONDS_MAX = 150  # a start that hangs is given up, and others follow
CUT_SECONDS_MAX = 150  # from one cut to the next: computing, and the wait for Slurm to start the job again
LOST_SECONDS_MAX = 240
STOPPED = "stopped by signal 10"
PREEMPTED = "stopped by signal 15"
CUT = "goes on in the next start of this job"
RESUMED = "going on from checkpoint"
# Slurm looks every 30 s, and may give notice as soon as a job of one minute has begun: before its ranks have.
STOPPED_STATUSES = (cli.EXIT_RESUMABLE, cli.EXIT_NOT_RECOVERED)


class ScriptTest(SlurmTest):
    def setUp(self):
        super().setUp()
        programs = self.folder / "bin"
        programs.mkdir()
        self.program = programs / "regroup"
        self.program.symlink_to(cli.REGROUP)
        self.cluster.environment |= {
            "PATH": f"{programs}:{os.environ['PATH']}", "REGROUP_NETWORK": nodes.DEVICE,
            "REGROUP_CHECKPOINT_EVERY": "2"}

    def undisturbed(self, shards, *words, ranks=RANKS):
        """The words of a job, the bytes of its result, and the environment in which a shard of it takes
        SHARD_SECONDS on any of so many ranks."""
        return self.slowed_montecarlo(shards, SHARD_SAMPLES, SHARD_SECONDS, ranks, *words)

    def submit(self, script, *options, words=(), env=None):
        return self.cluster.sbatch(SCRIPTS / script, *options, words=words, cwd=self.folder,
                                   env=self.cluster.environment | (env or {}))

    def wait_done(self, job, seconds=QUICK_SECONDS_MAX):
        told = self.cluster.wait(job, *ENDED, seconds=seconds)
        self.assertEqual((told.state, told.exit_code), ("COMPLETED", 0), self.cluster.output(job))
        return told

    def wait_shards(self, job, directory, count, seconds=QUICK_SECONDS_MAX):
        """Until a running job has done so many shards, and has a checkpoint."""
        def has_come_so_far():
            time.sleep(POLL_SECONDS)
            self.assertNotIn(self.cluster.job(job).state, ENDED, self.cluster.output(job))
            status = self.status_of(directory)
            return status and status["state"] == "running" and status["shards_done"] >= count and (
                status["checkpointing"]["newest"] > 0)

        cli.eventually(has_come_so_far, f"{directory} has {count} shards and a checkpoint", seconds)

    def assert_result(self, directory, meant):
        self.assertEqual((self.folder / directory / "result.h5").read_bytes(), meant)
        verified = self.regroup("verify", directory)
        self.assertEqual(verified.status, cli.EXIT_DONE, verified)
        self.assertEqual(list(self.folder.glob("*.starts")), [], "what the script noted down is gone")

    def assert_nothing_left_to_do(self, script, directory, *options, words):
        """Submitted again, nothing runs."""
        files = [self.folder / directory / name for name in ("status.json", "result.h5")]
        before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in files]
        job = self.submit(script, *options, words=words)
        told = self.wait_done(job)
        self.assertEqual(told.restarts, 0)
        self.assertEqual([(path.stat().st_mtime_ns, path.read_bytes()) for path in files], before)

    def cancel_and_go_on(self, script, directory, *options, ranks=RANKS):
        """Cancelled in the middle, the next submission goes on from there."""
        words, meant, slowly = self.undisturbed(60, ranks=ranks)
        job = self.submit(script, *options, words=words, env=slowly)
        self.wait_shards(job, directory, 6)
        self.cluster.cancel(job)
        self.cluster.wait(job, "CANCELLED")
        cli.eventually(lambda: self.status_of(directory)["state"] != "running", "the run has stopped")
        before = self.status_of(directory)
        self.assertEqual((before["state"], before["exit"]), ("interrupted", cli.EXIT_RESUMABLE))
        job = self.submit(script, *options, words=words)
        told = self.wait_done(job)
        self.assertIn(f"{RESUMED} {before['checkpointing']['newest']}\n", self.cluster.output(job))
        self.assertEqual(told.restarts, 0)
        self.assert_result(directory, meant)
        return words

    def replace_program(self, text):
        self.program.unlink()
        self.program.write_text(text)
        self.program.chmod(0o755)


class Plain(ScriptTest):
    def test_runs_and_is_content_when_done(self):
        words, meant, _ = self.undisturbed(10)
        self.wait_done(self.submit("plain.sh", *NODES, words=words))
        self.assert_result("plain", meant)
        self.assert_nothing_left_to_do("plain.sh", "plain", *NODES, words=words)

    def test_goes_on_after_scancel(self):
        self.cancel_and_go_on("plain.sh", "plain", *NODES)

    def test_is_stopped_before_its_time_limit(self):
        words, meant, slowly = self.undisturbed(150)
        job = self.submit("plain.sh", *NODES, *ONE_MINUTE, words=words, env=slowly)
        told = self.cluster.wait(job, *ENDED, seconds=CUT_SECONDS_MAX)
        self.assertEqual(told.state, "FAILED", told)
        self.assertIn(told.exit_code, STOPPED_STATUSES)
        self.assertIn(STOPPED, self.cluster.output(job))
        self.wait_done(self.submit("plain.sh", *NODES, words=words))
        self.assert_result("plain", meant)

    def test_does_not_begin_without_time(self):
        job = self.submit("plain.sh", *NODES, "--time=1", env={"REGROUP_GRACE": "40"})
        told = self.cluster.wait(job, *ENDED)
        self.assertEqual((told.state, told.exit_code), ("FAILED", cli.EXIT_RESUMABLE), told)
        self.assertIn("too few to begin", self.cluster.output(job))
        self.assertIsNone(self.status_of("plain"))


class Long(ScriptTest):
    def test_is_cut_by_its_limit_and_ends_exactly(self):
        words, meant, slowly = self.undisturbed(240)  # 60 s; a cut comes within 28
        job = self.submit("long.sh", *NODES, *ONE_MINUTE, words=words, env=slowly)
        told = self.wait_done(job, seconds=8 * CUT_SECONDS_MAX)
        said = self.cluster.output(job)
        self.assertGreaterEqual(told.restarts, 2)
        self.assertEqual(said.count(CUT), told.restarts, said)
        self.assertGreaterEqual(said.count(f"{STOPPED}; checkpoint"), 2, said)
        self.assertGreaterEqual(said.count(RESUMED), 2, said)
        print(f"cut {told.restarts} times")
        self.assert_result("long", meant)
        self.assert_nothing_left_to_do("long.sh", "long", *NODES, words=words)


class LongStopped(ScriptTest):
    def test_goes_on_after_scancel(self):
        self.cancel_and_go_on("long.sh", "long", *NODES)

    def test_gives_up_when_starts_lead_nowhere(self):
        self.replace_program(f"#!/bin/sh\nexit {cli.EXIT_RESUMABLE}\n")
        job = self.submit("long.sh", *NODES)
        told = self.cluster.wait(job, "FAILED", seconds=LOST_SECONDS_MAX)
        self.assertEqual((told.restarts, told.exit_code), (3, cli.EXIT_NOT_RECOVERED))
        self.assertIn("gives up after 3 restarts", self.cluster.output(job))

    def test_says_so_when_it_may_not_be_requeued(self):
        self.replace_program(f"#!/bin/sh\nexit {cli.EXIT_RESUMABLE}\n")
        job = self.submit("long.sh", *NODES, "--no-requeue")
        told = self.cluster.wait(job, "FAILED")
        self.assertEqual((told.restarts, told.exit_code), (0, cli.EXIT_RESUMABLE))
        self.assertIn("Slurm does not take the job back", self.cluster.output(job))

    def test_bad_input_ends_it(self):
        job = self.submit("long.sh", *NODES, words=["no-such-job"])
        told = self.cluster.wait(job, "FAILED")
        self.assertEqual((told.restarts, told.exit_code), (0, cli.EXIT_BAD_INPUT))


class LongPreempted(ScriptTest):
    settings = {"PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE",
                "PartitionName": "urgent Nodes=ALL PriorityTier=10 State=UP"}

    def test_makes_way_and_goes_on(self):
        words, meant, slowly = self.undisturbed(60)
        job = self.submit("long.sh", *NODES, words=words, env=slowly)
        self.wait_shards(job, "long", 6)
        urgent = self.cluster.sbatch("#!/bin/sh\n", "--partition=urgent", "--nodes=3", "--exclusive")
        self.wait_done(urgent)
        told = self.wait_done(job, LOST_SECONDS_MAX)
        self.assertEqual(told.restarts, 1)
        self.assertRegex(self.cluster.output(job), rf"{PREEMPTED}; checkpoint (\d+) is sealed.*\n.*{RESUMED} \1\n")
        self.assert_result("long", meant)


class LongLost(ScriptTest):
    """Slurm requeues a job that has lost a node."""

    count = 4

    def test_all_nodes_of_the_job(self):
        words, meant, slowly = self.undisturbed(100)
        job = self.submit("long.sh", *NODES, words=words, env=slowly)
        self.wait_shards(job, "long", 10)
        self.assertEqual(self.cluster.job(job).nodes, "n[1-2]")
        for name in ("n1", "n2"):
            self.cluster.kill_node(name)
        told = self.wait_done(job, LOST_SECONDS_MAX)
        self.assertEqual((told.restarts, told.nodes), (1, "n[3-4]"))
        self.assertIn(RESUMED, self.cluster.output(job))
        self.assert_result("long", meant)

    def test_slurmd_alone_so_that_the_old_processes_still_run(self):
        words, meant, slowly = self.undisturbed(160)
        job = self.submit("long.sh", *NODES, words=words, env=slowly)
        self.wait_shards(job, "long", 10)
        self.cluster.kill_slurmd("n1")
        told = self.wait_done(job, LOST_SECONDS_MAX)
        self.assertEqual((told.restarts, told.nodes), (1, "n[2-3]"))
        self.assert_result("long", meant)


class Array(ScriptTest):
    OPTIONS = ("--array=2-3", "--ntasks-per-node=1", "--output=array-%a.out")

    def output_of(self, task):
        return (self.folder / f"array-{task}.out").read_text()

    def test_each_task_has_its_own_run_and_goes_on_with_it(self):
        meant = {}
        for task in (2, 3):
            _, meant[task], slowly = self.undisturbed(40, "--seed", task, ranks=1)
        words = ["montecarlo", "--samples", 40 * SHARD_SAMPLES, "--shard-samples", SHARD_SAMPLES]
        job = self.submit("array.sh", *self.OPTIONS, words=words, env=slowly)
        for task in (2, 3):
            self.wait_shards(f"{job}_{task}", f"array/{task}", 5)
        self.cluster.cancel(job)
        for task in (2, 3):
            self.cluster.wait(f"{job}_{task}", "CANCELLED")
            directory = f"array/{task}"
            cli.eventually(lambda: self.status_of(directory)["state"] != "running", "it has stopped")
        job = self.submit("array.sh", *self.OPTIONS, words=words)
        for task in (2, 3):
            self.wait_done(f"{job}_{task}")
            self.assertIn(RESUMED, self.output_of(task))
            self.assert_result(f"array/{task}", meant[task])
        ended = [self.status_of(f"array/{task}") for task in (2, 3)]
        job = self.submit("array.sh", *self.OPTIONS, words=words)
        for task in (2, 3):
            self.wait_done(f"{job}_{task}")
        self.assertEqual([self.status_of(f"array/{task}") for task in (2, 3)], ended)


class Gpu(ScriptTest):
    gpus = 1

    def test_runs_and_goes_on(self):
        words = self.cancel_and_go_on("gpu.sh", "gpu")
        self.assert_nothing_left_to_do("gpu.sh", "gpu", words=words)

    def test_has_the_gpus_that_it_asks_for(self):
        words, _, slowly = self.undisturbed(60)
        job = self.submit("gpu.sh", words=words, env=slowly)
        self.cluster.wait(job, "RUNNING")
        self.assertEqual(self.cluster.job(job).fields["TresPerNode"], "gres:gpu:1")
        cli.eventually(lambda: "rank 0" in self.cluster.output(job), "it shows the binding")
        self.cluster.cancel(job)
        self.cluster.wait(job, "CANCELLED")


class NodeFailure(ScriptTest):
    OPTIONS = ("--ntasks-per-node=1",)
    RANKS = 3

    def test_a_node_is_lost_and_the_others_go_on(self):
        words, meant, slowly = self.undisturbed(120, ranks=self.RANKS)
        job = self.submit("node_failure.sh", *self.OPTIONS, words=words, env=slowly)
        self.wait_shards(job, "node_failure", 10)
        self.cluster.kill_node("n2")
        told = self.wait_done(job, LOST_SECONDS_MAX)
        self.assertEqual((told.restarts, self.status_of("node_failure")["failures_survived"]), (0, 1))
        self.assert_result("node_failure", meant)
        self.nodes.revive("n2")
        self.cluster.restart_slurmd("n2")
        self.cluster.wait_node("n2", "IDLE")
        self.assert_nothing_left_to_do("node_failure.sh", "node_failure", *self.OPTIONS, words=words)

    def test_goes_on_after_scancel(self):
        self.cancel_and_go_on("node_failure.sh", "node_failure", *self.OPTIONS, ranks=self.RANKS)


class NodeFailureRequeue(ScriptTest):
    count = 5

    def test_the_first_node_is_lost(self):
        words, meant, slowly = self.undisturbed(120)
        job = self.submit("node_failure.sh", *NODES, words=words, env=slowly)
        self.wait_shards(job, "node_failure", 10)
        self.cluster.kill_node("n1")
        told = self.wait_done(job, LOST_SECONDS_MAX)
        self.assertEqual((told.restarts, told.nodes), (1, "n[2-3]"))
        self.assertIn(RESUMED, self.cluster.output(job))
        self.assert_result("node_failure", meant)

    def test_too_few_are_left(self):
        words, meant, slowly = self.undisturbed(120, ranks=3)
        job = self.submit("node_failure.sh", "--ntasks-per-node=1", words=words, env=slowly)
        self.wait_shards(job, "node_failure", 10)
        for name in ("n2", "n3"):
            self.cluster.kill_node(name)
        told = self.wait_done(job, LOST_SECONDS_MAX)
        self.assertEqual(told.nodes, "n[1,4-5]")
        self.assertIn(RESUMED, self.cluster.output(job))
        self.assert_result("node_failure", meant)


class Chain(ScriptTest):
    """Its links have the nodes and ranks of the script; what else is the cluster's own they inherit."""

    MINUTE = {"SBATCH_TIMELIMIT": "1", "SBATCH_SIGNAL": "B:USR1@30"}

    def jobs(self):
        """The ids of all links so far."""
        listed = self.cluster.command("squeue", "--noheader", "--states=all", "--name=chain", "--format=%i")
        return sorted(listed.split(), key=int)

    def test_links_follow_each_other_until_the_run_is_done(self):
        words, meant, slowly = self.undisturbed(640, ranks=CHAIN_RANKS)  # 40 s; a cut comes within 28
        self.submit("chain.sh", words=words, env=slowly | self.MINUTE)
        cli.eventually(lambda: (self.folder / "chain" / "result.h5").exists(), "the run is done",
                       4 * CUT_SECONDS_MAX)
        *cut, last, successor = self.jobs()
        self.wait_done(last)
        self.assertEqual(self.cluster.wait(successor, *ENDED).state, "CANCELLED")
        self.assertGreaterEqual(len(cut), 1)
        for job in cut:
            told = self.cluster.job(job)
            self.assertEqual((told.state, told.restarts), ("FAILED", 0))
            self.assertIn(told.exit_code, STOPPED_STATUSES)
        self.assert_result("chain", meant)
        self.assert_nothing_left_to_do("chain.sh", "chain", words=words)
        self.assertEqual(self.cluster.wait(self.jobs()[-1], *ENDED).state, "CANCELLED")


class ChainStopped(ScriptTest):
    jobs = Chain.jobs

    def test_scancel_of_its_name_ends_it_and_it_goes_on_when_submitted_again(self):
        words, meant, slowly = self.undisturbed(400, ranks=CHAIN_RANKS)
        job = self.submit("chain.sh", words=words, env=slowly)
        self.wait_shards(job, "chain", 10)
        self.cluster.command("scancel", "--name=chain")
        for job in self.jobs():
            self.cluster.wait(job, "CANCELLED")
        cli.eventually(lambda: self.status_of("chain")["state"] != "running", "the run has stopped")
        job = self.submit("chain.sh", words=words)
        self.wait_done(job)
        self.assertIn(RESUMED, self.cluster.output(job))
        self.assert_result("chain", meant)

    def test_gives_up_when_links_lead_nowhere(self):
        self.replace_program(f"#!/bin/sh\nexit {cli.EXIT_RESUMABLE}\n")
        self.submit("chain.sh")
        cli.eventually(lambda: len(self.jobs()) == 4, "there are four links", LOST_SECONDS_MAX)
        told = self.cluster.wait(self.jobs()[-1], "FAILED")
        self.assertEqual(told.exit_code, cli.EXIT_NOT_RECOVERED)
        said = (self.folder / f"chain-{self.jobs()[-1]}.out").read_text()
        self.assertIn("the last 3 links led nowhere", said)
        self.assertEqual(len(self.jobs()), 4)


if __name__ == "__main__":
    nodes.main()
