"""Credentials do not show themselves, whatever they are made of and however a text writes them."""

from __future__ import annotations

import json
import pickle
import re
import string
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from rabbitray.actors.secret import NO_SECRETS, Redactor, Secret, redact, without_credentials

LETTER = "canary"
PRINTABLE = "".join(sorted(set(string.printable)))
PASSWORDS = [f"{LETTER}{PRINTABLE[at : at + 5]}{LETTER}" for at in range(0, len(PRINTABLE), 5)]
PASSWORDS += [
    "canary'canary",
    "'canary\"",
    "\\canary\\\\",
    "canary é 😀 ß",
    "%27canary%",
    "100%canary",
    "a b+canary",
    "'''''''''",
]


def in_url(password: str) -> Secret:
    return Secret(f"amqp://user:{quote(password, safe='')}@host:5672/v")


def inside(text: str) -> str:
    """Without the quotes around it."""
    return text[1:-1]


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded, not all": quote,
    "percent-encoded in small letters": lambda text: re.sub("%..", lambda m: m[0].lower(), quote(text, safe="")),
    "percent-encoded twice": lambda text: quote(quote(text, safe=""), safe=""),
    "of a form": quote_plus,
    "by yarl": lambda text: str(URL.build(scheme="amqp", host="h", user="u", password=text)).split("u:", 1)[1][:-2],
    "repr": lambda text: inside(repr(text)),
    "repr with both quotes": lambda text: inside(repr(f"{text}'\""))[:-3],
    "repr twice": lambda text: inside(repr(inside(repr(text)))),
    "repr of bytes": lambda text: inside(repr(text.encode()))[1:],
    "ascii": lambda text: inside(ascii(text)),
    "JSON": lambda text: inside(json.dumps(text)),
    "JSON in UTF-8": lambda text: inside(json.dumps(text, ensure_ascii=False)),
    "JSON of JavaScript": lambda text: inside(json.dumps(text)).replace("/", "\\/"),
    "JSON in JSON": lambda text: inside(json.dumps(json.dumps(text)))[2:-2],
    "repr of JSON": lambda text: inside(repr(json.dumps(text)))[1:-1],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_known_password_is_hidden_in_every_form(form: str) -> None:
    for password in PASSWORDS:
        hide, written = Redactor(in_url(password)), FORMS[form](password)
        assert hide(f"x {written} y") == "x *** y", (form, password)
        assert hide(f"amqp://user:{written}@host") == "amqp://***@host", (form, password)


@given(password=st.text(st.characters(codec="utf-8"), min_size=8, max_size=20), form=st.sampled_from(sorted(FORMS)))
def test_a_known_password_of_any_characters_is_hidden_in_every_form(password: str, form: str) -> None:
    assert "***" in Redactor(in_url(password))(f"x{FORMS[form](password)}y")
    assert Redactor(Secret(password))(f"x{password}y") == "x***y"


def test_the_password_is_also_known_as_it_was_written() -> None:
    over = "".join(f"%{ord(char):02x}" for char in "canarybird")
    assert Redactor(Secret(f"amqp://user:{over}@h"))(f"{over} canarybird") == "*** ***"


@pytest.mark.parametrize("password", ["pw/canary?x", "pw#canary@x", "p@ss@canary", "pw?canary[1]"])
def test_a_password_that_should_have_been_encoded_is_hidden(password: str) -> None:
    url = Secret(f"amqp://user:{password}@host:5672/v")
    assert Redactor(url)(f"no host {password}, {url.reveal()}") == "no host ***, amqp://***@host:5672/v"
    assert without_credentials(url) == "amqp://***@host:5672/v"


@pytest.mark.parametrize("short", ["a", "pw", "é'x", "'", "g s"])
def test_a_short_password_is_hidden_in_its_url_alone(short: str) -> None:
    text = f"a pw that is 'guest' by {short} at "
    written = f"amqp://us'er:{short}@host"
    hide = Redactor(Secret(f"amqp://us%27er:{quote(short, safe='')}@host"))
    assert hide(text + written) == text + "amqp://***@host"


def test_a_password_of_a_few_letters_is_hidden_where_it_stands_alone() -> None:
    hide = Redactor(Secret("amqp://user:rabbit@host"))
    assert hide("'rabbit' of rabbitray, rabbit_x, user=rabbit.") == "'***' of rabbitray, rabbit_x, user=***."


def test_the_public_password_is_hidden_in_a_url_alone() -> None:
    hide = Redactor(Secret("amqp://guest:guest@host"))
    assert hide("user 'guest' refused at amqp://guest:guest@host") == "user 'guest' refused at amqp://***@host"


def test_the_user_is_hidden_in_a_url_alone() -> None:
    hide = Redactor(Secret("amqp://clerk:canarybird@host"))
    assert hide("clerk may not: amqp://clerk:canarybird@host") == "clerk may not: amqp://***@host"


def test_a_secret_that_is_no_url_is_hidden_itself() -> None:
    assert Redactor(Secret("token-123"))("with token-123!") == "with ***!"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("amqp://u:p@h:5672/v failed", "amqp://***@h:5672/v failed"),
        ("amqps://u:p/w@x@h", "amqps://***@h"),
        ("two amqp://a:b@c and http://d:e@f", "two amqp://***@c and http://***@f"),
        ("two http://c/x,amqp://a:b@c", "two http://c/x,amqp://***@c"),
        ("two amqp://a@b,amqp://c@d", "two amqp://***@b,amqp://***@d"),
        ("http://host:80/path", "http://host:80/path"),
        ("http://host/path@x", "http://host/path@x"),
        ("https://token@host", "https://***@host"),
        ('{"u":"amqp://a:b@c","m":"x@y"}', '{"u":"amqp://***@c","m":"x@y"}'),
        ("a@b :// c@d", "a@b :// c@d"),
        ("://", "://"),
    ],
)
def test_credentials_in_a_text_are_hidden(text: str, hidden: str) -> None:
    assert redact(text) == hidden


def test_a_cut_text_holds_no_part_of_a_password() -> None:
    url = "amqp://USER:QXZ'QXZ%QXZ@host/ and QXZ'QXZ%QXZ"
    for before in range(60):
        text = "-" * before + url + "." * 100
        hidden = Redactor(Secret("amqp://USER:QXZ%27QXZ%25QXZ@host")).cut(text, 60)
        assert len(hidden) <= 60
        assert not set("QXZUSER%'") & set(hidden), hidden
        unknown = NO_SECRETS.cut("-" * before + "amqp://USER:QXZ@host " + "." * 100, 60)
        assert not set("QXZUSER") & set(unknown), unknown


def test_a_text_is_cut_to_what_it_was() -> None:
    assert NO_SECRETS.cut("abc", 3) == NO_SECRETS.cut("abcd", 3) == "abc"
    assert NO_SECRETS.cut("see http://host/path, x@y", 18) == "see http://host/pa"
    assert Redactor(Secret("b" * 8)).cut("a" + "b" * 8 + "c" * 9, 6) == "a***cc"[:4]


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("s3cret")
    assert "s3cret" not in f"{secret} {secret!r} {secret:>10}" + str([secret])
    assert Secret(secret).reveal() == "s3cret"


def test_a_redactor_shows_nothing_and_travels() -> None:
    hide = Redactor(Secret("amqp://user:canarybird@host"))
    assert "canary" not in f"{hide} {hide!r}"
    travelled = pickle.loads(pickle.dumps(hide))
    assert (travelled, hash(travelled)) == (hide, hash(hide))
    assert travelled("canarybird") == "***"
