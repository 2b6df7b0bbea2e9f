"""Faults that --inject rehearses, on real ranks. The loss of any ranks but all is survived, with the
result of an undisturbed run; after that of all the supervisor starts others, unless it may not: then the
run ends with status 3. What does not kill changes no result."""

import json
import re

import cli

END_SECONDS_MAX = 20
RANKS = 4
FOR_GOOD = ("--relaunches", 0)
SHARDS = 200
SHARDS_FOR_LONG = 2000  # what survivors do not finish in the second that mpirun leaves them


class Inject(cli.CliTest):
    def words(self, *faults, shards=SHARDS, dir="run", milliseconds=10, more=()):
        job = ["run", "sleeper", "--shards", shards, "--milliseconds", milliseconds, "--dir", dir, *more]
        return [*job, "--progress", "none", *(word for fault in faults for word in ("--inject", fault))]

    def inject(self, *faults, direct=False, **settings):
        words = self.words(*faults, **settings)
        if direct:
            return self.start_mpirun(RANKS, cli.FLAKY_JOB, *words).end(END_SECONDS_MAX)
        return self.regroup(*words, "-n", RANKS, program=cli.FLAKY_JOB, seconds_max=END_SECONDS_MAX)

    def struck(self, ended):
        """What the lines on faults say, without their beginning."""
        head = "regroup: injected: "
        return sorted(line[len(head):] for line in ended.own_lines() if line.startswith(head))

    def lost(self, ended, directory="run"):
        """The run must have failed, for nobody was left."""
        self.assertEqual(ended.status, cli.EXIT_NOT_RECOVERED, ended)
        self.assertEqual(ended.out, b"")
        status = self.status_of(directory)
        self.assertEqual((status["state"], status["exit"]), ("failed", cli.EXIT_NOT_RECOVERED), ended)
        self.assertIn("rank", status["message"], ended)
        self.assertIn(status["message"], ended.own_lines()[-1])
        self.assertFalse((self.folder / directory / "result.h5").exists())

    def survived(self, ended, losses, directory="run"):
        """The run must have gone on to the right result."""
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        status = self.status_of(directory)
        self.assertEqual((status["state"], status["exit"]), ("done", cli.EXIT_DONE), ended)
        self.assertEqual(status["failures_survived"], losses, ended)
        lost = [rank for recovery in status["recoveries"] for rank in recovery["lost"]]
        self.assertEqual(sorted(set(range(RANKS)) - set(status["members"])), sorted(lost), ended)
        for recovery in status["recoveries"]:
            self.assertGreaterEqual(recovery["agreed_ms"], 0)
        self.assertEqual(len(status["members"]), RANKS - losses)
        self.assertGreaterEqual(status["epoch"], 2)
        self.assertEqual(status["shards_done"], status["shards_total"])
        self.assertEqual(self.result_of(directory), self.result_of(self.plain()))

    def result_of(self, directory):
        return (self.folder / directory / "result.h5").read_bytes()

    def plain(self):
        """An undisturbed run of the same job."""
        if not (self.folder / "plain").exists():
            words = self.words(dir="plain")
            ended = self.regroup(*words, "-n", 2, program=cli.FLAKY_JOB)
            self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        return "plain"


class Kill(Inject):
    def test_a_worker(self):
        for fault, rank, when in (
                ("kill:rank=2,after-shards=10", 2, "after 10 shards"),
                ("kill:successor,at=200ms", 1, "at 200 ms"),
                ("kill:rank=3,at=start", 3, "at the start")):
            with self.subTest(fault=fault):
                directory = self.new_dir()
                ended = self.inject(fault, dir=directory)
                self.assertEqual(self.struck(ended), [f"rank {rank} killed {when}"], ended)
                self.survived(ended, 1, directory)

    def test_the_coordinator(self):
        for fault, when in (("kill:rank=0,after-shards=10", "after 10 shards"),
                            ("kill:coordinator,at=200ms", "at 200 ms"),
                            ("kill:coordinator,at=start", "at the start")):
            with self.subTest(fault=fault):
                directory = self.new_dir()
                ended = self.inject(fault, dir=directory)
                self.assertEqual(self.struck(ended), [f"rank 0 killed {when}"], ended)
                self.survived(ended, 1, directory)

    def test_the_coordinator_when_the_result_is_written(self):
        ended = self.inject("kill:coordinator,at=end")
        self.assertEqual(self.struck(ended), ["rank 0 killed at the end"], ended)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertEqual(self.status_of("run")["exit"], cli.EXIT_DONE)
        self.assertEqual(self.result_of("run"), self.result_of(self.plain()))

    def test_the_coordinator_and_those_who_follow(self):
        for fault, losses in (("kill:rank=0,at=200ms,kill:rank=1,at=200ms", 2),
                              ("kill:coordinator,at=200ms,kill:rank=1,at=election", 2),
                              ("kill:coordinator,at=200ms,kill:rank=2,at=agreement", 2),
                              ("kill:rank=0,at=200ms,kill:rank=1,at=400ms,kill:rank=2,at=600ms", 3),
                              ("kill:all-but=1,at=200ms", 3), ("kill:all-but=3,at=200ms", 3)):
            with self.subTest(fault=fault):
                directory = self.new_dir()
                ended = self.inject(fault, dir=directory)
                self.assertEqual(len(self.struck(ended)), losses, ended)
                self.survived(ended, losses, directory)

    def test_without_standbys_the_run_begins_anew(self):
        ended = self.inject("kill:coordinator,at=300ms", more=("--standbys", 0))
        self.survived(ended, 1)

    def test_a_worker_that_says_goodbye(self):
        ended = self.inject("kill:rank=3,at=end", shards=20)
        self.assertEqual(self.struck(ended), ["rank 3 killed at the end"], ended)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertEqual(self.status_of("run")["exit"], ended.status)

    def test_several_at_once(self):
        for fault, losses in (("kill:rank=1,at=200ms,kill:rank=3,at=200ms", 2),
                              ("kill:rank=1,at=200ms,kill:rank=2,at=agreement", 2),
                              ("kill:rank=1,at=200ms,kill:rank=2,at=shrink", 2),
                              ("kill:all-but=0,at=200ms", 3)):
            with self.subTest(fault=fault):
                directory = self.new_dir()
                ended = self.inject(fault, dir=directory)
                self.assertEqual(len(self.struck(ended)), losses, ended)
                self.survived(ended, losses, directory)

    def test_all(self):
        ended = self.inject("kill:all-but=0,at=200ms,kill:rank=0,at=200ms", more=FOR_GOOD)
        self.assertGreaterEqual(len(self.struck(ended)), 1, ended)
        self.lost(ended)

    def test_all_and_others_are_started(self):
        """At whom no fault strikes any more."""
        for more, begin in (((), "from the beginning"),
                            (("--checkpoint-every", 0.1), "from checkpoint ")):
            with self.subTest(more=more):
                directory = self.new_dir()
                fault = "kill:all-but=0,at=300ms,kill:rank=0,at=300ms"
                ended = self.inject(fault, dir=directory, more=more)
                self.assertEqual(ended.status, cli.EXIT_DONE, ended)
                self.assertIn(f"starting {RANKS} ranks again, {begin}", ended.own_lines()[-1])
                status = self.status_of(directory)
                self.assertEqual((status["relaunches"], status["failures_survived"]), (1, 0), ended)
                self.assertEqual(self.result_of(directory), self.result_of(self.plain()))

    def test_two_faults_in_one_go(self):
        ended = self.inject("kill:rank=2,at=1000s,slow:rank=3,factor=2", "kill:rank=1,after-shards=5")
        self.assertEqual(self.struck(ended), ["rank 1 killed after 5 shards", "rank 3 slowed 2 times"])
        self.survived(ended, 1)

    def test_a_stopped_rank(self):
        """Longer than the others wait: they go on without it, and it comes back as a worker."""
        for rank in (2, 0):
            with self.subTest(rank=rank):
                directory = self.new_dir()
                ended = self.inject(f"stop:rank={rank},at=200ms,for=800ms", shards=1000, dir=directory,
                                    more=("--suspect-after", 300))
                self.assertEqual(ended.status, cli.EXIT_DONE, ended)
                status = self.status_of(directory)
                self.assertGreaterEqual(status["epoch"], 2)
                self.assertEqual(status["shards_done"], 1000)

    def test_under_mpirun(self):
        """Without the supervisor's options mpirun soon ends all."""
        directory = self.new_dir()
        ended = self.inject("kill:rank=2,after-shards=10", direct=True, dir=directory,
                            shards=SHARDS_FOR_LONG)
        self.assertNotEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertNotEqual(self.status_of(directory)["state"], "done")

    def test_alone(self):
        ended = self.regroup(*self.words("kill:rank=0,after-shards=3"), program=cli.FLAKY_JOB)
        self.assertEqual(ended.status, -9, ended)
        self.assertEqual(self.status_of("run")["exit"], None)

    def test_a_fault_strikes_again_in_the_next_run(self):
        for _ in range(2):
            ended = self.inject("kill:coordinator,at=100ms,kill:all-but=0,at=300ms",
                                shards=SHARDS_FOR_LONG, more=FOR_GOOD)
            self.assertIn("rank 0 killed at 100 ms", self.struck(ended), ended)
            self.lost(ended)


class Wedge(Inject):
    """A rank's MPI never returns, its detector notices and ends it, and the others go on as after a death."""

    def wedge(self, fault, *more, **settings):
        return self.inject(fault, more=("--wedge-timeout", 1, *more), **settings)

    def ended_itself(self, ended, *ranks):
        lines = [f"regroup: rank {rank} has been stuck inside MPI for 1 s: it ends, so that the others go on"
                 for rank in ranks]
        self.assertEqual(sorted(line for line in ended.own_lines() if "stuck" in line), lines, ended)

    def test_a_worker_and_the_coordinator(self):
        for rank in (2, 0):
            with self.subTest(rank=rank):
                directory = self.new_dir()
                ended = self.wedge(f"wedge:rank={rank},after-shards=10", dir=directory)
                self.assertEqual(self.struck(ended), [f"rank {rank} wedged after 10 shards"], ended)
                self.ended_itself(ended, rank)
                self.survived(ended, 1, directory)
                self.assertEqual([(recovery["lost"], recovery["evidence"])
                                  for recovery in self.status_of(directory)["recoveries"]], [([rank], "dead")])

    def test_one_whose_peer_has_died(self):
        """As it happens: MPI does not return because of a peer's death."""
        ended = self.wedge("kill:rank=1,at=200ms,wedge:rank=3,at=agreement")
        self.ended_itself(ended, 3)
        self.survived(ended, 2)

    def test_one_that_the_end_waits_for(self):
        """The others have done all the work by then, and one has gone; it is not lost with the stuck one."""
        self.environment["REGROUP_RECOVERY_STAMPS"] = "1"
        ended = self.inject("kill:rank=0,at=200ms,wedge:rank=2,at=election", shards=100,
                            more=("--wedge-timeout", 3))
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        status = self.status_of("run")
        self.assertEqual(status["failures_survived"], 2, ended)
        self.assertEqual([recovery["lost"] for recovery in status["recoveries"]], [[0], [2]])
        # Whoever knows first tells the others. Of the last two, one does.
        stamps = re.findall(r"recovery: rank \d+ epoch (\d+) evidence (\w+)", ended.err.decode())
        self.assertLessEqual({evidence for _, evidence in stamps}, {"dead", "told"}, ended)
        self.assertIn((str(status["recoveries"][-1]["epoch"]), "dead"), stamps, ended)

    def test_all(self):
        ended = self.wedge("wedge:all-but=0,at=200ms,wedge:rank=0,at=200ms", *FOR_GOOD)
        self.ended_itself(ended, *range(RANKS))
        self.lost(ended)

    def test_a_stopped_rank_is_not_stuck(self):
        """Whatever it was about when it was stopped, and for however long."""
        ended = self.wedge("stop:rank=1,at=100ms,for=3s", shards=1000)
        self.ended_itself(ended)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertEqual(self.status_of("run")["failures_survived"], 0)

    def test_under_mpirun(self):
        """Without the supervisor's options mpirun ends all, and says so by its status."""
        ended = self.wedge("wedge:rank=2,after-shards=10", direct=True, shards=SHARDS_FOR_LONG)
        self.ended_itself(ended, 2)
        self.assertNotEqual(ended.status, cli.EXIT_DONE, ended)
        self.assertNotEqual(self.status_of("run")["state"], "done")


class Survivable(Inject):
    def test_what_does_not_kill_changes_nothing(self):
        plain = self.summary(*self.words()[1:-4], "--progress", "none", ranks=RANKS,
                             program=cli.FLAKY_JOB, dir="plain")
        for fault, line in (
                ("stop:rank=1,at=100ms,for=300ms", "rank 1 stopped at 100 ms for 300 ms"),
                ("stop:coordinator,at=100ms,for=300ms", "rank 0 stopped at 100 ms for 300 ms"),
                ("slow:rank=1,factor=5", "rank 1 slowed 5 times"),
                ("duplicate-results:rank=1", "rank 1 sends everything twice"),
                ("late-results:rank=1,by=300ms", "rank 1 sends late by 300 ms"),
                ("kill:rank=1,at=1000s", None),
                ("kill:rank=1,at=election", None)):
            with self.subTest(fault=fault):
                directory = self.new_dir()
                ended = self.regroup(*self.words(fault, dir=directory), "-n", RANKS, "--format", "json",
                                     program=cli.FLAKY_JOB)
                self.assertEqual(ended.status, cli.EXIT_DONE, ended)
                self.assertEqual(self.struck(ended), [line] if line else [], ended)
                self.assertEqual(json.loads(ended.out)["result"], plain["result"])

    def test_from_the_environment_and_a_file(self):
        self.write("faults.toml", 'inject = ["slow:rank=0,factor=2", "slow:rank=1,factor=3"]\n')
        lines = ["rank 0 slowed 2 times", "rank 1 slowed 3 times"]
        for extra, env in (((), {"REGROUP_INJECT": "slow:rank=0,factor=2,slow:rank=1,factor=3"}),
                           (("--config", "faults.toml"), {})):
            ended = self.regroup(*self.words(dir=self.new_dir()), "-n", 2, *extra,
                                 program=cli.FLAKY_JOB, env=env)
            self.assertEqual(ended.status, cli.EXIT_DONE, ended)
            self.assertEqual(self.struck(ended), lines)


class Device(Inject):
    """What stands in for a device is a function, so that no GPU is needed."""

    def pretend(self, *faults, ranks=2, shards=200, milliseconds=5, more=()):
        words = ["run", "pretender", "--shards", shards, "--milliseconds", milliseconds, "--dir", self.new_dir(),
                 "--format", "json", "--progress", "none", *more]
        ended = self.regroup(*words, *(word for fault in faults for word in ("--inject", fault)), "-n", ranks,
                             program=cli.FLAKY_JOB, seconds_max=END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        return ended, json.loads(ended.out)["result"]

    def same_sums(self, result):
        """Each shard must have counted once, wherever it was computed."""
        _, plain = self.pretend()
        self.assertEqual((plain["on_device"], plain["on_cpu"]), (200, 0))
        self.assertEqual(result["on_device"] + result["on_cpu"], 200)
        for name in ("shards", "numbers", "thirds"):
            self.assertEqual(result[name], plain[name])

    def lines_of_device(self, ended):
        return [line for line in ended.own_lines() if "its GPU" in line]

    def test_a_device_that_fails_leaves_its_shards_to_the_cpu(self):
        ended, result = self.pretend("gpu-error:rank=0", ranks=1, milliseconds=1)
        self.assertEqual(self.struck(ended), ["rank 0 has a GPU that fails"])
        self.same_sums(result)
        self.assertEqual(result["on_cpu"], 200)
        self.assertEqual(len(self.lines_of_device(ended)), 1, ended)
        self.assertIn("an error was injected; the CPU computes in its place", self.lines_of_device(ended)[0])

    def test_only_the_rank_whose_device_fails_computes_on_the_cpu(self):
        ended, result = self.pretend("gpu-error:rank=1")
        self.same_sums(result)
        self.assertGreater(result["on_device"], 0)
        self.assertGreater(result["on_cpu"], 0)
        self.assertIn("rank 1", self.lines_of_device(ended)[0])

    def test_a_device_that_hangs_holds_up_nobody(self):
        ended, result = self.pretend("gpu-hang:rank=1", more=("--gpu-timeout", 1))
        self.assertEqual(self.struck(ended), ["rank 1 has a GPU that hangs"])
        self.same_sums(result)
        self.assertIn("a call has not come back for 1 s", self.lines_of_device(ended)[0])

    def test_a_device_that_recovers_is_used_again(self):
        ended, result = self.pretend("gpu-error:rank=0,for=500ms", ranks=1, milliseconds=10)
        self.assertEqual(self.struck(ended), ["rank 0 has a GPU that fails for 500 ms"])
        self.same_sums(result)
        self.assertGreater(result["on_device"], 0)
        self.assertGreater(result["on_cpu"], 0)
        self.assertIn("it works again", self.lines_of_device(ended)[-1])


class Refused(Inject):
    def test_bad_faults_write_nothing(self):
        for fault, *names in (
                ("explode:rank=1", "explode", "kill"), ("kill:rank=1", "when", "at=TIME"),
                ("kill:rank=4,at=1s", "rank 4", "0 to 3"), ("gpu-error:rank=4", "rank 4", "0 to 3"),
                ("disk-full:rank=1", "after=N"), ("disk-error:after=1,rank=4", "rank 4", "0 to 3"),
                ("wedge:rank=1,at=end", "MPI"), ("", "''")):
            for direct in (False, True):
                with self.subTest(fault=fault, direct=direct):
                    before = self.listing()
                    ended = self.inject(fault, direct=direct)
                    self.assertEqual(ended.status, cli.EXIT_BAD_INPUT, ended)
                    self.assertEqual(len(ended.own_lines()), 1, ended)
                    for name in ("--inject", *names):
                        self.assertIn(name, ended.own_lines()[0])
                    self.assertEqual(self.listing(), before)

    def test_a_victim_to_be_agreed_on_needs_a_directory_under_mpirun(self):
        words = ["run", "sleeper", "--inject", "kill:coordinator,at=1s"]
        ended = self.start_mpirun(2, cli.FLAKY_JOB, *words).end(END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_BAD_INPUT, ended)
        self.assertIn("--dir", ended.own_lines()[0])
        self.assertEqual(self.listing(), {})


if __name__ == "__main__":
    cli.main()
