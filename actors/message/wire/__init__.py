"""Bytes <-> Job: msgpack (one-letter keys), compact JSON, verbose JSON, packed records. Pure.

What a reader promises, for any bytes: a Job, or `DecodeError`; never another exception, and never more memory
than `MessageLimits` allows.

*Corruption.* Our msgpack and packed bodies end, or begin, with a CRC-32. Truncated: always refused. One byte
changed: always refused. More: refused but for 1 in 2^32, unless the changes also destroy the checksum's own
marker and leave a complete, well-typed document. The JSON forms are kept exactly as the report has them, so
that old readers can read them, and carry no checksum: truncated, retyped, renamed, doubled and unknown fields
are refused, another letter inside a value cannot be told from data.

*Two shapes and everything else.* A document is taken for one of the report's shapes when all of its fields,
or at least two, are fields of that shape; it is then read strictly. Any other document becomes the payload of
a Job without an id.
"""

from rabbitray.actors.message.wire.decode import decode, parse_line, split
from rabbitray.actors.message.wire.encode import Form, encode
from rabbitray.actors.message.wire.limits import MessageLimits
from rabbitray.actors.message.wire.packed import MOST_RECORDS, count_records, is_packed_type, join_records, pack
from rabbitray.actors.message.wire.type_codes import REPORT_CODES, TypeCodes

__all__ = [
    "MOST_RECORDS",
    "REPORT_CODES",
    "Form",
    "MessageLimits",
    "TypeCodes",
    "count_records",
    "decode",
    "encode",
    "is_packed_type",
    "join_records",
    "pack",
    "parse_line",
    "split",
]
