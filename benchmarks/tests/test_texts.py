from __future__ import annotations

import re

import pytest

from benchmarks import localisability, speed
from benchmarks.ablations import texts
from benchmarks.dissociated import texts as dissociated_texts
from benchmarks.family import report as family_report
from benchmarks.pages import ablations, questions, tables

MODULES = (texts, dissociated_texts, family_report, questions, tables, ablations, localisability, speed)
TEXTS = {
    f"{module.__name__.removeprefix('benchmarks.')}.{name}": value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, str) and name.strip("_").isupper() and "\n" in value
} | {"family reading": family_report.READING.read_text(encoding="utf-8")}


@pytest.mark.parametrize("name", TEXTS)
def test_figures_come_from_records(name):
    text = re.sub(r"\{[^{}]*\}", "", TEXTS[name]).replace("F1@1 %", "")  # what is filled in, and the name of a score
    assert not re.search(r"\d\s?%|\d\.\d|(?<!\w)\.\d", text)
