"""FakePool: a running pool that only answers, from a script."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class FakePool:
    """Answers `ask` from a script: a value, an error to raise, or a list of them, one for each call."""

    def __init__(self, **answers: Any) -> None:
        self.name = "jobs"
        self.asked: list[tuple[str, str, tuple[object, ...]]] = []
        self._answers = {name: list(one) if isinstance(one, list) else one for name, one in answers.items()}

    def ask(self, actor: str, method: str, *arguments: object, within_s: float = 1.0) -> Any:
        self.asked.append((actor, method, arguments))
        answer = self._answers[f"{actor}_{method}"]
        answer = answer.pop(0) if isinstance(answer, list) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def report(self, *, within_s: float = 1.0) -> Any:
        return self.ask("router", "report", within_s=within_s)

    def stream(self, actor: str, method: str, *arguments: object) -> Iterator[Any]:
        self.asked.append((actor, method, arguments))
        yield from self._answers[f"{actor}_{method}"]
