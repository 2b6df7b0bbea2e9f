#!/usr/bin/env python3
"""What ssh and sshd are to a cluster, for the nodes that nodes.py makes: a program to start commands
on another node, and the first process of each node, which runs them. It behaves as ssh does where a
launcher can tell: words are joined and given to a shell, standard streams are passed on, the exit
status is the command's, or 255 if the node cannot be reached, the connection breaks, or the command
dies by a signal. A node that is cut off without a word leaves the caller waiting, as ssh without
keepalives does. Nothing is encrypted or asked for: these networks have no outside.

    remote_shell.py [ssh's options] [USER@]HOST COMMAND...    e.g. mpirun --mca plm_rsh_agent THIS
    remote_shell.py --serve NAME                              as process 1 of the node of that name
"""

import getopt
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

PORT = 22
CONNECT_SECONDS_MAX = 10
STATUS_FAILED = 255  # ssh's own, for all that is not the command's
CHUNK_BYTES = 1 << 16
SSH_OPTIONS = "46AaCfGgKkMNnqsTtVvXxYyB:b:c:D:E:e:F:I:i:J:L:l:m:O:o:p:Q:R:S:W:w:"

# A connection carries frames both ways: a kind, a length and so many bytes. Empty input is its end.
FRAME = struct.Struct("!cI")
COMMAND, INPUT, OUTPUT, ERROR, STATUS = b"c", b"i", b"o", b"e", b"s"


class Connection:
    """Frames over a socket. Any thread may send, one may receive."""

    def __init__(self, connected):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket, self._sending = connected, threading.Lock()

    def send(self, kind, data):
        with self._sending:
            self._socket.sendall(FRAME.pack(kind, len(data)) + data)

    def receive(self):
        """The next frame's kind and data; raises ConnectionError if there will be none."""
        kind, size = FRAME.unpack(self._exactly(FRAME.size))
        return kind, self._exactly(size)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise ConnectionError("the connection is closed")
            data += more
        return data

    def pass_on(self, kind, descriptor):
        """Sends all that can be read from a file, and its end if it is input."""
        try:
            while data := os.read(descriptor, CHUNK_BYTES):
                self.send(kind, data)
            if kind == INPUT:
                self.send(kind, b"")
        except OSError:
            pass  # nobody is there to read it; who receives sees that, too


def write_all(descriptor, data):
    while data:
        data = data[os.write(descriptor, data) :]


# ---- the caller ----


def call(host, command, with_input):
    try:
        connected = socket.create_connection((host, PORT), CONNECT_SECONDS_MAX)
        connected.settimeout(None)
        connection = Connection(connected)
        connection.send(COMMAND, command.encode())
        source = 0 if with_input else os.open(os.devnull, os.O_RDONLY)
        threading.Thread(target=connection.pass_on, args=(INPUT, source), daemon=True).start()
        while True:
            kind, data = connection.receive()
            if kind == STATUS:
                return int(data)
            write_all(1 if kind == OUTPUT else 2, data)
    except OSError as error:
        print(f"remote_shell: {host}: {error}", file=sys.stderr, flush=True)
        return STATUS_FAILED


# ---- the node ----


def serve(name):
    """Gives the node its name and mounts, says "ready", and runs commands until it is killed."""
    socket.sethostname(name)
    # Its own view of devices, under which the system's control groups stay where programs look.
    mounts = """
        kept=$(mktemp -d) && mount --rbind /sys/fs/cgroup "$kept" && mount -t sysfs sysfs /sys &&
        mount --move "$kept" /sys/fs/cgroup && rmdir "$kept" && mount -t tmpfs tmpfs /dev/shm"""
    subprocess.run(["sh", "-c", mounts], check=True)
    listening = socket.create_server(("", PORT), backlog=128)
    print("ready", flush=True)
    write_only = os.open(os.devnull, os.O_WRONLY)
    os.dup2(write_only, 1)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans come to process 1: none stays a zombie
    while True:
        connected, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            run_session(Connection(connected))
            os._exit(0)
        connected.close()


def run_session(connection):
    try:
        _, command = connection.receive()
    except ConnectionError:
        return
    process = subprocess.Popen(
        ["sh", "-c", command], cwd="/", start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    threading.Thread(target=feed, args=(connection, process.stdin), daemon=True).start()
    outputs = [
        threading.Thread(target=connection.pass_on, args=(kind, stream.fileno()))
        for kind, stream in ((OUTPUT, process.stdout), (ERROR, process.stderr))]
    for output in outputs:
        output.start()
    status = process.wait()
    for output in outputs:
        output.join()
    try:
        connection.send(STATUS, str(status if status >= 0 else STATUS_FAILED).encode())
    except OSError:
        pass  # the caller has gone


def feed(connection, stream):
    """Input for the command, until it ends, or the command wants no more, or the caller is gone."""
    try:
        while True:
            _, data = connection.receive()
            if not data:
                break
            write_all(stream.fileno(), data)
    except OSError:
        pass
    stream.close()


def main(words):
    if words[:1] == ["--serve"]:
        serve(words[1])
    options, rest = getopt.getopt(words, SSH_OPTIONS)
    if len(rest) < 2:
        sys.exit("usage: remote_shell.py [options] [USER@]HOST COMMAND...")
    host, *command = rest
    status = call(host.rpartition("@")[2], " ".join(command), ("-n", "") not in options)
    os._exit(status)  # a thread may be reading from a terminal


if __name__ == "__main__":
    main(sys.argv[1:])
