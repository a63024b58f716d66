"""Messages of other clients, as a worker gets them: taken out of a queue to the byte, or kept in a file.

    python -m tests.kit.foreign_messages    records what the clients of Node send (amqplib, rhea), anew

For that npm and RabbitMQ 4.3 are needed; no test needs either. The program is `node_clients.mjs`.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rabbitray.actors.message.formats.named import AUTO
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.message.properties.property_list import from_raw
from rabbitray.actors.message.properties.route import route_of
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.router.intake.reading import read_message
from rabbitray.actors.worker.batch.decoding import IdentityRules, decode_parcels
from rabbitray.actors.worker.handler.decoder import Reader, load_decoder
from rabbitray.actors.worker.outcome.tracebacks import Tracebacks
from rabbitray.actors.worker.outcome.verdict import Categories
from tests.kit.recorded import KEPT, raw_channel, reading_raw

KEPT_MESSAGES = KEPT / "node-clients.jsonl"
QUEUE = "jobs"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a client. `body`, `properties`: base64. `sent`: what the client was asked to send, as JSON has it;
    `shown`: for people.
    """

    client: str
    name: str
    sent: Any
    body: str
    properties: str
    shown: str

    def parcel(self) -> Parcel:
        """As a worker gets it."""
        return parcel_of(base64.b64decode(self.body), base64.b64decode(self.properties), "", QUEUE)


def kept() -> list[Kept]:
    """The messages of the file."""
    return [msgspec.json.decode(line, type=Kept) for line in KEPT_MESSAGES.read_bytes().splitlines()]


def parcel_of(body: bytes, raw: bytes, exchange: str, routing_key: str, *, redelivered: bool = False) -> Parcel:
    """What the router makes of a message for a worker that asks for its properties."""
    delivery = read_message(
        from_raw(raw), body, tag=1, redelivered=redelivered, generation=1, consumer=1, limits=MessageLimits()
    )
    delivery.route = route_of(exchange, routing_key)
    return delivery.with_envelope()


def taken(url: str, queue: str = QUEUE) -> list[Parcel]:
    """Everything in a queue, as a worker gets it."""
    return [parcel_of(body, raw, exchange, key) for body, raw, exchange, key in _got(url, queue)]


def read(parcels: Sequence[Parcel], decoder: str = AUTO) -> tuple[list[Job], list[Failure]]:
    """The jobs that a worker makes of them, and failures."""
    loaded = load_decoder(decoder)
    limits = MessageLimits()
    reader = None if loaded is None else Reader(loaded, limits, Categories(), Tracebacks(), within_s=10.0, slow_s=10.0)
    units, failures = decode_parcels(parcels, limits, IdentityRules(), reader=reader)
    return [unit.job for unit in units], failures


def _got(url: str, queue: str) -> Iterator[tuple[bytes, bytes, str, str]]:
    with reading_raw(), raw_channel(url) as channel:
        while True:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return
            yield body, properties.raw, method.exchange, method.routing_key


def record() -> None:
    """Runs the clients against a node of RabbitMQ 4.3 and keeps what arrives."""
    from rabbitray.cluster.broker import PrivateBroker

    program = Path(__file__).with_name("node_clients.mjs")
    with PrivateBroker() as node, tempfile.TemporaryDirectory() as folder:
        url = node.add_vhost("record")
        with raw_channel(url) as channel:
            channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        (Path(folder) / program.name).write_text(program.read_text())
        subprocess.run(["npm", "install", "--no-save", "--silent", "amqplib", "rhea"], cwd=folder, check=True)
        ran = subprocess.run(
            ["node", program.name, url, QUEUE], cwd=folder, check=True, capture_output=True, text=True, timeout=60
        )
        sent = [json.loads(line) for line in ran.stdout.splitlines()]
        lines = []
        for one, (body, raw, _, _) in zip(sent, _got(url, QUEUE), strict=True):
            encoded = {"body": base64.b64encode(body).decode(), "properties": base64.b64encode(raw).decode()}
            lines.append(json.dumps(one | encoded | {"shown": repr(body)[:120]}) + "\n")
        KEPT_MESSAGES.write_text("".join(lines))
        sys.stdout.write(f"{len(lines)} messages\n")


if __name__ == "__main__":
    record()
