"""What tests on simulated nodes leave behind: nothing, however they end. This one looks from outside of
their namespaces; inside runs the same file, with argument `hold`: a cluster with a job on its nodes."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

import nodes
from nodes import cli
from slurm_cluster import TOOLS, SlurmCluster

NAMESPACES = ("net", "mnt", "pid", "uts", "ipc")


def hold():
    """Says that all is under way, and ends in good order when there is no more input."""
    folder = pathlib.Path(os.environ[cli.MARK])
    environment = dict(os.environ)
    its_nodes = nodes.Nodes(2, folder, environment)
    cluster = SlurmCluster(its_nodes, folder)
    job = cluster.sbatch("#!/bin/sh\nsrun sh -c 'echo up; exec sleep 600'\n", "--nodes=2")
    cli.eventually(lambda: cluster.output(job) == "up\nup\n", "the job runs on both nodes")
    print("held", flush=True)
    sys.stdin.read()
    cluster.close()
    its_nodes.close()


def namespaces_of(pid):
    try:
        return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in NAMESPACES}
    except OSError:
        return set()


def start_of(pid):
    """When a process started, which with its id names it for ever; None if it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


class Leftovers(cli.CliTest):
    def setUp(self):
        reason = nodes.why_not([*nodes.TOOLS, *TOOLS])
        if reason:
            self.skipTest(reason)
        super().setUp()
        self.held = self.start([sys.executable, __file__, "hold"], stdin=subprocess.PIPE,
                               env={"REGROUP_PROGRAM": cli.REGROUP})
        self.addCleanup(self.held.popen.stdin.close)

        def is_held():
            self.assertIsNone(self.held.popen.poll(), self.held.ended())
            return self.held.ended().out == b"held\n"

        cli.eventually(is_held, "the cluster runs a job", 90)
        running = self.processes()
        self.assertTrue(any("sleep 600" in command for command in running.values()), running)
        own = namespaces_of(os.getpid())
        theirs = set().union(*map(namespaces_of, running)) - own
        networks = [name for name in theirs if name.startswith("net:")]
        self.assertEqual(len(networks), 3, "one network for the head and one for each node")
        # Whoever lives there, whatever its environment. A namespace ends with the last of them.
        self.inhabitants = {
            pid: start_of(pid) for pid in os.listdir("/proc")
            if pid.isdigit() and namespaces_of(pid) & theirs}

    def check_nothing_is_left(self):
        cli.eventually(lambda: not self.processes(), "all processes have ended", 10)
        cli.eventually(
            lambda: not [pid for pid, start in self.inhabitants.items() if start_of(pid) == start],
            "nobody is left in the namespaces", 10)
        devices = {name for _, name in socket.if_nameindex()}
        self.assertEqual(devices & {"switch", nodes.HEAD, "n1", "n2"}, set())
        mounts = pathlib.Path("/proc/self/mounts").read_text()
        self.assertNotIn(str(self.folder), mounts)
        self.assertNotIn("/run/netns/n1", mounts)

    def test_nothing_is_left_when_it_ends_in_good_order(self):
        self.held.popen.stdin.close()
        ended = self.held.end(30)
        self.assertEqual(ended.status, 0, ended)
        self.check_nothing_is_left()

    def test_nothing_is_left_when_it_is_killed(self):
        self.held.popen.kill()  # this process only, as by a test runner whose patience is at an end
        self.assertEqual(self.held.end(10).status, -signal.SIGKILL)
        self.check_nothing_is_left()

    def test_nothing_is_left_when_it_is_interrupted(self):
        self.end_group_by(signal.SIGINT)

    def test_nothing_is_left_when_it_is_terminated(self):
        self.end_group_by(signal.SIGTERM)

    def end_group_by(self, number):
        os.killpg(self.held.popen.pid, number)
        self.assertNotEqual(self.held.end(30).status, 0)
        self.check_nothing_is_left()


if __name__ == "__main__":
    if sys.argv[1:] == ["hold"]:
        nodes.main(hold)
    else:
        cli.main()
