"""Bytes <-> Job. Pure.

What a reader promises, for any bytes: a Job, or `DecodeError`; never another exception, and never more memory than
`MessageLimits` allows, in time that grows with the body. `decode` says which damage is found.

encode       Job -> bytes: msgpack with one-letter keys, compact JSON, verbose JSON
decode       bytes -> Jobs
packed       many records in one body
forms        which documents are jobs in the report's form
heads        the fields of a job without its payload, for the router
shapes       the report's two shapes of a job, and its fields
type_codes   one-letter codes of message types
codings      what a content encoding says: compressions, a charset
compression, decompress  compressed bodies, within the limits
amqp_value   what RabbitMQ hands over as an AMQP 1.0 client encoded it
limits       depth, elements, bytes
documents    bytes -> one document, within them
counting     how many elements a body holds, before anything is built
"""

from rabbitray.actors.message.wire.codings import with_compression
from rabbitray.actors.message.wire.compression import plain_size
from rabbitray.actors.message.wire.decode import UnknownContentType, decode, parse_line, split
from rabbitray.actors.message.wire.encode import Form, encode
from rabbitray.actors.message.wire.forms import MessageFormat
from rabbitray.actors.message.wire.heads import read_head, read_record_head
from rabbitray.actors.message.wire.limits import MessageLimits
from rabbitray.actors.message.wire.packed import MOST_RECORDS, count_records, is_packed_type, join_records, pack
from rabbitray.actors.message.wire.type_codes import REPORT_CODES, TypeCodes

__all__ = [
    "MOST_RECORDS",
    "REPORT_CODES",
    "Form",
    "MessageFormat",
    "MessageLimits",
    "TypeCodes",
    "UnknownContentType",
    "count_records",
    "decode",
    "encode",
    "is_packed_type",
    "join_records",
    "pack",
    "parse_line",
    "plain_size",
    "read_head",
    "read_record_head",
    "split",
    "with_compression",
]
