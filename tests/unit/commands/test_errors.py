"""How a command ends that could not do its work."""

from __future__ import annotations

import click
import pytest
from click.exceptions import Exit

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.secret import Redactor, Secret
from rabbitray.cluster.cli.errors import errors_told
from tests.kit.canary import new_canary


@pytest.mark.parametrize(("kind", "code"), [(ConfigurationError, 2), (ValueError, 1)])
def test_an_error_is_told_without_secrets(capsys: pytest.CaptureFixture[str], kind: type[Exception], code: int) -> None:
    canary = new_canary()
    url = f"amqp://user:{canary.in_url}@host/"
    with pytest.raises(Exit) as ended, errors_told(Redactor(Secret(url))):
        raise kind(canary.careless(url))
    assert ended.value.exit_code == code
    told = capsys.readouterr().err
    assert "cannot reach amqp://host by amqp://***@host/" in told
    assert ("Traceback" in told) == (code == 1)
    assert canary.word not in told


def test_what_click_says_itself_passes_through() -> None:
    for error in (click.UsageError("no"), click.Abort(), Exit(3)):
        with pytest.raises(type(error)), errors_told(Redactor()):
            raise error
