"""What ranks record of a run with --events, read back by `regroup events`: of runs that lose ranks, on real
ranks. The order of events is held against the messages between ranks, and the formats against what the tools
that they are for ask of them."""

import collections
import json
import re

import cli

RANKS = 3
SHARDS = 60
# ShiViz's own first expression.
SHIVIZ = re.compile(r"(?P<host>\S*) (?P<clock>{.*})\n(?P<event>.*)\n")


class Events(cli.CliTest):
    def run_it(self, level, *more, dir="run", shards=SHARDS):
        words = ["run", "sleeper", "--shards", shards, "--milliseconds", 10, "--events", level, "--dir", dir,
                 "--progress", "none", "-n", RANKS, *more]
        ended = self.regroup(*words, program=cli.FLAKY_JOB)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)

    def events(self, *words, dir="run", status=cli.EXIT_DONE):
        ended = self.regroup("events", dir, *words)
        self.assertEqual(ended.status, status, ended)
        return ended.out.decode() if status == cli.EXIT_DONE else ended.own_lines()

    def objects(self, *words, dir="run"):
        return [json.loads(line) for line in self.events("--format", "jsonl", *words, dir=dir).splitlines()]


class Told(Events):
    def test_who_died_and_who_went_on(self):
        self.run_it("run", "--inject", "kill:rank=2,after-shards=3", "--inject", "kill:coordinator,at=500ms",
                    shards=300)
        text = self.events()
        self.assertRegex(text, r"rank 1 .* learns that rank 2 is dead")
        self.assertRegex(text, r"rank 1 .* learns that rank 0 is dead")
        self.assertRegex(text, r"rank 0 .* enters epoch 2 of 2 members under coordinator 0")
        self.assertRegex(text, r"rank 1 .* enters epoch 3 of 1 members under coordinator 1")
        self.assertRegex(text, r"rank 1 .* goes on as coordinator")
        self.assertNotRegex(text, r"shard|sends")

    def test_each_shard_is_leased_computed_and_committed(self):
        self.run_it("shards", "--inject", "kill:rank=2,after-shards=3")
        stories = collections.defaultdict(list)
        for event in self.objects():
            if event["kind"] in ("lease", "work", "commit"):
                for shard in range(event["a"], event["a"] + event["b"]):
                    stories[shard].append(event)
        for shard in range(SHARDS):
            kinds = [event["kind"] for event in stories[shard]]
            self.assertEqual(kinds[0], "lease")
            self.assertEqual(kinds.count("commit"), 1)  # though it may have been computed twice
            # What rank 2 did in its last moments was lost with it.
            if "work" not in kinds:
                self.assertIn(2, [event["peer"] for event in stories[shard]])
        self.assertEqual(self.objects("--shard", 7), stories[7])
        self.assertEqual(self.objects("--kind", "commit", "--rank", 1), [], "the coordinator commits")

    def test_nothing_is_recorded_unless_asked_for(self):
        self.run_it("off")
        self.assertFalse((self.folder / "run" / "events").exists())
        self.assertRegex(self.events(status=cli.EXIT_BAD_INPUT)[0], "no events were recorded")


class Ordered(Events):
    def setUp(self):
        super().setUp()
        self.run_it("messages", "--inject", "kill:rank=2,after-shards=3")

    def test_causes_come_before_effects(self):
        sent, last = {}, 0
        receives = 0
        for event in self.objects():
            self.assertGreaterEqual(event["lamport"], last)
            last = event["lamport"]
            if event["kind"] == "send":
                sent[event["rank"], event["peer"], event["a"]] = event["vector"]
            elif event["kind"] == "receive":
                receives += 1
                self.assertLess(event["a"], event["lamport"])
                # What rank 2 did in its last moments was lost with it.
                cause = sent.get((event["peer"], event["rank"], event["a"]))
                if cause is None:
                    self.assertEqual(event["peer"], 2, event)
                elif event["b"] >= 32:  # control messages carry no vector stamps
                    self.assertTrue(all(a <= b for a, b in zip(cause, event["vector"])), event)
        self.assertGreater(receives, SHARDS)

    def test_shiviz_can_read_them(self):
        text = self.events("--format", "shiviz")
        entries = collections.defaultdict(list)
        end = 0
        for match in SHIVIZ.finditer(text):
            self.assertEqual(match.start(), end)
            end = match.end()
            clock = json.loads(match["clock"])
            own = entries[match["host"]]
            own.append(clock.pop(match["host"]))
            self.assertEqual(own[-1], len(own), "one more for each event")
            for host, entry in clock.items():
                self.assertLessEqual(entry, len(entries[host]), "of an event that is not there")
        self.assertEqual(end, len(text))
        self.assertLessEqual({"rank0", "rank1"}, set(entries))

    def test_perfetto_can_read_them(self):
        trace = json.loads(self.events("--format", "perfetto"))["traceEvents"]
        tracks = {event["args"]["name"] for event in trace if event["ph"] == "M"}
        self.assertEqual(tracks, {"rank 0", "rank 1", "rank 2"})
        begins = {event["id"] for event in trace if event["ph"] == "s"}
        ends = [event["id"] for event in trace if event["ph"] == "f"]
        self.assertEqual(len(ends), len(set(ends)))
        self.assertGreater(len(begins & set(ends)), SHARDS)
        for event in trace:
            self.assertGreaterEqual(event.get("ts", 0), 0)

    def test_a_segment_that_is_cut_is_read_up_to_there(self):
        whole = len(self.events().splitlines())
        for path in (self.folder / "run" / "events").iterdir():
            data = path.read_bytes()
            path.write_bytes(data[:len(data) // 2])
        some = len(self.events().splitlines())
        self.assertLess(some, whole)

    def test_bad_input(self):
        self.assertRegex(self.events("--kind", "birth", status=cli.EXIT_BAD_INPUT)[0], "no kind 'birth'")
        self.assertRegex(self.events("--format", "xml", status=cli.EXIT_BAD_INPUT)[0], "perfetto")
        self.assertRegex(self.events(dir="missing", status=cli.EXIT_BAD_INPUT)[0], "missing")


if __name__ == "__main__":
    cli.main()
