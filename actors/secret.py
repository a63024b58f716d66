"""Secret: a text that does not show itself; Redactor and `redact` take secrets out of texts that may hold one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

MASK: Final = "***"

ANYWHERE_CHARS: Final = 8
ALONE_CHARS: Final = 4
PUBLIC: Final = frozenset({"guest"})

_WORD_OF_URL: Final = re.compile(r"""://[^\s"'<>]*+""")
_USER: Final = re.compile("[^/:@]*+")
_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986, unreserved
_LETTERS: Final = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f", "\v": "v", "\a": "a", "\0": "0"}
_SHOWN_LOGIN: Final = f"://{MASK}"
_LONGEST_FORM: Final = 64
"""More than the characters in which `_form_of` finds one character of a secret."""


class Secret:
    """A text whose `repr`, `str` and format show `***`; only `reveal()` gives it out.

    Pickling carries the text itself, since another process has to connect with it: pickle it into a channel
    that you trust, never into a log.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | Secret) -> None:
        self._value: str = value.reveal() if isinstance(value, Secret) else value

    def reveal(self) -> str:
        """Return the text itself; the caller keeps it out of logs, spans, argv and errors."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> tuple[type[Secret], tuple[object, ...]]:
        return Secret, (self._value,)


class Redactor:
    """Hides in texts of ours the secrets that a process knows, and the credentials of every URL. Linear in the text.

    A secret is a URL (or several) of which user and password are meant, or the text itself. It is found as it is,
    percent-encoded, and as repr and JSON write it. A password of ANYWHERE_CHARS or more is hidden wherever it stands,
    one of ALONE_CHARS or more where no letter, digit or `_` is beside it, a shorter one and `guest` only in a URL, and
    so the user.
    """

    __slots__ = ("_known", "_logins", "_passwords", "_reach", "_secrets")

    def __init__(self, *secrets: Secret) -> None:
        self._secrets = secrets
        urls = [login for secret in secrets for url in _urls(secret.reveal()) for login in _logins(url)]
        words = [secret.reveal() for secret in secrets if "://" not in secret.reveal()]
        logins = [_of_login(user, password) for user, password in urls]
        passwords = [_of_password(text) for text in (*words, *(password for _, password in urls))]
        self._logins = _any_of(logins)
        self._passwords = _any_of(passwords)
        self._known = _any_of([*logins, *passwords])
        self._reach = _LONGEST_FORM * max((len(secret.reveal()) for secret in secrets), default=0)

    def __call__(self, text: str) -> str:
        """`text` without secrets."""
        if self._logins is not None and "://" in text:
            text = self._logins.sub(_SHOWN_LOGIN, text)
        return redact(text if self._passwords is None else self._passwords.sub(MASK, text))

    def cut(self, text: str, most: int) -> str:
        """The first `most` characters of `text` without secrets, also not with a part of one that the cut would leave.

        Costs as much as `most` characters, however long the text is.
        """
        if len(text) <= most:
            return self(text)[:most]
        return redact(self._head(text, most) + "@")[:-1][:most]  # a URL that is cut may have had its @ beyond

    def _head(self, text: str, most: int) -> str:
        """`text` up to `most` without known secrets; one that begins there is hidden as a whole."""
        if self._known is None:
            return text[:most]
        kept: list[str] = []
        at = 0
        for found in self._known.finditer(text[: most + self._reach]):
            if found.start() >= most:
                break
            kept += text[at : found.start()], _SHOWN_LOGIN if found[0].startswith("://") else MASK
            at = found.end()
        return "".join([*kept, text[at:most]])

    def with_secrets(self, *more: Secret) -> Redactor:
        """One that hides these, too."""
        return Redactor(*dict.fromkeys((*self._secrets, *more)))

    def __repr__(self) -> str:
        return f"Redactor({', '.join(map(repr, self._secrets))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Redactor) and other._secrets == self._secrets

    def __hash__(self) -> int:
        return hash((Redactor, self._secrets))

    def __reduce__(self) -> tuple[type[Redactor], tuple[Secret, ...]]:
        return Redactor, self._secrets


def redact(text: str) -> str:
    """Return `text` with the credentials of each URL in it hidden: `amqp://user:pw@host` -> `amqp://***@host`.

    For who does not know the password: one that holds a quote, `<`, `>` or a blank is not found. One that holds an
    unescaped `/`, `:` or `@` is hidden too; where that is ambiguous it hides more. Linear in the text.
    """
    return _WORD_OF_URL.sub(_without_users, text) if "://" in text else text


def several(urls: Secret) -> tuple[Secret, ...]:
    """The URLs of a secret that holds some, separated by blanks or lines, in order; one that is there twice once."""
    return tuple(Secret(text) for text in dict.fromkeys(urls.reveal().split()))


def without_credentials(url: Secret) -> str:
    """A URL for people: whatever stands before its last `@` is hidden, whether it was written as it should or not.

    Of several, separated by blanks, each.
    """
    return " ".join(_shown(text) for text in _urls(url.reveal()))


def _without_users(word: re.Match[str]) -> str:
    """A URL and what follows it up to a blank or a quote, which may be URLs again."""
    text = word[0]
    last = text.rfind("@")
    kept: list[str] = []
    at = 0
    while 0 <= (mark := text.find("://", at)) < last - 2:
        begin = mark + 3
        end = _USER.match(text, begin).end()  # type: ignore[union-attr] # it matches an empty text too
        if text[end] == ":":
            return f"{''.join(kept)}{text[at:begin]}{MASK}{text[last:]}"
        kept += text[at:begin], MASK if text[end] == "@" else text[begin:end]
        at = end
    return "".join([*kept, text[at:]]) if at else text


def _urls(text: str) -> list[str]:
    """The URLs of a text that holds nothing else; any other text as a whole."""
    parts = text.split()
    return parts if parts and all("://" in part for part in parts) else [text]


def _shown(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}{mark}{MASK}@{place}" if at and credentials else url


def _logins(url: str) -> Iterator[tuple[str, str]]:
    """(user, password) of a URL as RFC 3986 reads it, and as it was meant where a `/`, `?` or `#` is not encoded."""
    rest = url.partition("://")[2]  # nothing, of a secret that is no URL
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    for part in dict.fromkeys((authority, rest)):
        login, at, _ = part.rpartition("@")
        user, _, password = login.partition(":")
        if at:
            yield user, password


def _any_of(patterns: list[str]) -> re.Pattern[str] | None:
    found = dict.fromkeys(filter(None, patterns))
    return re.compile("|".join(found)) if found else None


def _of_login(user: str, password: str) -> str:
    """In a URL."""
    return "://" + _forms(user) + (f":{_forms(password)}" if password else "") + "(?=@)"


def _of_password(text: str) -> str:
    """Wherever it may stand; an empty pattern for one that is not looked for outside a URL."""
    plain = unquote(text)
    if len(plain) < ALONE_CHARS or plain in PUBLIC:
        return ""
    return _forms(text) if len(plain) >= ANYWHERE_CHARS else rf"(?<!\w){_forms(text)}(?!\w)"


def _forms(text: str) -> str:
    """`text` as it is written, and decoded, in each of the forms of its characters."""
    plain = unquote(text)
    decoded, slashes = "", 0
    for char in plain:
        if char == "\\":
            slashes += 1
            continue
        decoded += _slashes(slashes, char) + _form_of(char)
        slashes = 0
    decoded += _slashes(slashes, "")
    return decoded if plain == text else f"(?:{decoded}|{re.escape(text)})"


def _slashes(count: int, before: str) -> str:
    """So many backslashes, each doubled up to four times by repr or JSON, and those that escape the next character."""
    if not count:
        return "" if before in _PLAIN else r"\\{0,8}+"
    return rf"(?:\\{{{count},{16 * count + 8}}}+|(?:%(?:25){{0,2}}5[cC]){{{count}}})"


def _form_of(char: str) -> str:
    """A character: itself, percent-encoded (up to three times), or as an escape of repr or JSON without backslash."""
    if char in _PLAIN:
        return re.escape(char)
    code, encoded = ord(char), char.encode("utf-8", "replace")
    forms = [re.escape(char), "".join(rf"%(?:25){{0,2}}{byte:02x}" for byte in encoded), rf"u{code:04x}"]
    forms += [r"\\{1,8}+".join(f"x{byte:02x}" for byte in encoded), f"x{code:02x}", f"u{code:08x}"]
    if code > 0xFFFF:
        pair = char.encode("utf-16-be").hex()
        forms.append(rf"u{pair[:4]}\\{{1,8}}+u{pair[4:]}")
    forms += [_LETTERS[char]] if char in _LETTERS else []
    forms += [r"\+"] if char == " " else []
    return f"(?:(?i:{'|'.join(dict.fromkeys(forms[1:]))})|{forms[0]})"


NO_SECRETS: Final = Redactor()
"""Of who knows none: the credentials of URLs are hidden."""
