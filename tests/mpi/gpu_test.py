"""Jobs whose ranks compute on a GPU: their results are those of the CPU, to the bit, also where the GPU fails or
hangs on the way. `Emulated` runs everywhere, on kernels that are compiled for the CPU; `Real` needs a GPU."""

import json
import os
import re
import subprocess

import cli

END_SECONDS_MAX = 60

JOBS = {
    "montecarlo": ("montecarlo", "--samples", 4000, "--shard-samples", 500),
    "mandelbrot": ("mandelbrot", "--size", "64x48", "--iterations", 200, "--counts"),
    "nbody": ("nbody", "--bodies", 60, "--blocks", 3, "--steps", 4),
    "heat": ("heat", "--grid", "40x36", "--blocks", 4, "--steps", 60, "--steps-at-once", 4),
    "heat in space": ("heat", "--grid", "14x12x10", "--blocks", 2, "--steps", 12),
    "cg": ("cg", "--laplacian", "12x10x6", "--blocks", 3),
}


class OnGpus(cli.CliTest):
    PROGRAM = None

    def run_job(self, job, *more, ranks=2):
        directory = self.new_dir()
        words = ["run", *job, "--dir", directory, "--seed", 5, "--progress", "none", *more, "-n", ranks]
        ended = self.regroup(*words, program=self.PROGRAM, seconds_max=END_SECONDS_MAX)
        self.assertEqual(ended.status, cli.EXIT_DONE, ended)
        return ended, (self.folder / directory / "result.h5").read_bytes()

    def lines_of_device(self, ended):
        return [line for line in ended.own_lines() if "its GPU" in line]

    def used(self, ended):
        """How many kernels ran, where that is known."""

    def test_results_are_those_of_the_cpu(self):
        for name, job in JOBS.items():
            with self.subTest(job=name):
                ended, result = self.run_job(job)
                self.assertEqual(self.lines_of_device(ended), [])
                self.assertNotEqual(self.used(ended), 0)
                plain, expected = self.run_job(job, "--gpus", "none")
                self.assertIn(self.used(plain), (0, None))
                self.assertEqual(result, expected)

    def test_a_gpu_that_fails_changes_no_result(self):
        for name, job in JOBS.items():
            with self.subTest(job=name):
                _, expected = self.run_job(job, "--gpus", "none")
                ended, result = self.run_job(job, "--inject", "gpu-error:rank=1,for=20ms")
                self.assertEqual(result, expected)
                self.assertNotEqual(self.used(ended), 0)

    def test_a_gpu_that_hangs_changes_no_result(self):
        for name in ("montecarlo", "heat", "cg"):
            with self.subTest(job=name):
                _, expected = self.run_job(JOBS[name], "--gpus", "none", ranks=1)
                ended, result = self.run_job(JOBS[name], "--inject", "gpu-hang:rank=0", "--gpu-timeout", 1, ranks=1)
                self.assertIn("a call has not come back for 1 s", self.lines_of_device(ended)[0])
                self.assertEqual(result, expected)

    def test_products_are_the_gpus_only_where_that_is_asked_for(self):
        job = ("matmul", "--rows", 60, "--columns", 50, "--inner", 40, "--panel", 8)
        plain, _ = self.run_job(job)
        self.assertIn(self.used(plain), (0, None))
        products = {}
        for more in ((), ("--inject", "gpu-error:rank=0")):
            ended, _ = self.run_job((*job, "--product-by", "gpu"), "--format", "json", *more, ranks=1)
            result = json.loads(ended.out)["result"]
            self.assertLessEqual(result["residual"], result["residual_bound"])
            products[more] = (result["products_by_gpu"], result["products_by_cblas"])
        all_products = sum(products[()])
        self.assertEqual(products[()], (all_products, 0))
        self.assertEqual(products[("--inject", "gpu-error:rank=0")], (0, all_products))


class Emulated(OnGpus):
    PROGRAM = os.environ.get("EMULATED_GPU_PROGRAM")

    def used(self, ended):
        return sum(map(int, re.findall(rb"emulated GPU: (\d+) kernels", ended.err)))


class Real(OnGpus):
    PROGRAM = cli.REGROUP

    def setUp(self):
        super().setUp()
        found = subprocess.run([cli.REGROUP, "topology"], capture_output=True, text=True, check=False)
        if re.search(r"\b0\s+GPUs", found.stdout):
            self.skipTest("no GPU that this build can use")


del OnGpus  # itself it is no test


if __name__ == "__main__":
    cli.main()
