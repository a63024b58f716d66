"""A payload becomes what is asked for, or is told by the path of its field, in bounded words."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import annotated_types
import msgpack
import msgspec
import pydantic
import pytest
from typing_extensions import TypedDict

from rabbitray.actors.errors import InvalidPayloadError
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.message.wire.documents import unpack
from rabbitray.actors.worker.handler.conversion import converter
from tests.kit.asking_handlers import Data, Line, Line2, Mapped, Model, NoData, Order

ORDER = {"id": "o-1", "lines": [{"price": 9.5}]}
NUMBER = "00000000-0000-0000-0000-000000000007"


class Colour(Enum):
    RED = "red"


class Strict(pydantic.BaseModel, strict=True):
    at: datetime
    number: UUID
    count: int = 0


class Small(msgspec.Struct, forbid_unknown_fields=True):
    count: int

    def __post_init__(self) -> None:
        if self.count > 5:
            raise ValueError(f"{self.count} is too many")


@dataclasses.dataclass
class WithModel:
    model: Model


class Pair(NamedTuple):
    a: int
    b: str


class MapWithModel(TypedDict):
    model: Line2


@pytest.mark.parametrize(
    ("wanted", "payload", "becomes"),
    [
        (Order, ORDER, Order(id="o-1", lines=[Line(price=9.5)])),
        (Data, ORDER, Data(id="o-1", lines=[Line(price=9.5)])),
        (Mapped, ORDER | {"more": 1}, {"id": "o-1", "lines": [Line(price=9.5)]}),
        (Model, ORDER, Model(id="o-1", lines=[Line2(price=9.5)])),
        (list[Model], [ORDER], [Model(id="o-1", lines=[Line2(price=9.5)])]),
        (WithModel, {"model": ORDER}, WithModel(Model(id="o-1", lines=[Line2(price=9.5)]))),
        (MapWithModel, {"model": {"price": 1}}, {"model": Line2(price=1.0)}),
        (Pair, [1, "b"], Pair(1, "b")),
        (dict, ORDER, ORDER),
        (dict[str, object], ORDER, ORDER),
        (dict[str, Any], ORDER, ORDER),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (dict[int, str], {1: "a"}, {1: "a"}),
        (list, [1, "a"], [1, "a"]),
        (set[int], [1, 2, 1], {1, 2}),
        (str, "text", "text"),
        (bytes, b"\xff", b"\xff"),
        (float, 1, 1.0),
        (datetime, "2026-01-02T12:00:00Z", datetime(2026, 1, 2, 12, tzinfo=UTC)),
        (Colour, "red", Colour.RED),
        (Order | None, None, None),
        (Data | Pair | None, None, None),
        (Annotated[int, msgspec.Meta(gt=0)], 3, 3),
        (Annotated[int, annotated_types.Gt(0)], 4, 4),
        (pydantic.PositiveInt, 5, 5),
        (
            Strict,
            {"at": "2026-01-02T12:00:00Z", "number": NUMBER},
            Strict(at=datetime(2026, 1, 2, 12, tzinfo=UTC), number=UUID(NUMBER)),
        ),
    ],
)
def test_a_payload_becomes_what_is_asked_for(wanted: Any, payload: Any, becomes: Any) -> None:
    found = converter(wanted)(payload)
    assert (found, type(found)) == (becomes, type(becomes))


class Timed(msgspec.Struct):
    at: datetime
    all: list[datetime] = []


class TimedModel(pydantic.BaseModel):
    at: datetime


@pytest.mark.parametrize("wanted", [Timed, TimedModel, Strict])
def test_a_time_of_msgpack_is_a_datetime_for_who_asks_for_one(wanted: Any) -> None:
    at = datetime(2026, 1, 2, 12, tzinfo=UTC)
    sent = wanted.model_construct(at=at, number=UUID(NUMBER)).model_dump() if wanted is Strict else {"at": at}
    body = msgspec.msgpack.encode(sent | {"all": [at]})
    payload = unpack(body, MessageLimits())
    payload |= {"number": UUID(NUMBER)} if wanted is Strict else {}
    found = converter(wanted)(payload)
    assert found.at == at
    assert getattr(found, "all", [at]) == [at]


def test_a_time_beyond_any_calendar_does_not_fit() -> None:
    with pytest.raises(InvalidPayloadError, match=r"\$\.at: "):
        converter(Timed)({"at": msgpack.Timestamp(2**60)})


@pytest.mark.parametrize(
    ("wanted", "payload", "says"),
    [
        (Order, {"id": "o", "lines": [{"price": 1}, {"price": "x"}]}, "$.lines[1].price: Expected float, got str"),
        (Data, {"id": "o", "lines": [{"price": "x"}]}, "$.lines[0].price: Expected float, got str"),
        (Mapped, {"id": "o"}, "$: Object missing required field `lines`"),
        (Order, [1], "$: Expected object, got array"),
        (dict[str, int], {1: 1}, "key in $: Expected str, got int"),
        (Small, {"count": 9}, "$: 9 is too many"),
        (list[Small], [{"count": 1, "unknown": 2}], "$[0]: Object contains unknown field `unknown`"),
        (Annotated[int, msgspec.Meta(gt=0)], 0, "$: Expected int >= 1"),
        (Model, {"lines": []}, "$.id: Field required"),
        (
            Model,
            {"id": "o", "lines": [{"price": "x"}] * 5},
            "; ".join(
                f"$.lines[{n}].price: Input should be a valid number, unable to parse string as a number"
                for n in range(3)
            )
            + "; and 2 more",
        ),
        (Annotated[int, annotated_types.Gt(0)], 0, "$: Input should be greater than 0"),
        (
            Strict,
            {"at": "2026-01-02T12:00:00Z", "number": NUMBER, "count": "1"},
            "$.count: Input should be a valid integer",
        ),
        (
            Strict,
            {"at": b"2026", "number": NUMBER},
            "$.at: Input should be a valid datetime; $.number: Input should be an instance of UUID",
        ),
    ],
)
def test_what_does_not_fit_is_told_by_the_path_of_the_field(wanted: Any, payload: Any, says: str) -> None:
    with pytest.raises(InvalidPayloadError) as caught:
        converter(wanted)(payload)
    assert str(caught.value) == says
    assert (caught.value.__cause__, caught.value.__context__) == (None, None), "they quote the payload"


def test_pydantic_does_not_quote_the_payload() -> None:
    with pytest.raises(InvalidPayloadError) as caught:
        converter(Model)({"id": ["s" * 1_000], "lines": "s" * 1_000})
    assert "sss" not in str(caught.value)


def test_an_error_of_a_validator_that_is_none_of_validation_passes_through() -> None:
    class Asking(pydantic.BaseModel):
        @pydantic.model_validator(mode="after")
        def ask(self) -> Asking:
            raise ConnectionError("the service is down")

    with pytest.raises(ConnectionError):
        converter(Asking)({})


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (NoData, "NoData is no type of data"),
        (list[tuple[NoData, int]], "NoData is no type of data"),
        (WithModel | NoData, "NoData"),
        ("nothing that is a type", "is not supported"),
        (3, "is not supported"),
        (Callable[[], int], "no type of data"),
        (type[NoData], "no type of data"),
    ],
)
def test_what_no_payload_can_become_is_refused_in_one_line(wanted: Any, says: str) -> None:
    with pytest.raises(TypeError) as caught:
        converter(wanted)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pydantic_is_imported_for_its_own_types_alone() -> None:
    script = (
        "import sys; from dataclasses import make_dataclass;"
        "from rabbitray.actors.worker.handler.loading import prepare;"
        "Order = make_dataclass('Order', [('id', str)]);"
        "\ndef handle(order): ...\n"
        "handle.__annotations__ = {'order': Order}; assert prepare(handle, 'it').asks.convert;"
        "print('pydantic' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
