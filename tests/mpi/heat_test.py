"""heat from a picture to a picture: what a plain loop finds, whoever dies on the way."""

import random
import shutil

import cli
import png_file

COLUMNS, ROWS, STEPS = 40, 30, 12
DIFFUSION_NUMBER = 0.9 / 4  # of the default time step


def diffused(rows):
    """After one step, with 0 around."""
    def at(x, y):
        return rows[y][x] if 0 <= x < COLUMNS and 0 <= y < ROWS else 0.0

    return [[rows[y][x] + DIFFUSION_NUMBER * (at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1) - 4 * rows[y][x])
             for x in range(COLUMNS)] for y in range(ROWS)]


class Heat(cli.CliTest):
    def start_picture(self, bits):
        seeded = random.Random(bits)
        rows = [[seeded.randrange(2**bits) for _ in range(COLUMNS)] for _ in range(ROWS)]
        self.write("start.png", png_file.grey(rows, bits))
        return [[sample / (2**bits - 1) for sample in row] for row in rows]

    def test_the_picture_shows_what_a_plain_loop_finds(self):
        for bits in (8, 16):
            with self.subTest(bits=bits):
                rows = self.start_picture(bits)
                everything = [number for row in rows for number in row]
                summary = self.summary("heat", "--input", "start.png", "--steps", STEPS, "--blocks", 6, ranks=3)
                for _ in range(STEPS):
                    rows = diffused(rows)
                result = summary["result"]
                self.assertAlmostEqual(result["start_mean"], sum(everything) / len(everything), places=12)
                self.assertEqual((result["start_least"], result["start_greatest"]), (min(everything), max(everything)))
                self.assertEqual(result["beyond_range"], 0)
                self.assertAlmostEqual(result["greatest"], max(map(max, rows)), places=12)
                self.assertAlmostEqual(result["least"], min(map(min, rows)), places=12)
                pixels = png_file.read(self.folder / summary["pictures"][0])
                self.assertEqual((len(pixels), len(pixels[0])), (ROWS, COLUMNS))
                # viridis grows lighter all the way.
                ordered = sorted((rows[y][x], pixels[y][x][1]) for y in range(ROWS) for x in range(COLUMNS))
                green = [pixel for _, pixel in ordered]
                self.assertEqual(green, sorted(green))
                self.assertEqual((min(green), max(green)), (1, 231))

    def test_a_death_changes_no_bit(self):
        self.start_picture(8)
        job = ("heat", "--input", "start.png", "--steps", 40_000, "--blocks", 8)
        expected, _ = self.run_job(*job, dir="expected")
        for fault in ("kill:rank=2,at=300ms", "kill:coordinator,at=300ms"):
            with self.subTest(fault=fault):
                summary = self.summary(*job, "--inject", fault, ranks=4)
                self.assertEqual(summary["failures_survived"], 1)
                for name in ("result.h5", "heat.png", "result.xdmf"):
                    found = (self.folder / summary["dir"] / name).read_bytes()
                    self.assertTrue(found == (expected / name).read_bytes(), name)
                verified = self.regroup("verify", summary["dir"])
                self.assertEqual(verified.status, cli.EXIT_DONE, verified)
                shutil.rmtree(self.folder / summary["dir"])

    def test_a_result_is_a_start_again(self):
        self.start_picture(8)
        job = ("heat", "--blocks", 4)
        at_once = self.summary(*job, "--input", "start.png", "--steps", 20)["result"]
        self.summary(*job, "--input", "start.png", "--steps", 8, ranks=2, dir="half")
        again = self.summary(*job, "--input", "half/result.h5:/result/temperature", "--steps", 12)["result"]
        for name in ("mean", "least", "greatest"):
            self.assertEqual(again[name], at_once[name])

    def test_bad_input_is_one_line_and_no_directory(self):
        self.start_picture(8)
        whole = (self.folder / "start.png").read_bytes()
        self.write("cut.png", whole[:-40])
        self.write("text.png", "no picture")
        self.write("cut.h5", b"\x89HDF\r\n\x1a\n" + bytes(100))
        before = self.listing()
        for words in (["--input", "none.png"], ["--input", "cut.png"], ["--input", "text.png"], ["--input", "cut.h5"],
                      ["--input", "cut.h5:/a"], ["--input", "start.png", "--grid", "10x10"],
                      ["--input", "start.png", "--start", "spot"], ["--input", "start.png", "--time-step", 1],
                      ["--grid", "4x4", "--blocks", 17], ["--grid", "0x4"], ["--grid", "-4x4"],
                      ["--time-step", "nan"], ["--diffusivity", "nan"]):
            for ranks in ([], ["-n", 2]):
                with self.subTest(words=words, ranks=ranks):
                    ended = self.regroup("run", "heat", *words, *ranks)
                    self.assertEqual(ended.status, cli.EXIT_BAD_INPUT, ended)
                    self.assertEqual(len(ended.err.splitlines()), 1, ended)
                    self.assertEqual(self.listing(), before)


if __name__ == "__main__":
    cli.main()
