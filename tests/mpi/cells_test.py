"""Cells of an iterate stage on real ranks: whoever dies, the result has the bits of one rank's."""

import cli

RANKS = 4
END_SECONDS_MAX = 40


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


if __name__ == "__main__":
    cli.main()
