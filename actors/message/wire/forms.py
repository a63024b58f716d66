"""Which documents are jobs in the report's form, and which are a producer's own, carried as they came. Pure.

Nothing is guessed from field names. A document is in the form where its content type says so (our mark), where it has
the complete signature of the verbose form, or where the setting says so. An earlier version wrote no mark: what its
publisher sent is known by the header that it stamped, and by the fields that it always wrote.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.headers import is_marked
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire.shapes import (
    COMPACT,
    VERBOSE,
    Document,
    is_shape,
    read_compact,
    read_verbose,
    require_known,
)
from rabbitray.actors.message.wire.type_codes import TypeCodes

MessageFormat = Literal["auto", "report", "plain"]
"""What producers send without our mark. `auto`: their own documents, and the verbose form where its signature is
complete. `report`: the report's form, compact letters too; other documents all the same. `plain`: their own documents,
whatever they look like.
"""

_ID_TYPES: Final = (str, type(None))

Source = Literal["marked", "report", "stamped", "auto", "plain"]
"""Why a document may be in the form: its content type, the setting, our publisher's header, or its fields alone."""


def source_of(content_type: str | None, message_format: MessageFormat, *, stamped: bool) -> Source:
    """What decides about the document of a message. `stamped`: it has the header that our publisher writes."""
    if is_marked(content_type):
        return "marked"
    return "stamped" if stamped and message_format != "report" else message_format


def read_form(document: Any, source: Source, codes: TypeCodes) -> Job | None:  # Any: whatever a producer wrote
    """Return the job that a JSON document is, strictly read, or None where it is a producer's own.

    Raises DecodeError for one that is in the form and damaged.
    """
    if source == "marked":
        return read_marked(document, codes)
    if type(document) is not dict:
        return None
    if source == "report":
        return read_report(document, codes)
    if source == "auto":
        return read_verbose(document) if is_signed(document) else None
    if source == "stamped" and _was_verbose(document):
        return read_verbose(document)
    return read_compact(document, codes) if source == "stamped" and _was_compact(document) else None


def read_marked(document: Any, codes: TypeCodes) -> Job:  # Any: whatever a producer wrote
    """Return the job of a document that is said to be one; DecodeError where it is not."""
    if type(document) is not dict:
        raise DecodeError("unknown_shape", f"a job is a map, not {type(document).__name__}")
    job = read_report(document, codes)
    if job is None:
        require_known(document, COMPACT | VERBOSE)
        raise DecodeError("unknown_shape", "neither the verbose nor the compact form of a job")
    return job


def read_report(document: Document, codes: TypeCodes) -> Job | None:
    """Return the job of a document of which all fields, or at least two, belong to one shape; None for others."""
    if is_shape(document, COMPACT):
        return read_compact(document, codes)
    return read_verbose(document) if is_shape(document, VERBOSE) else None


def is_signed(document: Document) -> bool:
    """Whether a document has the complete signature of the verbose form, and no field beyond the form."""
    return type(document.get("messageId")) is str and _was_verbose(document)


def _was_compact(document: Document) -> bool:
    """Whether a document has the fields that our publisher always wrote in compact JSON, and none beyond the form."""
    get = document.get
    return (
        type(get("r")) is int
        and type(get("t")) is str
        and type(get("i", 0)) in _ID_TYPES
        and COMPACT.issuperset(document)
    )


def _was_verbose(document: Document) -> bool:
    """The same of verbose JSON, where the id of a job without one is null."""
    get = document.get
    return (
        type(get("retryCount")) is int
        and type(get("messageType")) is str
        and type(get("messageId", 0)) in _ID_TYPES
        and VERBOSE.issuperset(document)
    )
