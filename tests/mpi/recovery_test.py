"""Which recovery backend a run has, as chosen by --recovery, REGROUP_RECOVERY and how mpirun was started, and
what doctor says of it. What an Open MPI without ULFM cannot do is refused in one line."""

import json
import re
import subprocess

import cli


def has_ulfm():
    """Whether this Open MPI was built with it, as it says itself."""
    said = subprocess.run(["ompi_info", "--parsable"], capture_output=True, text=True, check=True).stdout
    return re.search(r"^options:ft_mpi_support:yes", said, re.MULTILINE) is not None


class Recovery(cli.CliTest):
    def words(self, *more):
        return ["run", "sleeper", "--shards", 20, "--milliseconds", 5, "--dir", self.new_dir(), "--progress",
                "none", *more]

    def doctor(self, *words, **settings):
        """What doctor says of recovery."""
        ended = self.regroup("doctor", "--format", "json", *words, **settings)
        [check] = [check for check in json.loads(ended.out)["checks"] if check["name"] == "recovery"]
        return check

    def refused(self, ended, *names):
        self.assertEqual(ended.status, cli.EXIT_BAD_INPUT, ended)
        self.assertEqual(len(ended.own_lines()), 1, ended)
        for name in names:
            self.assertIn(name, ended.own_lines()[0])
        self.assertEqual(self.listing(), {})


class Choice(Recovery):
    def test_auto_and_stock_always_run(self):
        for recovery in ("auto", "stock"):
            with self.subTest(recovery=recovery):
                ended = self.regroup(*self.words("--recovery", recovery, "-n", 2), program=cli.FLAKY_JOB)
                self.assertEqual(ended.status, cli.EXIT_DONE, ended)

    def test_another_word_is_refused(self):
        ended = self.regroup(*self.words("--recovery", "both", "-n", 2), program=cli.FLAKY_JOB)
        self.refused(ended, "--recovery", "both", "stock")

    def test_ulfm_is_refused_where_there_is_none(self):
        if has_ulfm():
            self.skipTest("this Open MPI has ULFM")
        ended = self.regroup(*self.words("--recovery", "ulfm", "-n", 2), program=cli.FLAKY_JOB)
        self.refused(ended, "--recovery ulfm", "no ULFM")
        self.assertEqual(self.doctor()["status"], "ok")
        self.assertIn("no ULFM", self.doctor()["found"])
        self.assertEqual(self.doctor(env={"REGROUP_RECOVERY": "ulfm"})["status"], "missing")

    def test_doctor_tells_the_choice(self):
        self.assertIn("as chosen", self.doctor("--recovery", "stock")["found"])


class WithUlfm(Recovery):
    def test_auto_is_ulfm(self):
        self.assertIn("ulfm: native", self.doctor()["found"])
        self.assertEqual(self.doctor("--recovery", "ulfm")["status"], "ok")

    def test_ulfm_needs_mpiruns_flag(self):
        words = self.words("--recovery", "ulfm")
        self.refused(self.start_mpirun(2, cli.FLAKY_JOB, *words).end(), "--with-ft ulfm")

        ended = self.start_mpirun("2", "--with-ft", "ulfm", cli.FLAKY_JOB, *words).end()
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)

    def test_stock_ranks_under_mpirun_with_its_flag(self):
        words = self.words("--recovery", "stock")
        ended = self.start_mpirun("2", "--with-ft", "ulfm", cli.FLAKY_JOB, *words).end()
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)


if __name__ == "__main__":
    cli.main()
