"""What goes within a call, by the environment of the process."""

from __future__ import annotations

import pytest

from rabbitray.actors.remote.inline import INLINE_BYTES, RAYS_BYTES, goes_inline, inline_environment

VARIABLE = "RAY_max_direct_call_object_size"


@pytest.mark.parametrize(
    ("told", "bound"),
    [(None, RAYS_BYTES), ("5000000", 5_000_000), (str(INLINE_BYTES), INLINE_BYTES), ("much", RAYS_BYTES)],
)
def test_the_environment_says_what_goes_inline(monkeypatch: pytest.MonkeyPatch, told: str | None, bound: int) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if told is not None:
        monkeypatch.setenv(VARIABLE, told)

    assert goes_inline(bound - 4096)
    assert not goes_inline(bound)


def test_who_has_chosen_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert inline_environment() == {VARIABLE: str(INLINE_BYTES)}

    monkeypatch.setenv(VARIABLE, "1")
    assert inline_environment() == {}
