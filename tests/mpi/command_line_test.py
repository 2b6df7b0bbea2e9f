"""What is printed, where, and which setting wins: the parts of the command line that scripts and people
rely on."""

import csv
import fcntl
import io
import json
import os
import re
import struct
import termios

import cli

VERBS = ("run", "results", "inspect", "verify", "jobs", "topology", "doctor")
JOB_KEYS = {"job", "dir", "shards", "seconds", "ranks", "epoch", "failures_survived", "exit", "result"}
TRIVIAL = ("montecarlo", "--samples", 1000)


class Settings(cli.CliTest):
    """A flag beats the environment, which beats the configuration file, which beats the default."""

    def samples(self, *words, **settings):
        summary = self.summary("montecarlo", *words, **settings)
        self.assertEqual(summary["exit"], 0)
        return summary["result"]["samples"]

    def test_precedence(self):
        self.write("settings.toml", "seed = 7\n[montecarlo]\nsamples = 3000\n[wordcount]\ntop = 3\n")
        config = ("--config", "settings.toml")
        from_environment = {"REGROUP_SAMPLES": "2000"}
        for launch in ({}, {"ranks": 2}, {"ranks": 2, "direct": True}):
            with self.subTest(**launch):
                self.assertEqual(self.samples(*config, **launch), 3000)
                self.assertEqual(self.samples(*config, env=from_environment, **launch), 2000)
                flag = ("--samples", 1000)
                self.assertEqual(self.samples(*config, *flag, env=from_environment, **launch), 1000)
        self.assertEqual(
            self.samples(env={"REGROUP_CONFIG": str(self.folder / "settings.toml")}), 3000)
        self.assertEqual(self.samples(), 20_000_000)

    def test_rank_count_from_every_source(self):
        self.write("settings.toml", "ranks = 3\n")
        self.assertEqual(self.summary(*TRIVIAL, "--config", "settings.toml")["ranks"], 3)
        self.assertEqual(self.summary(*TRIVIAL, env={"REGROUP_RANKS": "2"})["ranks"], 2)
        self.assertEqual(self.summary(*TRIVIAL, ranks=4, env={"REGROUP_RANKS": "2"})["ranks"], 4)

    def test_settings_of_the_run(self):
        self.write("settings.toml", 'seed = 7\nschedule = "static"\n')
        by_flag, _ = self.run_job(*TRIVIAL, "--seed", 7)
        by_file, _ = self.run_job(*TRIVIAL, "--config", "settings.toml", ranks=2)
        by_variable, _ = self.run_job(*TRIVIAL, env={"REGROUP_SEED": "7"}, ranks=2)
        by_default, _ = self.run_job(*TRIVIAL)
        expected = (by_flag / "result.h5").read_bytes()
        self.assertTrue((by_file / "result.h5").read_bytes() == expected)
        self.assertTrue((by_variable / "result.h5").read_bytes() == expected)
        self.assertFalse((by_default / "result.h5").read_bytes() == expected)


class Printed(cli.CliTest):
    def test_json_is_one_object_with_the_agreed_keys(self):
        for launch in ({}, {"ranks": 4}, {"ranks": 4, "direct": True}):
            with self.subTest(**launch):
                directory, ended = self.run_job(
                    "montecarlo", "--samples", 100_000, "--shard-samples", 1000, "--format", "json",
                    **launch)
                self.assertEqual(ended.out.count(b"\n"), 1)
                summary = json.loads(ended.out)
                self.assertLessEqual(JOB_KEYS, summary.keys())
                self.assertEqual(summary["job"], "montecarlo")
                self.assertEqual(summary["dir"], directory.name)
                self.assertEqual(summary["shards"], 100)
                self.assertEqual(summary["ranks"], launch.get("ranks", 1))
                self.assertEqual(summary["epoch"], 1)
                self.assertEqual(summary["failures_survived"], 0)
                self.assertEqual(summary["exit"], 0)
                self.assertGreater(summary["seconds"], 0)
                self.assertEqual(summary["result"]["samples"], 100_000)

    def test_json_of_words_that_are_no_text(self):
        self.write("text", b"\xff\xfe \"quoted\" a\0b \xc3\xa9 back\\slash\n")
        summary = self.summary("wordcount", "text", ranks=2)
        self.assertEqual(summary["result"]["distinct_words"], 5)

    def test_a_quiet_run_says_nothing_on_standard_error(self):
        for launch in ({}, {"ranks": 4}):
            _, ended = self.run_job(*TRIVIAL, **launch)
            self.assertEqual(ended.err, b"")
            self.assertIn(b"european", ended.out)
            self.assertNotIn(b"\x1b", ended.out)
            self.assertNotIn(b"\r", ended.out)

    def test_the_default_run_directory_is_named_after_job_and_time(self):
        for launch in ([], ["-n", 2]):
            ended = self.regroup("run", *TRIVIAL, "--format", "json", *launch)
            self.assertEqual(ended.status, cli.EXIT_DONE, ended)
            directory = json.loads(ended.out)["dir"]
            self.assertRegex(directory, r"^montecarlo-\d{8}T\d{6}Z(-\d+)?$")
            self.assertEqual(self.status_of(directory)["state"], "done")

    def test_progress_without_a_terminal_is_lines_on_standard_error(self):
        for ranks in (None, 2):
            running = self.start_long_run(ranks=ranks, dir=self.new_dir())
            read = lambda: running.ended().err
            cli.eventually(lambda: read().count(b"shards") >= 1, "a line of progress")
            running.popen.terminate()
            ended = running.end(30)
            self.assertEqual(ended.out, b"")
            self.assertNotIn(b"\r", ended.err)
            self.assertNotIn(b"\x1b", ended.err)
            progress = [line for line in ended.err.decode().splitlines() if "shards  " in line]
            for line in progress:
                self.assertRegex(line, r"^regroup: \d+:\d\d +\d+%  \S+/\S+ shards")

    def test_progress_none(self):
        _, ended = self.run_job("montecarlo", "--samples", 20_000_000, "--progress", "none", ranks=2)
        self.assertEqual(ended.err, b"")


class Terminal(cli.CliTest):
    def draw(self, columns, *words):
        """Everything that a run draws on a terminal of that width, until it has drawn some bars."""
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.set_blocking(master, False)
        words = ["run", "montecarlo", "--samples", 10**12, "--dir", self.new_dir(), *words]
        running = self.start([cli.REGROUP, *words], stderr=slave)
        self.addCleanup(lambda: running.popen.poll() is None and running.popen.terminate())
        os.close(slave)
        drawn = b""

        def read():
            nonlocal drawn
            try:
                drawn += os.read(master, 65536)
            except BlockingIOError:
                pass
            except OSError:  # the other side is closed
                pass
            return drawn

        cli.eventually(lambda: read().count(b"%") >= 3, "three drawings of progress")
        running.popen.terminate()
        while running.popen.poll() is None:
            read()
        ended = running.end()
        for _ in range(16):
            read()
        os.close(master)
        self.assertEqual(ended.out, b"")
        return drawn.decode()

    def test_a_bar_fits_its_terminal(self):
        for columns in (20, 40, 80, 200):
            for launch in ([], ["-n", 2]) if columns in (40, 80) else ([],):
                with self.subTest(columns=columns, launch=launch):
                    drawings = re.split(r"[\r\n]", self.draw(columns, *launch).replace("\x1b[K", ""))
                    bars = [text for text in drawings if "%" in text]
                    self.assertGreaterEqual(len(bars), 3)
                    for text in bars:
                        self.assertNotIn("\x1b", text)
                        self.assertLessEqual(len(text), columns)
                    self.assertEqual(columns >= 80, all("│" in text for text in bars))

    def test_the_bar_is_gone_at_the_end(self):
        for launch in ([], ["-n", 2]):
            with self.subTest(launch=launch):
                text = self.draw(80, *launch)
                after = text[text.rindex("%"):]
                self.assertIn("\r\x1b[K", after)
                self.assertIn("stopped by signal 15", after[after.rindex("\x1b[K"):])

    def test_plain_progress_may_be_asked_for(self):
        text = self.draw(80, "--progress", "plain")
        self.assertNotIn("\x1b", text)
        self.assertNotIn("│", text)


class Results(cli.CliTest):
    def test_forms(self):
        self.write("text", b'b a,c a,c "q" "q" "q" \\ \xc3\xa9\n')
        self.run_job("wordcount", "text", dir="run", ranks=2)
        expected = [("3", '"q"'), ("2", "a,c"), ("1", "\\"), ("1", "b"), ("1", "é")]
        tsv = self.results("run").decode()
        self.assertEqual(tsv, "".join(f"{count}\t{word}\n" for count, word in expected))
        rows = list(csv.reader(io.StringIO(self.results("run", "--format", "csv").decode())))
        self.assertEqual(rows, [["count", "word"], *map(list, expected)])
        lines = self.results("run", "--format", "jsonl").decode().splitlines()
        objects = [{"count": int(count), "word": word} for count, word in expected]
        self.assertEqual([json.loads(line) for line in lines], objects)
        self.assertEqual(self.results("run", "--rows", 2).count(b"\n"), 2)

    def test_values_without_a_table(self):
        self.run_job(*TRIVIAL, dir="run")
        names = [line.split(b"\t")[0] for line in self.results("run").splitlines()]
        self.assertEqual(names[:2], [b"samples", b"pi"])
        values = json.loads(self.results("run", "--format", "jsonl"))
        self.assertEqual(values["samples"], 1000)

    def test_a_reader_that_leaves_early(self):
        self.write("text", b"".join(b"word%d " % number for number in range(100_000)))
        self.run_job("wordcount", "text", dir="run")
        for form in ("tsv", "csv", "jsonl"):
            command = f'"{cli.REGROUP}" results run --format {form} | head -n 1'
            ended = self.start(["bash", "-o", "pipefail", "-c", command]).end()
            self.assertEqual((ended.status, ended.err), (0, b""), ended)
            self.assertEqual(ended.out.count(b"\n"), 1)

    def test_a_full_disk_is_no_success(self):
        self.run_job(*TRIVIAL, dir="run")
        with open("/dev/full", "wb") as full:
            ended = self.start([cli.REGROUP, "results", "run"], stdout=full).end()
        self.assertEqual(ended.status, cli.EXIT_NOT_RECOVERED, ended)
        self.assertEqual(len(ended.own_lines()), 1, ended)


class Verbs(cli.CliTest):
    def test_help(self):
        cases = [[verb] for verb in VERBS] + [["run", "montecarlo"], ["run", "wordcount"]]
        for words in cases:
            for flag in ("--help", "-h"):
                with self.subTest(words=words, flag=flag):
                    ended = self.regroup(*words, flag)
                    self.assertEqual((ended.status, ended.err), (0, b""), ended)
                    self.assertIn(b"Example", ended.out)
                    self.assertIn(b"  regroup " + words[0].encode(), ended.out)
        for words in (["--help"], ["-h"], ["help"]):
            ended = self.regroup(*words)
            self.assertEqual(ended.status, 0, ended)
            for verb in VERBS:
                self.assertIn(f"regroup {verb}".encode(), ended.out)
        self.assertEqual(self.listing(), {})

    def test_a_plain_mpirun_says_nothing_of_transports(self):
        ended = self.mpirun(2, "run", *TRIVIAL, "--dir", "run", "--progress", "none")
        self.assertEqual((ended.status, ended.err), (0, b""), ended)

    def test_a_transport_of_the_users_is_kept(self):
        """Open MPI 4.1 says so, unless its ranks' messages get into each other's way."""
        for _ in range(5):
            ended = self.regroup("run", *TRIVIAL, "-n", 2, env={"OMPI_MCA_pml": "no-such"})
            self.assertEqual(ended.status, cli.EXIT_NOT_RECOVERED, ended)
            if b"no-such" in ended.err:
                return
        self.fail(ended)

    def test_help_under_mpirun_is_printed_once(self):
        ended = self.mpirun(2, "run", "montecarlo", "--help")
        self.assertEqual(ended.status, 0, ended)
        self.assertEqual(ended.out.count(b"--shard-samples"), 1)

    def test_no_verb(self):
        ended = self.regroup()
        self.assertEqual((ended.status, ended.out), (cli.EXIT_BAD_INPUT, b""), ended)

    def test_version(self):
        self.assertRegex(self.regroup("--version").out, rb"^regroup \d+\.\d+\.\d+\n$")

    def test_jobs(self):
        ended = self.regroup("jobs")
        self.assertEqual(
            re.findall(rb"(?m)^ *(\w+)  ", ended.out), [b"cg", b"heat", b"mandelbrot", b"matmul", b"montecarlo", b"nbody", b"wordcount"])
        ended = self.regroup("jobs", "wordcount")
        self.assertEqual(ended.status, 0, ended)
        for option in (b"--files-from", b"--top", b"--min-length", b"--ignore-case", b"--shard-bytes"):
            self.assertIn(option, ended.out)

    def test_topology(self):
        cores = len(os.sched_getaffinity(0))
        for ranks in range(1, 9):
            ended = self.regroup("topology", "-n", ranks, "--format", "json")
            self.assertEqual(ended.status, 0, ended)
            plan = json.loads(ended.out)["plan"]
            self.assertEqual(len(plan["ranks"]), ranks)
            for rank in plan["ranks"]:
                self.assertTrue(1 <= rank["threads"] <= cores, rank)
            self.assertEqual(self.regroup("topology", "-n", ranks).status, 0)
        of_one = self.regroup("topology", "-n", 1, "--format", "json")
        self.assertEqual(self.regroup("topology", "--format", "json").out, of_one.out)

    def test_doctor(self):
        ended = self.regroup("doctor")
        self.assertEqual((ended.status, ended.err), (0, b""), ended)
        report = self.regroup("doctor", "--format", "json")
        self.assertEqual(report.status, 0, report)
        self.assertIsInstance(json.loads(report.out), dict)


if __name__ == "__main__":
    cli.main()
