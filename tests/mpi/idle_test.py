"""A rank that has nothing to do costs next to nothing: cores are shared with those that compute."""

import os
import pathlib
import time

import cli

SLEEP_MILLISECONDS = 7000
# Whatever else the machine does only adds to the time, so that the cheapest window counts.
WINDOWS = 5
WINDOW_SECONDS = 1
SHARE_MAX = 0.05 if not cli.IS_SANITIZED else 0.25


def cpu_seconds(pid):
    """User and system time of a process, of all its threads, so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Idle(cli.CliTest):
    def test_cpu_time_of_ranks_without_work(self):
        words = ["run", "sleeper", "--shards", 1, "--milliseconds", SLEEP_MILLISECONDS]
        running = self.start([cli.FLAKY_JOB, *words, "--dir", "run", "-n", 4])

        def has_begun():
            status = self.status_of("run")
            return status and status["state"] == "running" and status["shards_total"] == 1

        cli.eventually(has_begun, "the run has begun")
        pids = self.rank_pids()
        self.assertEqual(sorted(pids), [0, 1, 2, 3])
        shares = {rank: [] for rank in sorted(pids)}
        for _ in range(WINDOWS):
            begin, before = time.monotonic(), {rank: cpu_seconds(pid) for rank, pid in pids.items()}
            time.sleep(WINDOW_SECONDS)
            seconds = time.monotonic() - begin
            for rank, pid in pids.items():
                shares[rank].append((cpu_seconds(pid) - before[rank]) / seconds)
        self.assertEqual(running.end().status, cli.EXIT_DONE)
        shares = {rank: min(of_windows) for rank, of_windows in shares.items()}
        text = ", ".join(f"rank {rank} {share:.1%}" for rank, share in shares.items())
        print(f"CPU time of a core without work, in the cheapest of {WINDOWS} windows of "
              f"{WINDOW_SECONDS} s: {text}")
        for rank, share in shares.items():
            self.assertLess(share, SHARE_MAX, f"rank {rank}")


if __name__ == "__main__":
    cli.main()
