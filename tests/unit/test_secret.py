"""Credentials do not show themselves."""

from __future__ import annotations

import pytest

from rabbitray.actors.secret import Secret, redact


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("amqp://u:p@h:5672/v failed", "amqp://***@h:5672/v failed"),
        ("amqps://u:p/w@x@h", "amqps://***@h"),
        ("two amqp://a:b@c and http://d:e@f", "two amqp://***@c and http://***@f"),
        ("http://host:80/path", "http://host:80/path"),
        ("https://token@host", "https://***@host"),
        ('{"u":"amqp://a:b@c","m":"x@y"}', '{"u":"amqp://***@c","m":"x@y"}'),
    ],
)
def test_credentials_in_a_text_are_hidden(text: str, hidden: str) -> None:
    assert redact(text) == hidden


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("s3cret")
    assert "s3cret" not in f"{secret} {secret!r} {secret:>10}" + str([secret])
    assert Secret(secret).reveal() == "s3cret"
