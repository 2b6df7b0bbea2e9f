"""A run over several nodes, started as a user starts it."""

import json

import nodes
from nodes import cli

SAMPLES = 2_000_000
HOSTS = "n1:1,n2:1,n3:1"
RANKS = 3


class RunOnNodes(nodes.NodesTest):
    def words(self, *more):
        return ["run", "montecarlo", "--samples", SAMPLES, "--format", "json", *more]

    def on_nodes(self, *more):
        return self.words("--hosts", HOSTS, "--network", nodes.DEVICE, "--remote-shell", self.nodes.agent, *more)

    def result_of(self, ended):
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        return json.loads(ended.out)

    def test_ranks_are_started_where_they_are_wanted(self):
        meant = self.result_of(self.regroup(*self.words("-n", 2)))
        summary = self.result_of(self.regroup(*self.on_nodes()))
        self.assertEqual(summary["ranks"], RANKS)
        self.assertEqual(summary["result"], meant["result"])
        ended = self.regroup(*self.on_nodes("--dry-run"))
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        words = ended.out.decode().split()
        self.assertIn(HOSTS, words)
        self.assertNotIn("--dry-run", words)


if __name__ == "__main__":
    nodes.main()
