"""Bad input is refused before anything happens: one line that names the thing, exit status 2, and not
a file more than before. The same alone, with -n, and under mpirun, whose own words are its own."""

import os
import shutil

import cli

LAUNCHES = ("alone", "with -n", "under mpirun")
NOBODY = 65534


class BadInput(cli.CliTest):
    def refused(self, words, *names, launch="alone", **settings):
        """Every one of `names` must be in the one line."""
        with self.subTest(words=words, launch=launch):
            before = self.listing()
            if launch == "under mpirun":
                ended = self.mpirun(4, *words, **settings)
            else:
                ended = self.regroup(*words, *(["-n", 4] if launch == "with -n" else []), **settings)
            self.assertEqual(ended.status, cli.EXIT_BAD_INPUT, ended)
            self.assertEqual(ended.out, b"", ended)
            self.assertEqual(len(ended.own_lines()), 1, ended)
            if launch != "under mpirun":
                self.assertEqual(len(ended.err.splitlines()), 1, ended)
            for name in names:
                self.assertIn(str(name), ended.own_lines()[0])
            self.assertEqual(self.listing(), before)

    def refused_everywhere(self, words, *names, **settings):
        for launch in LAUNCHES:
            self.refused(words, *names, launch=launch, **settings)

    def test_verbs_and_jobs(self):
        self.refused(["frobnicate"], "frobnicate")
        self.refused(["frobnicate"], "frobnicate", launch="under mpirun")
        self.refused_everywhere(["run", "no-such-job"], "no-such-job")
        self.refused(["run"], "job")
        self.refused(["jobs", "no-such-job"], "no-such-job")
        self.refused(["jobs", "montecarlo", "wordcount"], "too many")

    def test_options(self):
        job = ["run", "montecarlo"]
        self.refused_everywhere([*job, "--frobnicate", 3], "--frobnicate")
        self.refused_everywhere([*job, "--samples", "-5"], "--samples", "-5")
        self.refused_everywhere([*job, "--samples", "many"], "--samples", "many")
        for flag, value in (("--samples", "12x"), ("--samples", "1.5"), ("--samples", "9" * 30),
                            ("--samples", 0), ("--samples", ""), ("--volatility", "nan"),
                            ("--volatility", -1), ("--schedule", "lifo"), ("--bind", "socket"),
                            ("--gpus", "many"), ("--format", "xml"), ("--progress", "loud"),
                            ("--max-attempts", 0), ("--kind", "swap"), ("--seed", -1),
                            ("--threads", 10**6)):
            self.refused([*job, flag, value], flag, f"'{value}'")
        self.refused([*job, "--dir", ""], "--dir")
        self.refused([*job, "--dir", ""], "--dir", launch="with -n")
        self.refused([*job, "--samples", 10, "--samples", 20], "--samples", "twice")
        self.refused([*job, "surplus"], "surplus")
        self.refused(["run", "wordcount"], "no input")

    def test_missing_values(self):
        self.refused(["run", "montecarlo", "--samples"], "--samples")
        self.refused(["run", "montecarlo", "--samples"], "--samples", launch="under mpirun")
        self.refused(["run", "montecarlo", "--samples"], "--samples", launch="with -n")
        self.refused(["run", "montecarlo", "-n"], "--ranks")

    def test_rank_counts(self):
        for flag, value in (("-n", 0), ("-n", -4), ("--ranks", "abc"), ("--ranks", 10**9), ("-n", "")):
            self.refused(["run", "montecarlo", flag, value], "--ranks", f"'{value}'")
        self.refused(["run", "montecarlo", "-n", 3], "-n 3", "4 ranks", launch="under mpirun")
        self.refused(["run", "montecarlo", "-n", 0], "--ranks", launch="under mpirun")
        for value in ("0", "abc"):
            self.refused(["run", "montecarlo"], "REGROUP_RANKS", value, env={"REGROUP_RANKS": value})

    def test_inputs(self):
        self.write("folder/file", b"text")
        self.write("list", b"folder/file\nno-such-file\n")
        self.write("empty-list", b"\n\n")
        os.mkfifo(self.folder / "pipe")
        job = ["run", "wordcount"]
        self.refused_everywhere([*job, "no-such-file"], "no-such-file")
        self.refused_everywhere([*job, "folder"], "folder", "directory")
        self.refused_everywhere([*job, "--files-from", "no-such-list"], "no-such-list")
        self.refused([*job, "--files-from", "folder"], "folder")
        self.refused([*job, "--files-from", "list"], "no-such-file")
        self.refused([*job, "--files-from", "empty-list"], "empty-list")
        self.refused([*job, "folder/file", "no-such-file"], "no-such-file")
        self.refused([*job, "folder/file/below"], "folder/file/below")
        self.refused([*job, "pipe"], "pipe")
        self.refused([*job, ""], "empty name")

    def test_matrices(self):
        self.write("cut.mtx", "%%MatrixMarket matrix coordinate real symmetric\n2 2 3\n1 1 4\n2 2 4\n")
        self.write("wide.mtx", "%%MatrixMarket matrix coordinate real general\n2 3 1\n1 1 4\n")
        self.write("lopsided.mtx", "%%MatrixMarket matrix coordinate real general\n2 2 3\n1 1 4\n2 2 4\n2 1 1\n")
        self.write("negative.mtx", "%%MatrixMarket matrix coordinate real symmetric\n2 2 2\n1 1 4\n2 2 -4\n")
        self.write("nan.mtx", "%%MatrixMarket matrix coordinate real symmetric\n2 2 2\n1 1 4\n2 2 nan\n")
        self.write("good.mtx", "%%MatrixMarket matrix coordinate real symmetric\n2 2 2\n1 1 4\n2 2 4\n")
        job = ["run", "cg", "--blocks", 2]
        self.refused_everywhere([*job, "cut.mtx"], "cut.mtx, line 4", "2 of the 3 entries")
        self.refused([*job, "wide.mtx"], "wide.mtx", "square")
        self.refused([*job, "lopsided.mtx"], "lopsided.mtx", "row 1", "symmetric")
        self.refused([*job, "negative.mtx"], "negative.mtx", "row 2", "-4")
        self.refused([*job, "nan.mtx"], "nan.mtx, line 4", "not finite")
        self.refused([*job, "no-such.mtx"], "no-such.mtx")
        self.refused(["run", "cg", "--blocks", 3, "good.mtx"], "--blocks 3", "2 rows")
        self.refused([*job, "good.mtx", "--rhs", "wide.mtx"], "--rhs", "wide.mtx", "2 x 1")
        self.refused([*job, "good.mtx", "wide.mtx"], "MATRIX.mtx")
        self.refused([*job, "--laplacian", "4x"], "--laplacian")

    def test_unreadable_file(self):
        user = None
        if os.geteuid() == 0:
            # The superuser may read anything: be somebody else, if that user reaches the program.
            user = NOBODY
            self.folder.parent.chmod(0o755)
            os.chown(self.folder, NOBODY, NOBODY)
            probe = self.start(["test", "-x", cli.REGROUP], user=user)
            if probe.end().status != 0:
                self.skipTest("only root reaches the program")
        self.write("secret", b"text").chmod(0)
        settings = {} if user is None else {"user": user}
        for launch in ("alone", "with -n"):
            before = sorted(os.listdir(self.folder))
            ended = self.regroup(
                "run", "wordcount", "secret", *(["-n", 4] if launch == "with -n" else []), **settings)
            self.assertEqual(ended.status, cli.EXIT_BAD_INPUT, ended)
            self.assertEqual(len(ended.err.splitlines()), 1, ended)
            self.assertIn("regroup: secret: ", ended.err.decode())
            self.assertEqual(sorted(os.listdir(self.folder)), before)

    def test_an_empty_file_is_no_bad_input(self):
        self.write("empty", b"")
        for ranks in (None, 4):
            directory, ended = self.run_job("wordcount", "empty", ranks=ranks)
            self.assertEqual(self.results(directory), b"")
            self.assertTrue((directory / "result.h5").stat().st_size > 0)

    def test_run_directories(self):
        self.run_job("montecarlo", "--samples", 1000, dir="finished")
        self.write("foreign/file", b"mine")
        self.write("file", b"mine")
        self.write("broken/status.json", b"{")
        job = ["run", "montecarlo", "--samples", 1000]
        self.refused_everywhere([*job, "--dir", "finished"], "finished", "finished run")
        self.refused_everywhere([*job, "--dir", "foreign"], "foreign", "not empty")
        self.refused([*job, "--dir", "file"], "file", "directory")
        self.refused([*job, "--dir", "broken"], "broken")
        self.refused([*job, "--dir", "no/such/parent"], "no/such")
        for directory in ("no-such-run", "foreign", "file"):
            self.refused(["results", directory], directory)
        self.refused(["results"], "DIR")
        self.refused(["results", "finished", "--format", "xml"], "--format", "xml")

    def test_a_run_directory_in_use(self):
        running = self.start_long_run(ranks=2, dir="used")
        for launch in LAUNCHES:
            with self.subTest(launch=launch):
                words = ["run", "montecarlo", "--samples", 1000, "--dir", "used"]
                if launch == "under mpirun":
                    ended = self.mpirun(2, *words)
                else:
                    ended = self.regroup(*words, *(["-n", 2] if launch == "with -n" else []))
                self.assertEqual(ended.status, cli.EXIT_BAD_INPUT, ended)
                self.assertEqual(len(ended.own_lines()), 1, ended)
                self.assertIn("used is in use", ended.own_lines()[0])
                self.assertEqual(self.status_of("used")["state"], "running")
        running.popen.terminate()
        running.end(30)

    def test_configuration_files(self):
        cases = {
            "truncated.toml": ("[montecarlo]\nsamples = [1,", "truncated.toml:2"),
            "no-toml.toml": ("samples 5\n", "no-toml.toml:1"),
            "unknown-key.toml": ("\nseeed = 5\n", "unknown-key.toml:2", "seeed"),
            "unknown-in-table.toml": ("[montecarlo]\nsampels = 5\n", "sampels"),
            "unknown-table.toml": ("[montecarol]\nsamples = 5\n", "montecarol"),
            "wrong-type.toml": ("[montecarlo]\nsamples = \"many\"\n", "samples", "many"),
            "list-for-one.toml": ("seed = [1, 2]\n", "list-for-one.toml:1", "seed"),
            "table-for-one.toml": ("seed = {a = 1}\n", "table-for-one.toml:1", "seed"),
            "out-of-range.toml": ("threads = -1\n", "threads", "-1"),
            "not-utf8.toml": (b"seed = \"\xff\"\n", "not-utf8.toml"),
        }
        job = ["run", "montecarlo"]
        for name, (contents, *names) in cases.items():
            self.write(name, contents)
            self.refused([*job, "--config", name], *names)
        for launch in ("with -n", "under mpirun"):
            self.refused([*job, "--config", "truncated.toml"], "truncated.toml:2", launch=launch)
        self.refused([*job, "--config", "no-such.toml"], "no-such.toml")
        self.refused([*job], "no-such.toml", env={"REGROUP_CONFIG": "no-such.toml"})
        self.write("folder/file", b"")
        self.refused([*job, "--config", "folder"], "folder")

    def test_a_rank_that_was_given_other_options(self):
        script = """if ((OMPI_COMM_WORLD_RANK == 2)); then set -- --samples many; fi
          exec "$0" run montecarlo --dir "$PWD/run" "$@" """
        ended = self.start_mpirun(4, "bash", "-c", script, cli.REGROUP).end()
        self.assertEqual(ended.status, cli.EXIT_BAD_INPUT, ended)
        self.assertEqual(len(ended.own_lines()), 1, ended)
        self.assertIn("rank 2: --samples", ended.own_lines()[0])

    def test_ranks_that_were_given_other_jobs(self):
        script = """if ((OMPI_COMM_WORLD_RANK == 1)); then set -- montecarlo; else set -- wordcount text; fi
          exec "$0" run "$@" --dir "$PWD/run" """
        self.write("text", b"some words")
        ended = self.start_mpirun(4, "bash", "-c", script, cli.REGROUP).end()
        self.assertEqual(ended.status, cli.EXIT_BAD_INPUT, ended)
        self.assertEqual(len(ended.own_lines()), 1, ended)
        self.assertIn("rank 1", ended.own_lines()[0])
        self.assertEqual(self.status_of("run")["state"], "failed")
        self.assertFalse((self.folder / "run/result.h5").exists())
        shutil.rmtree(self.folder / "run")


if __name__ == "__main__":
    cli.main()
