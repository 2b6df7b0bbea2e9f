"""Nodes of a cluster on this machine, for tests that lose them. A node has a network, a process table
and a name of its own; the file system and the clock are shared. They can be killed, cut off, healed
and brought back. A test that uses them runs in namespaces of its own (see main), with which all of it
ends, however that happens: no process, mount or network outlives it. The test is on a node of the
same network, called head, that can neither be killed nor cut off. (SIGTERM ends such a test only if it
goes to its process group: unshare, which waits for it, lets no SIGTERM through.)

    class Mine(NodesTest):
        def test_it(self):
            self.start_mpirun(4, *self.nodes.mpirun_options(), "-H", "n1:2,n2:2", "hostname")
            self.nodes.kill("n2")

    if __name__ == "__main__":
        nodes.main()
"""

import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "mpi"))
import cli

REMOTE_SHELL = pathlib.Path(__file__).resolve().with_name("remote_shell.py")
TOOLS = ("unshare", "nsenter", "mount", "umount", "ip", "ping", "mpirun")
HEAD = "head"
DEVICE = "eth0"  # every node's only one beside loopback, the head's included
SUBNET = "10.77.0.0/24"
NODES_MAX = 99
START_SECONDS_MAX = 30
START_TIMEOUT_SECONDS = 50  # of a run: very rarely one hangs, of the MPI here, on a busy machine
RUN_SECONDS_MAX = 60

INSIDE = "NODES_TEST_INSIDE"  # in the environment: the namespaces are there
NAMESPACES = ["unshare", "--net", "--uts", "--ipc", "--pid", "--mount", "--fork",
              "--kill-child=KILL", "--mount-proc"]
# /run and /dev/shm are where daemons and ranks leave what nobody else removes.
ENTER = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /dev/shm && ip link set lo up"
PROBE = f"""{ENTER} && ip netns add a && ip -n a link add bridge0 type bridge && ip link add type veth &&
    unshare --mount mount -t sysfs sysfs /sys"""


def main(run=cli.main):
    """Runs the module's tests, or a function, in namespaces that end with this process. Its status is
    theirs, 77 if there can be no nodes."""
    if os.environ.pop(INSIDE, None) is None:
        reason = why_not()
        if reason:
            print(f"skipped: {reason}")
            sys.exit(cli.SKIPPED_STATUS)
        os.environ[INSIDE] = "1"
        sys.stdout.flush()
        os.execvp("unshare", [*NAMESPACES, sys.executable, *sys.argv])
    subprocess.run(["sh", "-c", ENTER], check=True)
    socket.sethostname(HEAD)
    # Process 1 gets every orphan of the head and does no more than to reap them.
    tests = os.fork()
    if tests == 0:
        run()
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(tests, signal.SIGTERM))
    while True:
        pid, status = os.wait()
        if pid == tests:
            sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


def why_not(tools=TOOLS):
    """Why there can be no nodes here; None if there can."""
    if os.geteuid() != 0:
        return "making nodes takes root"
    for tool in tools:
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    probe = subprocess.run(
        [*NAMESPACES, "sh", "-c", PROBE], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        return f"this machine allows no nodes: {probe.stderr.strip()}"
    return None


class NodesTest(cli.CliTest):
    """Tests with nodes of their own."""

    count = 3

    def setUp(self):
        super().setUp()
        names = ("OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT")
        self.environment |= {name + end: "1" for name in names for end in ("", "_CONFIRM")}
        self.environment["REGROUP_START_TIMEOUT"] = str(START_TIMEOUT_SECONDS)
        self.nodes = Nodes(self.count, self._root, self.environment)
        self.addCleanup(self.nodes.close)


class Nodes:
    """Nodes n1 to nCOUNT, all running. One object at a time; close() ends and removes them."""

    def __init__(self, count, folder, environment):
        """What runs on the nodes has the given environment; files that they need go below folder."""
        if not 0 < count <= NODES_MAX:
            raise ValueError(f"there can be 1 to {NODES_MAX} nodes, not {count}")
        self.names = [f"n{number}" for number in range(1, count + 1)]
        self.environment = environment
        self._folder = pathlib.Path(folder)
        self._addresses = {name: f"10.77.0.{number}" for number, name in enumerate(self.names, 1)}
        self._addresses[HEAD] = "10.77.0.100"
        self._first = {}  # of each running node: what waits for its process 1
        self._name_hosts(self._folder / "hosts")
        self._connect()
        for name in self.names:
            self.revive(name)

    def close(self):
        for name in list(self._first):
            self.kill(name)
        ip(f"link del {DEVICE}", *(f"netns del {name}" for name in [*self.names, "switch"]))
        subprocess.run(["umount", "/etc/hosts"], check=True)

    # ---- what happens to nodes ----

    def kill(self, name):
        """Ends all processes of a node at once, and returns when none is left. Its kernel lives: peers
        see their connections closed, and new ones refused."""
        process = self._first.pop(name)
        os.kill(self._process_1(process), signal.SIGKILL)
        process.wait(START_SECONDS_MAX)

    def cut(self, name):
        """Nothing reaches the node or leaves it, and nobody is told; its processes go on. An mpirun of
        Open MPI 4.1 with ranks there then ends by SIGKILL only, and leaves its agent, which waits."""
        ip(f"-n switch link set {name} down")

    def heal(self, name):
        ip(f"-n switch link set {name} up")

    def lose(self, name):
        """As if its power failed: its processes end, and peers hear no more of it."""
        self.cut(name)
        self.kill(name)

    def revive(self, name):
        """Starts a node that was killed, with nothing running on it. It stays cut off if it was."""
        assert name not in self._first, f"{name} is running"
        command = [
            "nsenter", f"--net=/run/netns/{name}", *(word for word in NAMESPACES if word != "--net"),
            sys.executable, str(REMOTE_SHELL), "--serve", name]
        with open(self._folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=log, start_new_session=True)
        self._first[name] = process
        with process.stdout as said:
            readable, _, _ = select.select([said], [], [], START_SECONDS_MAX)
            assert readable and said.readline() == b"ready\n", f"node {name} does not start"

    def is_running(self, name):
        return name in self._first

    # ---- what runs on nodes ----

    @property
    def agent(self):
        """The path of a program that does what ssh does, from the head or a node to a node."""
        return str(REMOTE_SHELL)

    def mpirun_options(self):
        """With these mpirun starts ranks on the nodes named by its -H, and between nodes they use TCP."""
        if cli.open_mpi_major() >= 5:
            return [
                "--prtemca", "plm", "ssh", "--prtemca", "plm_ssh_agent", self.agent,
                "--prtemca", "prte_if_include", SUBNET, "--mca", "btl_tcp_if_include", SUBNET]
        return [
            "--mca", "plm", "rsh", "--mca", "plm_rsh_agent", self.agent,
            "--mca", "oob_tcp_if_include", SUBNET, "--mca", "pml", "ucx", "--mca", "pml_ucx_tls",
            "any", "--mca", "pml_ucx_devices", "any", "-x", "UCX_TLS=tcp,self,posix",
            "-x", f"UCX_NET_DEVICES={DEVICE}"]

    def inside(self, name, command):
        """The command that runs the given one on a node (or the head), whatever its network does."""
        if name == HEAD:
            return list(command)
        first = self._process_1(self._first[name])
        return ["nsenter", f"--target={first}", "--net", "--uts", "--ipc", "--pid", "--mount",
                "--root", "--wd", *command]

    def start(self, name, command, **settings):
        """Starts a command on a node. Keywords are those of Popen."""
        settings = {"env": self.environment, "stdin": subprocess.DEVNULL} | settings
        command = self.inside(name, [str(word) for word in command])
        return subprocess.Popen(command, start_new_session=True, **settings)

    def run(self, name, command, seconds_max=RUN_SECONDS_MAX, **settings):
        """Runs a command on a node to its end. Keywords are those of subprocess.run."""
        settings = {"env": self.environment, "stdin": subprocess.DEVNULL, "capture_output": True,
                    "text": True, "check": False} | settings
        command = self.inside(name, [str(word) for word in command])
        return subprocess.run(command, timeout=seconds_max, **settings)

    def reaches(self, name, other):
        """Whether a packet from one node comes to another and its answer back."""
        return self.run(name, ["ping", "-n", "-c", 1, "-W", 1, other]).returncode == 0

    def processes(self, name):
        """The ids, as the head sees them, of all processes of a node."""
        if name not in self._first:
            return []
        own = process_namespace(self._process_1(self._first[name]))
        return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and process_namespace(pid) == own]

    # ---- how they are made ----

    @staticmethod
    def _process_1(waiting):
        """The process id, as the head sees it, of a node's process 1."""
        path = pathlib.Path(f"/proc/{waiting.pid}/task/{waiting.pid}/children")
        return int(path.read_text().split()[0])

    def _name_hosts(self, path):
        """Makes the nodes known by their names, here and on them, and leaves the machine's file."""
        lines = [f"{address} {name}\n" for name, address in self._addresses.items()]
        path.write_text("127.0.0.1 localhost\n" + "".join(lines))
        subprocess.run(["mount", "--bind", path, "/etc/hosts"], check=True)

    def _connect(self):
        """One switch, in a network of its own, and a cable from it to each node."""
        lines = ["netns add switch", "-n switch link add switch type bridge",
                 "-n switch link set switch up"]
        for name, address in self._addresses.items():
            on_node = "" if name == HEAD else f"-n {name} "
            where = os.getpid() if name == HEAD else name
            lines += [] if name == HEAD else [f"netns add {name}", f"-n {name} link set lo up"]
            lines += [
                f"-n switch link add {name} type veth peer name {DEVICE} netns {where}",
                f"-n switch link set {name} master switch up",
                f"{on_node}addr add {address}/24 dev {DEVICE}",
                f"{on_node}link set {DEVICE} up"]
        ip(*lines)


def ip(*lines):
    """Runs `ip LINE` for each."""
    for line in lines:
        done = subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"ip {line}: {done.stderr}"


def process_namespace(pid):
    """Which process table a process lives in; None if it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None
