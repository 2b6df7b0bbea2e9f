"""side_by_side.py SCRIPT CASE...: runs the cases of a test script at the same time, each in a process and
on nodes of its own: for tests that do little more than to wait. Shows what each said, one after the other;
its status is 0 if all passed, 77 if all were skipped, else 1."""

import pathlib
import subprocess
import sys

SKIPPED_STATUS = 77


def main(script, *cases):
    path = pathlib.Path(__file__).resolve().with_name(script)
    running = {
        case: subprocess.Popen(
            [sys.executable, str(path), case], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        for case in cases}
    statuses = []
    for case, process in running.items():
        said, _ = process.communicate()
        print(f"---- {case}: status {process.returncode}", flush=True)
        sys.stdout.buffer.write(said)
        sys.stdout.buffer.flush()
        statuses.append(process.returncode)
    if all(status == SKIPPED_STATUS for status in statuses):
        return SKIPPED_STATUS
    return int(any(status not in (0, SKIPPED_STATUS) for status in statuses))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
