"""Tests of the harness itself, that what other tests take for a cluster behaves like one: nodes that run
Open MPI's ranks, die and are cut off as machines do, and a Slurm that starts jobs, signals them and
starts them again."""

import os
import pathlib

import nodes
from nodes import HEAD, NodesTest, cli
from slurm_cluster import SlurmTest

STATUS_UNREACHABLE = 255


def lines_of(text):
    return sorted(text.split())


class Cluster(NodesTest):
    def test_each_node_has_its_own_name_address_and_processes(self):
        for number, name in enumerate(self.nodes.names, 1):
            self.assertEqual(self.nodes.run(name, ["hostname"]).stdout, f"{name}\n")
            addresses = self.nodes.run(name, ["ip", "-brief", "address", "show", nodes.DEVICE]).stdout
            self.assertIn(f" 10.77.0.{number}/24 ", addresses)
            first = self.nodes.run(name, ["cat", "/proc/1/cmdline"]).stdout
            self.assertIn(f"--serve\0{name}\0", first)

    def test_every_node_reaches_every_other(self):
        for name in [HEAD, *self.nodes.names]:
            for other in [HEAD, *self.nodes.names]:
                self.assertTrue(self.nodes.reaches(name, other), f"{name} to {other}")

    def test_mpirun_starts_ranks_on_two_and_three_nodes(self):
        for count in (2, 3):
            names = self.nodes.names[:count]
            hosts = ",".join(f"{name}:2" for name in names)
            ended = self.start_mpirun(
                2 * count, *self.nodes.mpirun_options(), "--map-by", "node", "-H", hosts,
                "hostname").end()
            self.assertEqual(ended.status, 0, ended)
            self.assertEqual(lines_of(ended.out.decode()), sorted(2 * names))

    def test_mpirun_on_a_node_starts_ranks_on_the_others(self):
        command = ["mpirun", *self.nodes.mpirun_options(), "-H", "n1:1,n2:1,n3:1", "hostname"]
        ended = self.nodes.run("n1", command)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertEqual(lines_of(ended.stdout), ["n1", "n2", "n3"])


class Agent(NodesTest):
    """The stand-in for ssh."""

    count = 2

    def call(self, *words, **settings):
        return self.start([self.nodes.agent, *words], **settings)

    def test_words_are_joined_for_a_shell(self):
        ended = self.call("-x", "-o", "BatchMode=yes", "root@n2", "echo  $((6 * 7));", "hostname >&2").end()
        self.assertEqual((ended.status, ended.out, ended.err), (0, b"42\n", b"n2\n"))

    def test_status_is_that_of_the_command(self):
        self.assertEqual(self.call("n1", "exit 3").end().status, 3)
        self.assertEqual(self.call("n1", "kill -9 $$").end().status, STATUS_UNREACHABLE)

    def test_input_is_passed_on(self):
        text = self.write("text", os.urandom(1 << 20))
        with open(text, "rb") as source:
            ended = self.call("n1", "cat", stdin=source).end()
        self.assertEqual((ended.status, ended.out == text.read_bytes()), (0, True), ended)

    def test_no_orphan_stays_a_zombie(self):
        self.assertEqual(self.call("n1", "(sh -c 'exit 0' & exec sleep 0.1) & exit 0").end().status, 0)
        cli.eventually(lambda: len(self.nodes.processes("n1")) == 1, "only process 1 is left")


class Loss(NodesTest):
    count = 2

    def start_sleep(self, name):
        """A caller that is connected to a node, where its command runs."""
        caller = self.start([self.nodes.agent, name, "echo on $(hostname); sleep 600"])
        cli.eventually(lambda: b"on " in caller.ended().out, "the command runs")
        self.assertGreater(len(self.nodes.processes(name)), 2)
        return caller

    def test_killed_node_loses_all_processes_and_connections(self):
        caller = self.start_sleep("n2")
        pids = self.nodes.processes("n2")

        self.nodes.kill("n2")

        self.assertFalse([pid for pid in pids if pathlib.Path(f"/proc/{pid}").exists()])
        self.assertEqual(caller.end(5).status, STATUS_UNREACHABLE)
        self.assertEqual(self.start([self.nodes.agent, "n2", "true"]).end(5).status, STATUS_UNREACHABLE)
        self.assertTrue(self.nodes.reaches("n1", "n2"), "its kernel answers")

    def test_killed_node_comes_back_with_nothing_running(self):
        caller = self.start_sleep("n2")
        self.nodes.kill("n2")
        caller.end(5)
        self.nodes.revive("n2")
        self.assertEqual(len(self.nodes.processes("n2")), 1)
        self.assertEqual(self.start([self.nodes.agent, "n2", "hostname"]).end().out, b"n2\n")

    def test_cut_node_is_silent_and_goes_on_when_healed(self):
        caller = self.start([self.nodes.agent, "n2", "read line; echo $line"], stdin=-1)
        cli.eventually(lambda: len(self.nodes.processes("n2")) > 2, "the command runs")

        self.nodes.cut("n2")

        self.assertFalse(self.nodes.reaches("n1", "n2"))
        self.assertFalse(self.nodes.reaches("n2", HEAD))
        self.assertTrue(self.nodes.reaches("n1", HEAD))
        caller.popen.stdin.write(b"said meanwhile\n")
        caller.popen.stdin.close()
        self.assertIsNone(caller.popen.poll())
        self.assertEqual(self.start([self.nodes.agent, "n2", "true"]).end(30).status, STATUS_UNREACHABLE)
        self.nodes.heal("n2")
        self.assertTrue(self.nodes.reaches("n1", "n2"))
        self.assertEqual((caller.end(30).status, caller.ended().out), (0, b"said meanwhile\n"))

    def test_lost_node_tells_nobody(self):
        caller = self.start_sleep("n2")
        self.nodes.lose("n2")
        self.assertEqual(self.nodes.processes("n2"), [])
        self.assertFalse(self.nodes.reaches(HEAD, "n2"))
        self.assertIsNone(caller.popen.poll())
        caller.popen.kill()
        caller.end()

    def test_mpirun_ends_when_a_node_is_killed(self):
        running = self.start_mpirun(
            2, *self.nodes.mpirun_options(), "--map-by", "node", "-H", "n1:1,n2:1",
            "sh", "-c", "echo up; sleep 600")
        cli.eventually(lambda: running.ended().out.count(b"up") == 2, "ranks run")
        self.nodes.kill("n2")
        running.end(30)  # Open MPI 5 says 0
        cli.eventually(lambda: len(self.nodes.processes("n1")) == 1, "the other rank has ended, too")


class Jobs(SlurmTest):
    def test_ranks_are_started_by_srun_and_by_mpirun_either_way(self):
        agent = " ".join(self.nodes.mpirun_options())
        for command in ("srun", "mpirun", f"mpirun {agent}"):
            job = self.cluster.sbatch(
                f"#!/bin/sh\n{command} hostname\n", "--nodes=3", "--ntasks-per-node=2")
            self.cluster.wait(job, "COMPLETED")
            self.assertEqual(lines_of(self.cluster.output(job)), sorted(2 * self.nodes.names), command)

    def test_what_users_are_told_of_a_job(self):
        script = self.write("fails.sh", "#!/bin/sh\necho $1 on $(hostname)\nexit 3\n")
        job = self.cluster.sbatch(script, "--nodelist=n2", words=["run"])
        told = self.cluster.wait(job, "FAILED")
        self.assertEqual((told.reason, told.restarts, told.nodes), ("NonZeroExitCode", 0, "n2"))
        self.assertEqual((told.exit_code, told.exit_signal), (3, 0))
        self.assertEqual(self.cluster.output(job), "run on n2\n")

    def test_arrays_and_dependencies(self):
        array = self.cluster.sbatch("#!/bin/sh\necho $SLURM_ARRAY_TASK_ID\n", "--array=0-2",
                                    f"--output={self.folder}/%a.out")
        after = self.cluster.sbatch("#!/bin/sh\ncat [0-2].out\n", f"--dependency=afterok:{array}")
        self.cluster.wait(after, "COMPLETED")
        self.assertEqual(self.cluster.output(after), "0\n1\n2\n")
        self.assertEqual(self.cluster.job(f"{array}_1").state, "COMPLETED")

    def test_job_goes_on_without_its_slurmd_and_can_be_cancelled(self):
        job = self.cluster.sbatch("#!/bin/sh\necho up; sleep 600\n", "--nodes=2")
        self.cluster.wait(job, "RUNNING")
        cli.eventually(lambda: "up" in self.cluster.output(job), "the script runs")
        self.cluster.kill_slurmd("n1")
        self.assertGreater(len(self.nodes.processes("n1")), 2)
        self.cluster.restart_slurmd("n1")
        self.cluster.wait_node("n1", "MIXED")
        self.assertEqual(self.cluster.job(job).state, "RUNNING")
        self.cluster.cancel(job)
        self.cluster.wait(job, "CANCELLED")


class Requeue(SlurmTest):
    def test_job_starts_again_on_other_nodes_when_its_node_dies(self):
        script = "#!/bin/sh\necho start ${SLURM_RESTART_COUNT:-0} on $(hostname)\nsleep 600\n"
        job = self.cluster.sbatch(script, "--nodes=2", "--requeue", "--nodelist=n1", "--nodes=2")
        self.cluster.wait(job, "RUNNING")
        cli.eventually(lambda: "start 0 on n1\n" == self.cluster.output(job), "the script runs")

        self.cluster.kill_node("n2")

        cli.eventually(lambda: "start 1 on n1\n" in self.cluster.output(job), "it runs again", 90)
        told = self.cluster.job(job)
        self.assertEqual((told.state, told.restarts, told.nodes), ("RUNNING", 1, "n[1,3]"))
        self.nodes.revive("n2")
        self.cluster.restart_slurmd("n2")
        self.cluster.wait_node("n2", "IDLE")


class TimeLimit(SlurmTest):
    count = 1

    def test_script_is_told_before_its_time_is_up(self):
        script = "#!/bin/bash\ntrap 'echo told' USR1\necho up\nwhile :; do sleep 600 & wait $!; done\n"
        job = self.cluster.sbatch(script, "--time=1", "--signal=B:USR1@50")
        cli.eventually(lambda: "told\n" in self.cluster.output(job), "the signal arrives", 75)
        self.assertEqual(self.cluster.job(job).state, "RUNNING")
        self.cluster.wait(job, "TIMEOUT", seconds=120)


if __name__ == "__main__":
    nodes.main()
