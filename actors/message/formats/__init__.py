"""What foreign messages mean, format by format: body and Message in, payload out. Pure; above `wire`.

decoded      Decoder, Decoded: what a decoder gives beside a payload; the Job of it
auto         no decoder: by content type
named        the formats by name, as the setting `decoder` has them
plain        json, msgpack, text, bytes: whatever the content type says
cbor         CBOR, by the package cbor2
cbor_scan    what a body of CBOR would make it build, counted before
cloudevents  CloudEvents, structured and binary
celery       Celery's tasks, protocol 1 and 2
dramatiq     Dramatiq's messages
kombu        what Celery's messages are packed in: serializers, base64, JSON's own types
fields       values of foreign documents: texts, times, lists; DecodeError for what they are not
"""

from rabbitray.actors.message.formats.decoded import Decoded, Decoder

__all__ = ["Decoded", "Decoder"]
