"""`rabbitray check`: a doctor for everything that a pool needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import click

from rabbitray.actors.secret import Redactor
from rabbitray.cluster.cli.options import ALL, with_settings
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.operate import doctor
from rabbitray.cluster.operate.doctor import CheckRow
from rabbitray.cluster.settings import Loaded

MARKS = {"ok": "ok    ", "warn": "warn  ", "refuse": "REFUSE"}


@click.command("check")
@click.option("--no-ray", is_flag=True, help="Do not look for a Ray cluster.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@with_settings(*ALL)
def command(loaded: Loaded, no_ray: bool, as_json: bool) -> int:
    """A doctor: packages, settings, handler, broker and queues, Ray, results file and disk.

    Looks and changes nothing. Exit code 2 when anything would keep a pool from starting.
    """
    redact = Redactor(*loaded.secrets)
    rows = [replace(row, text=redact(row.text)) for row in examine(loaded, with_ray=not no_ray)]
    if as_json:
        tell_json(rows)
    else:
        for row in rows:
            tell(f"{MARKS[row.level]} {row.area:<9} {row.text}")
    return 2 if any(row.level == "refuse" for row in rows) else 0


def examine(loaded: Loaded, *, with_ray: bool) -> list[CheckRow]:
    """All findings, area by area."""
    ray_rows: Sequence[CheckRow] = ()
    cpus: float | None = None
    of_pool: CheckRow | None = None
    if with_ray:
        from rabbitray.cluster.operate.doctor_ray import (
            cluster,  # ray takes a second to import: only where it is looked for
        )

        found = cluster(loaded)
        ray_rows, cpus, of_pool = found.rows, found.cpus, found.broker
    broker = asyncio.run(doctor.broker(loaded)) if of_pool is None else [of_pool]
    users_code = [*doctor.handler(loaded), *doctor.decoder(loaded)]
    return [*doctor.own(loaded, cpus), *users_code, *broker, *ray_rows, *doctor.results(loaded)]
