"""Cells of an iterate stage on real ranks: whoever dies, the result has the bits of one rank's."""

import json
import os
import random
import signal

import cli

RANKS = 4
CHAIN = 24_000
END_SECONDS_MAX = 40
# Of each job; a long series is for those who ask for it.
KILLS = int(os.environ.get("CELLS_TEST_KILLS", "2"))
SEED = int(os.environ.get("CELLS_TEST_SEED", "1"))
RUN_SECONDS = 8
STEPS_OF_CG = 700  # about; it does not know


class Cells(cli.CliTest):
    def ring(self, *more, ranks, directory):
        words = ["run", "ring", "--cells", 8, "--steps", 200, "--milliseconds", 2, "--dir", directory, "--progress",
                 "none", "--partner-copies", 0.1, *more]
        return self.regroup(*words, "-n", ranks, program=cli.FLAKY_JOB, seconds_max=END_SECONDS_MAX)

    def result_of(self, directory):
        return (self.folder / directory / "result.h5").read_bytes()

    def test_a_death_changes_no_bit(self):
        plain = self.ring(ranks=1, directory="plain")
        self.assertEqual(plain.status, cli.EXIT_DONE, plain)
        for number, fault in enumerate(("kill:rank=2,at=400ms", "kill:coordinator,at=400ms")):
            with self.subTest(fault=fault):
                directory = f"run-{number}"
                ended = self.ring("--inject", fault, ranks=RANKS, directory=directory)
                self.assertEqual(ended.status, cli.EXIT_DONE, ended)
                status = self.status_of(directory)
                self.assertEqual(status["failures_survived"], 1, ended)
                self.assertGreater(status["restored_from"]["partner"], 0, ended)
                self.assertEqual((status["step"], status["steps"]), (200, 200))
                self.assertEqual(self.result_of(directory), self.result_of("plain"))


def laplacian(points, symmetric=True):
    """That of a square of so many points along a side, as a Matrix Market file."""
    lines = []
    for row in range(points * points):
        lines.append(f"{row + 1} {row + 1} 4")
        for other in (row - points, row - 1 if row % points else -1):
            if other >= 0:
                lines.append(f"{row + 1} {other + 1} -1")
                if not symmetric:
                    lines.append(f"{other + 1} {row + 1} -1")
    kind = "symmetric" if symmetric else "general"
    size = f"{points * points} {points * points} {len(lines)}"
    return "\n".join([f"%%MatrixMarket matrix coordinate real {kind}", "% a square", size, *lines, ""])


class ConjugateGradients(cli.CliTest):
    """cg on real ranks, which read the matrix and compute its totals in many orders."""

    def cg(self, *more, ranks, directory):
        words = ["run", "cg", *more, "--dir", directory, "--progress", "none", "-n", ranks]
        return self.start([cli.REGROUP, *words])

    def result_of(self, directory):
        return (self.folder / directory / "result.h5").read_bytes()

    def test_file_form_blocks_and_ranks_change_no_bit(self):
        self.write("lower.mtx", laplacian(40))
        self.write("whole.mtx", laplacian(40, symmetric=False).replace("\n", "\r\n"))
        number = 0
        for file in ("lower.mtx", "whole.mtx"):
            for ranks, blocks in ((1, 1), (3, 7), (4, 16)):
                with self.subTest(file=file, ranks=ranks, blocks=blocks):
                    directory = f"run-{number}"
                    ended = self.cg(file, "--blocks", blocks, ranks=ranks, directory=directory).end()
                    self.assertEqual(ended.status, cli.EXIT_DONE, ended)
                    self.assertEqual(self.result_of(directory), self.result_of("run-0"))
                    number += 1
        ended = self.cg("--laplacian", "40x40", ranks=2, directory="grid").end()
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertEqual(self.result_of("grid"), self.result_of("run-0"))

    def plain_chain(self):
        """A job that takes half as many iterations as its matrix has rows, once it has run undisturbed."""
        chain = [f"{row} {column} {value}" for row in range(1, CHAIN + 1)
                 for column, value in ((row, 2), (row - 1, -1)) if column > 0]
        header = "%%MatrixMarket matrix coordinate integer symmetric"
        self.write("chain.mtx", "\n".join([header, f"{CHAIN} {CHAIN} {len(chain)}", *chain, ""]))
        job = ["chain.mtx", "--partner-copies", 0.1]
        ended = self.cg(*job, "--blocks", 1, ranks=1, directory="plain").end()
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        return job

    def test_a_death_changes_no_bit(self):
        job = self.plain_chain()
        for number, fault in enumerate(("kill:rank=2,at=500ms", "kill:coordinator,at=500ms")):
            with self.subTest(fault=fault):
                directory = f"run-{number}"
                ended = self.cg(*job, "--blocks", 9, "--inject", fault, ranks=RANKS, directory=directory).end()
                self.assertEqual(ended.status, cli.EXIT_DONE, ended)
                status = self.status_of(directory)
                self.assertEqual(status["failures_survived"], 1, ended)
                self.assertGreater(status["restored_from"]["partner"], 0, ended)
                self.assertEqual(self.result_of(directory), self.result_of("plain"))

    def test_other_ranks_go_on_from_a_checkpoint_to_the_same_bits(self):
        running = self.cg(*self.plain_chain(), "--blocks", 9, ranks=RANKS, directory="run")
        begun = lambda: ((self.status_of("run") or {}).get("step") or 0) > 20 and self.status_of("run")["state"] == "running"
        cli.eventually(begun, "a run under way", END_SECONDS_MAX)
        os.kill(running.popen.pid, signal.SIGTERM)
        ended = running.end()
        self.assertEqual(ended.status, cli.EXIT_RESUMABLE, ended)
        ended = self.regroup("resume", "run", "-n", 2, "--progress", "none")
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertEqual(self.result_of("run"), self.result_of("plain"))

    def test_an_indefinite_matrix_ends_the_run(self):
        self.write("matrix.mtx", "%%MatrixMarket matrix coordinate real symmetric\n2 2 3\n1 1 1\n2 1 3\n2 2 1\n")
        self.write("rhs.mtx", "%%MatrixMarket matrix array real general\n2 1\n1\n-1\n")
        job = ["matrix.mtx", "--rhs", "rhs.mtx", "--blocks", 2]
        ended = self.cg(*job, ranks=2, directory="run").end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_NOT_RECOVERED, ended)
        self.assertIn("not positive definite", ended.own_lines()[-1])
        self.assertFalse((self.folder / "run" / "result.h5").exists())


class MatrixProduct(cli.CliTest):
    """matmul on real ranks: panels travel along rows and columns of blocks."""

    JOB = ("run", "matmul", "--rows", 1500, "--columns", 1400, "--inner", 1600, "--blocks", 12, "--panel", 8,
           "--progress", "none", "--partner-copies", 0.1)

    def test_a_death_changes_no_bit(self):
        plain = self.regroup(*self.JOB, "--dir", "plain", "--format", "json")
        self.assertEqual(plain.status, cli.EXIT_DONE, plain)
        result = json.loads(plain.out)["result"]
        self.assertLess(result["residual"], result["residual_bound"])
        meant = (self.folder / "plain" / "result.h5").read_bytes()
        for number, fault in enumerate(("kill:rank=2,at=300ms", "kill:coordinator,at=300ms")):
            with self.subTest(fault=fault):
                directory = f"run-{number}"
                ended = self.regroup(*self.JOB, "--inject", fault, "-n", RANKS, "--dir", directory)
                self.assertEqual(ended.status, cli.EXIT_DONE, ended)
                self.assertEqual(self.status_of(directory)["failures_survived"], 1, ended)
                self.assertEqual((self.folder / directory / "result.h5").read_bytes(), meant)


class Bodies(cli.CliTest):
    """nbody on real ranks: copies of blocks go round, and are lost with the rank that has them."""

    JOB = ("run", "nbody", "--bodies", 600, "--steps", 6000, "--blocks", 6, "--progress", "none", "--partner-copies", 0.1)

    def test_a_death_changes_no_bit(self):
        plain = self.regroup(*self.JOB, "--dir", "plain")
        self.assertEqual(plain.status, cli.EXIT_DONE, plain)
        meant = (self.folder / "plain" / "result.h5").read_bytes()
        for number, fault in enumerate(("kill:rank=2,at=500ms", "kill:coordinator,at=500ms")):
            with self.subTest(fault=fault):
                directory = f"run-{number}"
                ended = self.regroup(*self.JOB, "--inject", fault, "-n", RANKS, "--dir", directory)
                self.assertEqual(ended.status, cli.EXIT_DONE, ended)
                status = self.status_of(directory)
                self.assertEqual(status["failures_survived"], 1, ended)
                self.assertGreater(status["restored_from"]["partner"], 0, ended)
                self.assertEqual((status["step"], status["steps"]), (6000, 6000))
                self.assertEqual((self.folder / directory / "result.h5").read_bytes(), meant)


class Killed(cli.CliTest):
    """Any rank is killed, once a run, at a random step. Ranks are slowed down, so that a run lasts as long on
    any machine, and is not over when its rank is to be killed."""

    JOBS = {
        "heat": ("--grid", "400x300", "--steps", 20_000, "--blocks", 12),
        "cg": ("--laplacian", "400x400", "--blocks", 12),
        "nbody": ("--bodies", 600, "--steps", 6000, "--blocks", 6),
    }

    def job(self, name, directory, ranks, *more):
        return ["run", name, *self.JOBS[name], "--dir", directory, "-n", ranks, "--partner-copies", 0.1,
                "--progress", "none", *more]

    def kill_at_a_step(self, running, directory, victim, share):
        """Once so large a share of the steps is done, or of those that are known to be few."""
        def has_come_so_far():
            self.assertIsNone(running.popen.poll(), "the run has ended already")
            status = self.status_of(directory)
            if not status or status["state"] != "running" or victim not in self.rank_pids():
                return False
            return (status["step"] or 0) >= share * (status["steps"] or STEPS_OF_CG)

        cli.eventually(has_come_so_far, "a run under way", END_SECONDS_MAX)
        os.kill(self.rank_pids()[victim], signal.SIGKILL)

    def test_no_bit_changes(self):
        chance = random.Random(SEED)
        for name in self.JOBS:
            plain = self.regroup(*self.job(name, f"{name}-plain", 2))
            self.assertEqual(plain.status, cli.EXIT_DONE, plain)
            meant = (self.folder / f"{name}-plain" / "result.h5").read_bytes()
            factor = max(1, RUN_SECONDS / self.status_of(f"{name}-plain")["seconds"])
            slowed = ",".join(f"slow:rank={rank},factor={factor:.1f}" for rank in range(RANKS))
            came_back, survived = {}, 0
            for number in range(KILLS):
                victim, share = chance.randrange(RANKS), chance.uniform(0.05, 0.6)
                with self.subTest(job=name, number=number, victim=victim, share=share):
                    directory = f"{name}-{number}"
                    running = self.start([cli.REGROUP, *self.job(name, directory, RANKS, "--inject", slowed)])
                    self.kill_at_a_step(running, directory, victim, share)
                    ended = running.end()
                    self.assertEqual(ended.status, cli.EXIT_DONE, ended)
                    status = self.status_of(directory)
                    self.assertEqual(status["failures_survived"], 1, ended)
                    self.assertEqual((self.folder / directory / "result.h5").read_bytes(), meant)
                    survived += 1
                    for whence, cells in status["restored_from"].items():
                        came_back[whence] = came_back.get(whence, 0) + cells
            print(f"{name}: {survived} of {KILLS} kills left the result of the undisturbed run; cells came from {came_back}")


if __name__ == "__main__":
    cli.main()
