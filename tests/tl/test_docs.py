"""Docstrings of functions on AnnData: complete, with the shared texts filled in."""

from __future__ import annotations

import inspect
import re

import pytest

import ipar

FUNCTIONS = [
    getattr(module, name)
    for module in (ipar.pp, ipar.tl)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_parameter_is_documented(function):
    text = inspect.cleandoc(function.__doc__)
    assert "%(" not in text
    listed = re.search(r"Parameters\n-+\n(.*?)\n\n[A-Z]\w+\n-+\n", text, flags=re.DOTALL)[1]
    names = [name.strip() for line in listed.splitlines() if line[:1].strip() for name in line.split(",")]
    assert sorted(names) == sorted(inspect.signature(function).parameters)
