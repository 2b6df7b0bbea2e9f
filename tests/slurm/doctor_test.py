"""What doctor says of nodes that are named and of a Slurm, before a run is started there."""

import json
import subprocess

import nodes
from nodes import cli
from slurm_cluster import SlurmTest

DOCTOR_SECONDS_MAX = 60


class Doctor(nodes.NodesTest):
    def doctor(self, *words, status=cli.EXIT_DONE):
        """Its rows by name. The status is 1 if something that a run needs is missing."""
        ended = self.regroup("doctor", "--format", "json", *words, seconds_max=DOCTOR_SECONDS_MAX)
        self.assertEqual(ended.status, status, ended)
        report = json.loads(ended.out)
        self.assertEqual(report["ready"], status == cli.EXIT_DONE)
        self.assertEqual(self.listing().keys() - {"private"}, set(), "it left nothing")
        return {check["name"]: check for check in report["checks"]}

    def on_nodes(self, *words, **settings):
        return self.doctor("--hosts", "n1:2,n2:2,n3:2", "--remote-shell", self.nodes.agent, *words, **settings)

    def assert_row(self, row, status, *texts):
        self.assertEqual(row["status"], status, row)
        for text in texts:
            self.assertIn(text, row["found"] + row["advice"])


class OnNodes(Doctor):
    def test_nodes_that_are_fine(self):
        rows = self.on_nodes("--network", nodes.DEVICE)
        self.assert_row(rows["nodes"], "ok", "all 3 answer")
        self.assert_row(rows["shared directory"], "ok", str(self.folder))
        self.assert_row(rows["program on nodes"], "ok", cli.REGROUP)
        self.assert_row(rows["clocks"], "ok", " s (give or take ")
        self.assert_row(rows["network"], "ok", nodes.DEVICE)
        self.assertIn(nodes.SUBNET, self.on_nodes()["network"]["found"])

    def test_nodes_from_a_file(self):
        self.write("hosts", "n1 slots=2\nn3:2\n")
        ended = self.regroup(
            "doctor", "--hostfile", "hosts", "--remote-shell", self.nodes.agent, "--format", "json")
        rows = {check["name"]: check for check in json.loads(ended.out)["checks"]}
        self.assert_row(rows["nodes"], "ok", "all 2 answer")

    def test_a_killed_node_is_named_with_the_reason(self):
        self.nodes.kill("n2")
        rows = self.on_nodes(status=cli.EXIT_QUARANTINED)
        self.assert_row(rows["nodes"], "missing", "1 of 3", "n2: ", "Connection refused", "up")
        self.assert_row(rows["shared directory"], "ok", "all that answer")

    def test_a_silent_node_keeps_nobody_waiting(self):
        self.nodes.cut("n3")
        rows = self.on_nodes(status=cli.EXIT_QUARANTINED)
        self.assert_row(rows["nodes"], "missing", "1 of 3", "n3: ")

    def test_a_directory_of_this_node_alone_is_noticed(self):
        private = self.folder / "private"
        private.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", private], check=True)
        self.addCleanup(subprocess.run, ["umount", private], check=True)
        rows = self.on_nodes("--dir", private / "run", status=cli.EXIT_QUARANTINED)
        self.assert_row(rows["shared directory"], "missing", "n1, n2, n3", str(private), "--dir")
        self.assert_row(rows["directory"], "warning", "tmpfs")

    def test_a_network_that_no_node_has(self):
        rows = self.on_nodes("--network", "10.99.0.0/16", status=cli.EXIT_QUARANTINED)
        self.assert_row(rows["network"], "missing", "n1, n2, n3", "10.99.0.0/16")


class InSlurm(SlurmTest, Doctor):
    count = 2
    settings = {"KillWait": 3, "JobRequeue": 0, "KillOnBadExit": 1}

    def setUp(self):
        super().setUp()
        self.environment["SLURM_CONF"] = self.cluster.environment["SLURM_CONF"]

    def listing(self):
        return {path: held for path, held in super().listing().items() if not path.startswith("slurm")}

    def test_settings_that_hurt(self):
        rows = self.doctor()
        self.assert_row(rows["Slurm"], "ok", "outside an allocation")
        self.assert_row(rows["KillWait"], "warning", "3 s", "grace 20 s", "--signal=B:USR1@")
        self.assert_row(rows["JobRequeue"], "warning", "--requeue")
        self.assert_row(rows["KillOnBadExit"], "warning", "KillOnBadExit=0")
        self.assert_row(rows["SlurmdTimeout"], "ok", "10 s")
        self.assertEqual(self.doctor("--grace", 3)["KillWait"]["status"], "ok")
        self.assertNotIn("Slurm job", rows)

    def test_what_a_job_was_given(self):
        script = f"#!/bin/sh\nexec {cli.REGROUP} doctor --format json\n"
        job = self.cluster.sbatch(script, "--nodes=2", "--time=7")
        self.cluster.wait(job, "COMPLETED")
        rows = {check["name"]: check for check in json.loads(self.cluster.output(job))["checks"]}
        self.assert_row(rows["Slurm"], "ok", f"inside job {job}")
        self.assert_row(rows["Slurm job"], "warning", "2 nodes", "s left", "--requeue", "--no-kill")
        self.assert_row(rows["nodes"], "ok", "all 2 answer to srun")
        self.assert_row(rows["shared directory"], "ok", str(self.folder))


if __name__ == "__main__":
    nodes.main()
