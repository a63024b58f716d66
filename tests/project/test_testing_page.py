"""The snippets of docs/testing.md run."""

from __future__ import annotations

import re

import pytest

from tests.kit.root import ROOT


def _snippets() -> list[str]:
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("snippet", _snippets())
def test_the_snippets_of_the_documentation(snippet: str) -> None:
    names: dict[str, object] = {}
    exec(snippet, names)
    tests = [function for name, function in names.items() if name.startswith("test_")]
    assert tests
    for function in tests:
        assert callable(function)
        function()
