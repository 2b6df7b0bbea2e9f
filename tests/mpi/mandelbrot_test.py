"""mandelbrot shows what a plain loop finds, whoever dies on the way: the result's bytes, and every pixel
of the picture beside it."""

import cli
import png_file

COLUMNS, ROWS, ITERATIONS = 64, 48, 60
CENTRE, WIDTH = (-0.6, 0.1), 3.0
JOB = ("mandelbrot", "--size", f"{COLUMNS}x{ROWS}", "--centre", f"{CENTRE[0]},{CENTRE[1]}", "--width", WIDTH,
       "--iterations", ITERATIONS, "--shard-rows", 1)
BLACK = (0, 0, 0)
# In the bud of period 3, where nothing is known of a point before all its steps are done.
LONG_JOB = ("mandelbrot", "--size", "64x48", "--centre", "-0.1226,0.7449", "--width", 0.3, "--iterations", 400_000,
            "--shard-rows", 1, "--batch", 1)


def steps_to_escape(column, row):
    spacing = WIDTH / COLUMNS
    c = complex(CENTRE[0] + (column - (COLUMNS - 1) / 2) * spacing, CENTRE[1] + ((ROWS - 1) / 2 - row) * spacing)
    z = c
    for step in range(ITERATIONS):
        if z.real * z.real + z.imag * z.imag > 4:
            return step
        z = z * z + c
    return ITERATIONS


class Mandelbrot(cli.CliTest):
    def test_the_picture_shows_what_a_plain_loop_finds(self):
        directory, ended = self.run_job(*JOB, ranks=2)
        self.assertEqual(ended.out.splitlines()[-1], f"picture: {directory.name}/mandelbrot.png".encode())
        pixels = png_file.read(directory / "mandelbrot.png")
        self.assertEqual((len(pixels), len(pixels[0])), (ROWS, COLUMNS))
        colours = {}
        for y in range(ROWS):
            for x in range(COLUMNS):
                colours.setdefault(steps_to_escape(x, y), set()).add(pixels[y][x])
        self.assertEqual(colours.pop(ITERATIONS), {BLACK})
        self.assertGreater(len(colours), 10)
        ordered = [colours[count] for count in sorted(colours)]
        self.assertTrue(all(len(of_one) == 1 for of_one in ordered), colours)
        green = [next(iter(of_one))[1] for of_one in ordered]
        self.assertEqual(green, sorted(green))

    def test_a_death_changes_no_bit(self):
        expected, _ = self.run_job(*LONG_JOB, dir="expected")
        for rank in (2, 0):
            with self.subTest(rank=rank):
                fault = f"kill:rank={rank},after-shards=2"
                summary = self.summary(*LONG_JOB, "--inject", fault, ranks=4, dir=f"without-{rank}")
                self.assertEqual(summary["failures_survived"], 1)
                self.assertEqual(summary["pictures"], [summary["dir"] + "/mandelbrot.png"])
                for name in ("result.h5", "mandelbrot.png"):
                    found = (self.folder / summary["dir"] / name).read_bytes()
                    self.assertTrue(found == (expected / name).read_bytes(), name)
                verified = self.regroup("verify", summary["dir"])
                self.assertEqual(verified.status, cli.EXIT_DONE, verified)

    def test_a_damaged_picture_is_named(self):
        directory, _ = self.run_job(*JOB)
        path = directory / "mandelbrot.png"
        whole = path.read_bytes()
        for damaged in (whole[:-20], whole[:500] + bytes([whole[500] ^ 4]) + whole[501:], b""):
            path.write_bytes(damaged)
            verified = self.regroup("verify", directory.name)
            self.assertEqual(verified.status, 1, verified)
            self.assertIn(b"problem: mandelbrot.png: ", verified.out)
        path.unlink()
        self.assertEqual(self.regroup("verify", directory.name).status, 1)

    def test_a_disk_that_is_full_for_the_picture_ends_the_run(self):
        self.need_mounts()
        words = f"mount -t tmpfs -o size=6148k tmpfs small && exec {cli.REGROUP} run mandelbrot --dir small/run " \
                "--size 1920x1080 --iterations 200 --progress none"
        (self.folder / "small").mkdir()
        ended = self.start(["unshare", "--mount", "sh", "-c", words]).end()
        self.assertEqual(ended.status, cli.EXIT_NOT_RECOVERED, ended)
        self.assertRegex(ended.err, rb"mandelbrot\.png[^\n]*: No space left on device; make room")


if __name__ == "__main__":
    cli.main()
