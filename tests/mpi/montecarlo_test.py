"""montecarlo estimates what it says it does, and its seed decides the result."""

import math

import cli

SAMPLES = 4_000_000
ERRORS_MAX = 5  # in standard errors: a sound estimate is further off once in 1.7 million


def black_scholes(kind, spot=100.0, strike=100.0, rate=0.05, volatility=0.2, years=1.0):
    """The closed form of Black and Scholes (1973), in the notation of Hull."""
    def normal(x):
        return 0.5 * math.erfc(-x / math.sqrt(2))

    spread = volatility * math.sqrt(years)
    d1 = (math.log(spot / strike) + (rate + volatility**2 / 2) * years) / spread
    discounted = strike * math.exp(-rate * years)
    call = spot * normal(d1) - discounted * normal(d1 - spread)
    return call if kind == "call" else call - spot + discounted


class MonteCarlo(cli.CliTest):
    def result(self, *words, ranks=4):
        return self.summary("montecarlo", "--samples", SAMPLES, *words, ranks=ranks)["result"]

    def check_estimate(self, result, name, truth):
        error = result[name + "_standard_error"]
        self.assertGreater(error, 0)
        self.assertLess(abs(result[name] - truth), ERRORS_MAX * error, result)

    def test_pi(self):
        result = self.result()
        self.assertEqual(result["samples"], SAMPLES)
        self.check_estimate(result, "pi", math.pi)
        self.assertLess(result["pi_standard_error"], 2 * 1.6422 / math.sqrt(SAMPLES))

    def test_european_prices(self):
        for kind, market in (("call", {}), ("put", {"strike": 110.0, "volatility": 0.35, "rate": 0.01})):
            words = [word for name, value in market.items() for word in (f"--{name}", value)]
            result = self.result("--kind", kind, *words)
            truth = black_scholes(kind, **market)
            self.assertAlmostEqual(result["european_black_scholes"], truth, places=9)
            self.check_estimate(result, "european", truth)

    def test_asian_average_over_one_date_is_the_european_option(self):
        result = self.result("--steps", 1)
        self.check_estimate(result, "asian", black_scholes("call"))

    def test_the_seed_decides(self):
        bytes_of = {}
        for run, seed in (("first", 1), ("again", 1), ("other", 2)):
            directory, _ = self.run_job(
                "montecarlo", "--samples", 100_000, "--seed", seed, ranks=2, dir=run)
            bytes_of[run] = (directory / "result.h5").read_bytes()
        self.assertTrue(bytes_of["first"] == bytes_of["again"])
        values = [self.results(run) for run in ("first", "other")]
        for first, other in zip(*(value.split(b"\n")[1:5] for value in values)):
            if b"black_scholes" not in first:
                self.assertNotEqual(first, other)


if __name__ == "__main__":
    cli.main()
