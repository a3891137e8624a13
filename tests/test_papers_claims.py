"""The rule by which docs/papers.md says that a claim holds: on made-up runs whose answer is known."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "papers_claims.py"
NOISE = (0.001, -0.001, 0.0005, -0.0005, 0.0)
"""Of five seeds: mean 0, standard deviation 0.00079; the paired t is 2830 times a difference."""


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    spec = importlib.util.spec_from_file_location("papers_claims", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["papers_claims"] = module
    spec.loader.exec_module(module)
    return module


def runs(**means: float) -> dict[tuple[str, str], dict[int, dict[str, float | None]]]:
    """Of two arms `better` and `worse`; the noise is that of the better."""
    return {
        ("retinanet", name): {
            seed: {"AP": mean + (noise if name == "better" else 0)} for seed, noise in enumerate(NOISE)
        }
        for name, mean in means.items()
    }


def verdict(claims: ModuleType, made: object, *, same: bool = False, beside: int = 0) -> tuple[str, str]:
    own = claims.Claim(
        number="1", words="", paper="", shown="", parts=((1, "better", "AP"), (-1, "worse", "AP")), same=same
    )
    unmeasured = claims.Claim(number="2", words="", paper="", shown="", parts=((1, "never run", "AP"),))
    found = claims.findings([own, *[unmeasured] * beside], made)[0]
    return found.verdict, found.interval


def test_a_difference_holds_in_the_claimed_direction_alone(claims: ModuleType):
    assert verdict(claims, runs(better=0.31, worse=0.30)) == ("holds here", "+0.010 (+0.009 … +0.011)")
    assert verdict(claims, runs(better=0.29, worse=0.30))[0] == "contradicted here"
    assert verdict(claims, runs(better=0.3005, worse=0.30))[0] == "not shown here"


def test_holm_counts_the_rows_that_are_not_measured_yet(claims: ModuleType):
    # t = 3.54 with four degrees of freedom is p = 0.024: enough for one row, not for three.
    made = runs(better=0.30125, worse=0.30)
    assert verdict(claims, made)[0] == "holds here"
    assert verdict(claims, made, beside=2)[0] == "not shown here"


def test_no_difference_must_be_shown_too(claims: ModuleType):
    assert verdict(claims, runs(better=0.305, worse=0.30), same=True)[0] == "holds here"  # within 0.01, and known to be
    assert verdict(claims, runs(better=0.33, worse=0.30), same=True)[0] == "contradicted here"
    assert verdict(claims, runs(better=0.3099, worse=0.30), same=True)[0] == "not shown here"


def test_seeds_pair_and_four_are_no_verdict(claims: ModuleType):
    made = runs(better=0.31, worse=0.30)
    del made["retinanet", "worse"][2]
    assert verdict(claims, made) == ("", "+0.010 (+0.009 … +0.011, 4 seeds)")
    assert verdict(claims, runs(better=0.31)) == ("", "")
    made["retinanet", "better"][0]["AP"] = None  # no object of this size: no difference either
    assert "3 seeds" in verdict(claims, made)[1]


def test_every_claim_is_a_difference_with_a_number_of_its_own(claims: ModuleType):
    numbers = [claim.number for claim in (*claims.CLAIMS, *claims.CHOICES)]
    assert len(set(numbers)) == len(numbers)
    for claim in (*claims.CLAIMS, *claims.CHOICES):
        # A difference between arms: what all seeds share drops out, but for a claim about shares of a gain.
        assert sum(factor for factor, _, _ in claim.parts) == pytest.approx(0)
