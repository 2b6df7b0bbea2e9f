"""A Slurm cluster on simulated nodes (nodes.py): munged and slurmctld on the head and a slurmd on each
node, without systemd, all below one folder. Jobs are submitted and asked for as a user does it. Its
times are short, so that a lost node is noticed and its job started again within seconds; what a test
is about it sets itself, by the names of slurm.conf:

    class Mine(SlurmTest):
        settings = {"KillWait": 5}

        def test_it(self):
            job = self.cluster.sbatch("#!/bin/sh\\nhostname", "--nodes=2", "--requeue")
            self.cluster.wait(job, "COMPLETED")
"""

import os
import pathlib
import re
import shutil
import signal
import time
import typing

from nodes import HEAD, NodesTest, cli

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo")
START_SECONDS_MAX = 60
COMMAND_SECONDS_MAX = 30
POLL_SECONDS = 0.2  # each time a program that asks slurmctld
WAIT_SECONDS_MAX = 60

# proctrack/linuxproc and the plugins of kind none need no control groups. A requeued job waits for as
# long as credentials live before it may start again: with Slurm's default that is two minutes, and so
# it is with less than 5 seconds.
SETTINGS = {
    "ClusterName": "regroup",
    "SlurmctldHost": HEAD,
    "SlurmUser": "root",
    "SlurmdUser": "root",
    "AuthType": "auth/munge",
    "CredType": "cred/munge",
    "AuthInfo": "socket={folder}/munge/socket,cred_expire=5",
    "StateSaveLocation": "{folder}/state",
    "SlurmdSpoolDir": "{folder}/spool.%n",
    "SlurmctldPidFile": "{folder}/slurmctld.pid",
    "SlurmdPidFile": "{folder}/slurmd.%n.pid",
    "SlurmctldLogFile": "{folder}/slurmctld.log",
    "SlurmdLogFile": "{folder}/slurmd.%n.log",
    "TmpFS": "{folder}/spool.%n",
    "ProctrackType": "proctrack/linuxproc",
    "TaskPlugin": "task/none",
    "JobAcctGatherType": "jobacct_gather/none",
    "AccountingStorageType": "accounting_storage/none",
    "MpiDefault": "none",
    "SelectType": "select/cons_tres",
    "SelectTypeParameters": "CR_CPU",
    "SlurmdParameters": "config_overrides",  # nodes may have more CPUs than the machine
    "SchedulerParameters": "bf_interval=1,sched_interval=5",
    "MailProg": "/bin/true",
    "PropagateResourceLimits": "NONE",
    "ReturnToService": 2,
    "SlurmdTimeout": 10,
    "MessageTimeout": 5,
    "KillWait": 5,
    "OverTimeLimit": 0,
    "MinJobAge": 3600,  # ended jobs can be asked for
}


class Job(typing.NamedTuple):
    """What Slurm says of a job; all its fields by their own names are in `fields`."""

    state: str  # RUNNING, ...
    reason: str
    restarts: int
    nodes: str  # as n[1-2]; (null) if it has none
    exit_code: int
    exit_signal: int
    fields: dict


class SlurmTest(NodesTest):
    """Tests with a cluster of their own, which their settings are for."""

    settings = {}
    gpus = 0  # of each node: Slurm hands them out, but there is nothing behind them

    def setUp(self):
        for tool in TOOLS:
            if shutil.which(tool) is None:
                self.skipTest(f"{tool} is not installed")
        super().setUp()
        self.cluster = SlurmCluster(self.nodes, self.folder, gpus=self.gpus, **self.settings)
        self.addCleanup(self.cluster.close)


class SlurmCluster:
    """All nodes have registered and are idle. close() ends the daemons; what jobs run ends with the nodes."""

    def __init__(self, nodes, folder, cpus=4, gpus=0, **settings):
        """cpus, gpus: of each node. Settings replace or add to those above."""
        self._nodes = nodes
        self._folder = pathlib.Path(folder) / "slurm"
        self.environment = nodes.environment | {"SLURM_CONF": str(self._folder / "slurm.conf")}
        self._daemons = {}  # by the name of its node, those of the head by their own
        self._scripts = 0
        self._configure(cpus, gpus, SETTINGS | settings)
        munge = self._folder / "munge"
        munge.mkdir(mode=0o711)
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o400)
        self._start("munged", HEAD, [
            "munged", "--foreground", "--force", f"--key-file={munge}/key",
            f"--socket={munge}/socket", f"--pid-file={munge}/pid", f"--log-file={munge}/log",
            f"--seed-file={munge}/seed"])
        cli.eventually((munge / "socket").exists, "munged has its socket", START_SECONDS_MAX)
        self._start("slurmctld", HEAD, ["slurmctld", "-D"])
        for name in nodes.names:
            self.restart_slurmd(name)
        for name in nodes.names:
            self.wait_node(name, "IDLE", seconds=START_SECONDS_MAX)

    def close(self):
        for name in list(self._daemons):
            self._kill(name)

    # ---- jobs ----

    def sbatch(self, script, *options, words=(), **settings):
        """Submits a script, given as a path or as its text, with words for it. Returns the job's id."""
        if not isinstance(script, pathlib.Path):
            self._scripts += 1
            path = self._folder / f"script-{self._scripts}"
            path.write_text(script)
            script = path
        return self.command(
            "sbatch", "--parsable", f"--output={self._folder}/job-%j.out",
            "--open-mode=append", *options, script, *words,
            **settings).split(";")[0].strip()

    def job(self, job_id):
        """Of one job, or of one of an array: 12_3."""
        record = self.command("scontrol", "--oneliner", "show", "job", job_id)
        fields = dict(re.findall(r"(\S+?)=(\S*)", record.splitlines()[0]))
        code, _, by_signal = fields["ExitCode"].partition(":")
        return Job(fields["JobState"], fields["Reason"], int(fields["Restarts"]), fields["NodeList"],
                   int(code), int(by_signal), fields)

    def wait(self, job_id, *states, seconds=WAIT_SECONDS_MAX):
        """Waits until the job is in one of the states, and returns it."""
        deadline = time.monotonic() + seconds
        while (told := self.job(job_id)).state not in states:
            assert time.monotonic() < deadline, (
                f"job {job_id} not {' or '.join(states)} within {seconds} s: {told}\n"
                f"it wrote: {self.output(job_id)}")
            time.sleep(POLL_SECONDS)
        return told

    def output(self, job_id):
        """What a job that was submitted without an --output of its own has written so far."""
        path = self._folder / f"job-{job_id}.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def cancel(self, job_id):
        self.command("scancel", job_id)

    def command(self, *words, **settings):
        """Runs one of Slurm's commands on the head, which must succeed. Returns what it printed."""
        ended = self._nodes.run(
            HEAD, words, **({"env": self.environment, "cwd": self._folder.parent,
                            "seconds_max": COMMAND_SECONDS_MAX} | settings))
        assert ended.returncode == 0, f"{words} ended with {ended.returncode}: {ended.stderr}"
        return ended.stdout

    # ---- nodes ----

    def node_state(self, name):
        """As IDLE, ALLOCATED, DOWN; flags follow, as in DOWN*+NOT_RESPONDING."""
        return re.search(r"\bState=(\S+)", self.command("scontrol", "show", "node", name)).group(1)

    def wait_node(self, name, state, seconds=WAIT_SECONDS_MAX):
        """Waits until the node is in the state, without regard to flags."""
        deadline = time.monotonic() + seconds
        while re.split(r"\W", told := self.node_state(name))[0] != state:
            assert time.monotonic() < deadline, f"node {name} not {state} within {seconds} s: {told}"
            time.sleep(POLL_SECONDS)

    def kill_node(self, name):
        """The daemon ends, and all that it runs. Whether other nodes are told is up to the node."""
        self._nodes.kill(name)

    def kill_slurmd(self, name):
        """Only the daemon ends: its jobs go on."""
        self._kill(name)

    def restart_slurmd(self, name):
        """After kill_slurmd, or when its node was killed and is back."""
        if name in self._daemons:
            self._daemons.pop(name).wait(START_SECONDS_MAX)
        (self._folder / f"spool.{name}").mkdir(exist_ok=True)
        self._start(name, name, ["slurmd", "-D", "-N", name])

    # ---- how it is made ----

    def _configure(self, cpus, gpus, settings):
        (self._folder / "state").mkdir(parents=True)
        lines = [f"{name}={value}".replace("{folder}", str(self._folder))
                 for name, value in settings.items()]
        names = ",".join(self._nodes.names)
        has = f"CPUs={cpus}"
        if gpus:
            has += f" Gres=gpu:{gpus}"
            lines.append("GresTypes=gpu")
            devices = [self._folder / f"gpu{number}" for number in range(gpus)]  # without one Slurm counts none
            for device in devices:
                device.touch()
            (self._folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in devices))
        lines += [f"NodeName={names} {has} State=UNKNOWN",
                  f"PartitionName=all Nodes={names} Default=YES MaxTime=INFINITE State=UP"]
        (self._folder / "slurm.conf").write_text("\n".join(lines) + "\n")

    def _start(self, daemon, node, command):
        with open(self._folder / f"{daemon}.err", "ab") as log:
            self._daemons[daemon] = self._nodes.start(
                node, command, env=self.environment, stdout=log, stderr=log)

    def _kill(self, daemon):
        """Ends the daemon without its jobs, which have sessions of their own."""
        process = self._daemons.pop(daemon)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(START_SECONDS_MAX)
