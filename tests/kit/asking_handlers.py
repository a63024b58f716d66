"""Handlers that ask for more than the job, or say nothing of it: in every shape, annotated by text as most are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Generic, NewType, Protocol, TypedDict, TypeVar

import msgspec
import pydantic

import rabbitray
from rabbitray import Job, Message, batch

if TYPE_CHECKING:
    from rabbitray import Job as Task
    from tests.kit.nowhere import Database  # type: ignore[import-not-found] # as names are that only a checker sees

P = TypeVar("P")
O = TypeVar("O", bound="Order")  # noqa: E741 # short for what it is bound to


class Line(msgspec.Struct):
    price: float


class Order(msgspec.Struct):
    id: str
    lines: list[Line] = []


class Model(pydantic.BaseModel):
    id: str
    lines: list[Line2] = []


class Line2(pydantic.BaseModel):
    price: float


@dataclass
class Data:
    id: str
    lines: list[Line] = field(default_factory=list)


class Mapped(TypedDict):
    id: str
    lines: list[Line]


class HasPayload(Protocol):
    @property
    def payload(self) -> object: ...


class NoData:
    """Nothing that comes in a message."""


Named = NewType("Named", Order)


# the job


def nothing(job): ...  # type: ignore[no-untyped-def] # what is tested
def anything(job: Any) -> None: ...
def an_object(job: object) -> None: ...
def a_job(job: Job) -> None: ...
def a_job_or_none(job: Job | None) -> None: ...
def a_job_of_anything(job: Job[Any]) -> None: ...
def a_job_by_its_package(job: rabbitray.Job) -> None: ...
def a_protocol(job: HasPayload) -> None: ...
def a_type_variable(job: P) -> P: ...
def an_annotated_job(job: Annotated[Job, "the job"]) -> None: ...
def with_a_default(job: Job = Job(id=None), database: Database = None) -> None: ...  # noqa: B008
def with_more(job: Job, *more: Any, **others: Any) -> None: ...


# its payload


def an_order(order: Order) -> object:
    return [type(order).__name__, order.id]


def a_model(order: Model) -> object:
    return [type(order).__name__, order.id]


def data(order: Data) -> object:
    return [type(order).__name__, order.id]


def mapped(order: Mapped) -> object:
    return [type(order).__name__, order["id"]]


def a_map(order: dict[str, object]) -> object:
    return [type(order).__name__, order["id"]]


def models(orders: list[Model]) -> object:
    return [one.id for one in orders]


def an_order_or_none(order: Order | None) -> object:
    return None if order is None else order.id


def a_bound_variable(order: O) -> O: ...
def named(order: Named) -> None: ...
def some_bytes(body: bytes) -> None: ...
def positive(number: Annotated[int, pydantic.Field(gt=0)]) -> None: ...


def a_job_of_an_order(job: Job[Order]) -> object:
    return [job.id, type(job.payload).__name__, job.payload.id]


def a_job_of_an_order_or_none(job: Job[Order] | None) -> None: ...


# the message


def a_message(message: Message) -> object:
    return message.type


def job_and_message(job: Job, message: Message) -> object:
    return [job.key, message.type]


def message_and_job(message: Message, job: Job) -> object:
    return [job.key, message.type]


def message_and_something(message: Message, job) -> object:  # type: ignore[no-untyped-def] # what is tested
    return [job.key, message.type]


def order_and_message(order: Order, message: Message) -> object:
    return [order.id, message.type]


def message_and_order(message: Message, order: Order) -> object:
    return [order.id, message.type]


def typed_job_and_message(job: Job[Order], message: Message) -> object:
    return [job.payload.id, message.type]


def message_with_a_default(job: Job, message: Message | None = None) -> object:
    return message and message.type


def message_and_a_default(message: Message, database: str = "here") -> object:
    return [message.type, database]


# other shapes


async def awaited(order: Order, message: Message) -> object:
    return [order.id, message.type]


class Called:
    def __call__(self, order: Order, message: Message) -> object:
        return [order.id, message.type]


class CalledAwaited:
    async def __call__(self, order: Order, message: Message) -> object:
        return [order.id, message.type]


class CalledStatic:
    @staticmethod
    def __call__(order: Order, message: Message) -> object:
        return [order.id, message.type]


class CalledOfGeneric(Generic[P]):
    def __call__(self, order: Order, message: Message) -> object:
        return [order.id, message.type]


def _with_database(database: str, order: Order, message: Message) -> object:
    return [order.id, message.type]


PARTIAL = functools.partial(_with_database, "here")
OBJECT = Called()


def passes_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return inner


@passes_on
@passes_on
def wrapped(order: Order, message: Message) -> object:
    return [order.id, message.type]


class CalledWrapped:
    @passes_on
    def __call__(self, order: Order, message: Message) -> object:
        return [order.id, message.type]


def parses(function: Callable[[Order], Any]) -> Callable[[Any], Any]:
    @functools.wraps(function)
    def inner(job: Any) -> Any:
        return function(msgspec.convert(job.payload, Order))

    return inner


@parses
def parsed(order: Order) -> object:
    return order.id


# batches


@batch
def jobs(jobs: list[Job]) -> list[Any]: ...


@batch
def unnamed_jobs(jobs: list) -> list[Any]: ...  # type: ignore[type-arg] # what is tested


@batch
def jobs_of_orders(jobs: list[Job[Order]]) -> list[Any]:
    return [[job.id, job.payload.id] for job in jobs]


@batch
def orders(orders: Sequence[Order]) -> list[Any]:
    calls.append([order.id for order in orders])
    if len(orders) > 1 and any(order.id == "bad" for order in orders):
        raise ConnectionError("one of them is bad")
    return [order.id for order in orders]


@batch
async def orders_and_messages(orders: list[Order], messages: list[Message]) -> list[Any]:
    return [[order.id, message.type] for order, message in zip(orders, messages, strict=True)]


@batch
class MessagesCalled:
    def __call__(self, messages: list[Message]) -> list[Any]:
        return [message.type for message in messages]


calls: list[list[str]] = []


# mistakes


def undefined(job: Undefined) -> None: ...  # type: ignore[name-defined] # noqa: F821 # what is tested
def for_checkers_only(database: Database) -> None: ...
def our_name_for_checkers_only(job: Task) -> None: ...
def no_data(order: NoData) -> None: ...
def lists_of_no_data(orders: dict[str, list[NoData]]) -> None: ...
def a_job_of_no_data(job: Job[NoData]) -> None: ...
def two_payloads(order: Order, more: Order) -> None: ...
def two_messages(message: Message, other: Message) -> None: ...
def three(order: Order, message: Message, database: str) -> None: ...


@batch
def no_list(orders: Order) -> list[Any]: ...


@batch
def a_tuple(orders: tuple[Order, ...]) -> list[Any]: ...
