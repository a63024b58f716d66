"""`rabbitray submit`: the pool as a job on a Ray cluster."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import click

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.secret import Redactor
from rabbitray.cluster.cli.options import ALL, with_settings
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.cli.version import version
from rabbitray.cluster.settings import Loaded, toml_here
from rabbitray.cluster.settings.job import collectors_here, job_server_access
from rabbitray.cluster.submit import request
from rabbitray.cluster.submit.submit import Following, Plan, check, read_folder, submit
from rabbitray.cluster.submit.variables import collector_stays, read_variables, require_one_broker, with_broker

OF_RUN = tuple(name for name in ALL if name != "ray_address")


@click.command("submit")
@click.option(
    "--address", metavar="ADDRESS",
    help="Ray's job server: http://HOST:8265, or whatever else names the Ray. [RAY_API_SERVER_ADDRESS, RAY_ADDRESS, "
    "else this machine's Ray]",
)  # fmt: skip
@click.option(
    "--working-dir", type=click.Path(path_type=Path), default=Path(), metavar="FOLDER",
    help="What is uploaded, without what .gitignore, .rayignore and --exclude leave out. [.]",
)  # fmt: skip
@click.option(
    "--exclude", multiple=True, metavar="PATTERN",
    help="As a line of .gitignore; !NAME takes in again what we leave out, not what an ignore file does.",
)  # fmt: skip
@click.option(
    "--secrets-file", type=click.Path(path_type=Path), metavar="FILE",
    help="NAME=VALUE lines (mode 0600) that the driver and the handler get as variables, and that show nowhere.",
)  # fmt: skip
@click.option(
    "--url-file-on-head", metavar="PATH",
    help="File with the broker's URL (mode 0600) on the machine where the job runs; nothing secret is sent then.",
)  # fmt: skip
@click.option("--runtime-env-json", metavar="JSON", help="As `ray job submit` has it: pip, uv, env_vars, ...")
@click.option("--python", default="python", metavar="COMMAND", show_default=True, help="Python on the cluster.")
@click.option("--submission-id", metavar="NAME", help="What Ray calls the job. [the pool and a random number]")
@click.option("--stop-on-interrupt", is_flag=True, help="Ctrl-C stops the job, which drains; else it goes on.")
@click.option("--no-wait", is_flag=True, help="End once the job is submitted.")
@click.option("--until-empty", is_flag=True, help="As of `rabbitray run`.")
@click.option("--json", "as_json", is_flag=True, help="Print how it ended as one JSON object; the log goes to stderr.")
@with_settings(*OF_RUN)
def command(
    loaded: Loaded,
    address: str | None,
    working_dir: Path,
    exclude: tuple[str, ...],
    secrets_file: Path | None,
    url_file_on_head: str | None,
    runtime_env_json: str | None,
    python: str,
    submission_id: str | None,
    stop_on_interrupt: bool,
    no_wait: bool,
    until_empty: bool,
    as_json: bool,
) -> int:
    """Work a queue on a Ray cluster: `rabbitray run` as a Ray job, submitted from here.

    \b
    rabbitray submit --address http://localhost:8265 --handler mypackage.jobs:handle \\
      --queue orders --results /data/orders.duckdb

    Takes all settings of `run`, from wherever `run` takes them, and checks them before anything is uploaded. The
    broker's URL of this shell (RABBITMQ_URL, RABBITMQ_URL_FILE, rabbitray.toml) goes with it, and shows nowhere.

    Shows the job's log until it ends, and ends with its exit code; 0 where it was stopped. Ctrl-C leaves the job alone
    (exit code 130) unless --stop-on-interrupt is given; so does `kill -9` of this command.
    """
    access = job_server_access()
    name = request.new_id(loaded.settings.pool) if submission_id is None else request.require_id(submission_id)
    own = request.own_environment(runtime_env_json)
    if url_file_on_head is not None and not url_file_on_head.startswith("/"):
        raise ConfigurationError(f"--url-file-on-head {url_file_on_head}: must be an absolute path on that machine")
    given = read_variables(secrets_file) if secrets_file is not None else {}
    require_one_broker(given, url_file_on_head)
    variables = given if url_file_on_head is not None else with_broker(given, loaded)
    folder = read_folder(working_dir, exclude, access, (secrets_file, loaded.settings.rabbitmq_url_file, toml_here()))
    say = partial(tell, err=True)
    redact = Redactor(*loaded.secrets, *variables.values())
    stays = collector_stays(collectors_here(), [*variables, *own.get("env_vars", {})])
    for note in [*check(loaded, folder, own_environment=own), *([stays] if stays else [])]:
        say(redact(f"note: {note}"))
    plan = Plan(
        loaded=loaded,
        folder=folder,
        variables=variables,
        url_file=url_file_on_head,
        own_environment=own,
        python=python,
        run_options=("--until-empty",) if until_empty else (),
        submission_id=name,
        version=version(),
    )
    following = Following(
        wait=not no_wait, stop_on_interrupt=stop_on_interrupt, show=partial(tell, err=as_json), say=say
    )
    end = asyncio.run(submit(plan, address or access.address or loaded.settings.ray_address, access, following))
    if end.text:
        say(end.text)
    if as_json:
        tell_json({"submission_id": plan.submission_id, "status": end.status, "exit_code": end.code})
    elif no_wait:
        tell(plan.submission_id)
    return end.code
