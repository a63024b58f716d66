"""Which job server an address means, and what is said within the time where there is none."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.secret import Secret
from rabbitray.cluster.settings.job import JobServerAccess
from rabbitray.cluster.submit.address import candidates, find
from rabbitray.cluster.submit.server import JobServer, RefusedError
from tests.kit.fake_ray import FakeRay

NO_TOKEN = JobServerAccess()
TOKEN = JobServerAccess(token=Secret("the-token"), token_from="/home/ubuntu/.ray/auth_token")


@pytest.mark.parametrize(
    ("address", "urls"),
    [
        (None, ["http://127.0.0.1:8265"]),
        ("auto", ["http://127.0.0.1:8265"]),
        ("http://head:8265/", ["http://head:8265"]),
        ("https://ray.example.com/cluster/", ["https://ray.example.com/cluster"]),
        ("http://head:8265/#/jobs", ["http://head:8265"]),
        ("head:8265", ["http://head:8265"]),
        ("head:6379", ["http://head:6379", "http://head:8265"]),
        ("[::1]:6379", ["http://[::1]:6379", "http://[::1]:8265"]),
        ("head", ["http://head:8265"]),
        ("ray://head:10001", ["http://head:8265"]),
    ],
)
def test_what_an_address_may_mean(address: str | None, urls: list[str]) -> None:
    assert list(candidates(address)) == urls


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a b",
        "local",
        "anyscale://x",
        "http://",
        "http://a:b@c:8265",
        "http://a:99999",
        "head:0",
        "head:99999",
        "a:b:c",
    ],
)
def test_what_is_no_address_is_one_line_with_the_forms(address: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        candidates(address)
    assert str(refused.value) == (
        f"--address={address}: must be http://HOST:8265 (the dashboard's), HOST:8265, HOST:6379, ray://HOST:10001, "
        "or auto"
    )


async def test_a_job_server_is_found_with_and_without_its_scheme() -> None:
    async with FakeRay().running() as url:
        assert await find(url, NO_TOKEN) == url
        assert await find(url + "/", NO_TOKEN) == url
        assert await find(url.removeprefix("http://"), NO_TOKEN) == url


async def test_the_token_goes_only_where_it_is_asked_for() -> None:
    open_ray, closed = FakeRay(), FakeRay("the-token")
    async with open_ray.running() as url:
        assert await find(url, TOKEN) == url
    assert open_ray.seen == [None]
    async with closed.running() as url, JobServer(url, TOKEN) as server:
        assert await server.ray_version() == "2.60.0"
        assert await server.ray_version() == "2.60.0"
    assert closed.seen == [None, "Bearer the-token", "Bearer the-token"]


async def test_token_mode_sends_it_at_once_and_headers_of_the_user_come_first() -> None:
    ray = FakeRay("mine")
    async with ray.running() as url:
        always = JobServerAccess(token=Secret("mine"), always=True)
        own = JobServerAccess(token=Secret("other"), always=True, headers={"authorization": "Bearer mine"})
        assert await find(url, always) == await find(url, own) == url
    assert ray.seen == ["Bearer mine", "Bearer mine"]


@pytest.mark.parametrize(
    ("access", "says"),
    [
        (NO_TOKEN, "asks for a token, and none is here: set RAY_AUTH_TOKEN_PATH"),
        (TOKEN, "refuses the token from /home/ubuntu/.ray/auth_token (HTTP 403)"),
    ],
)
async def test_a_missing_and_a_wrong_token_are_told_without_it(access: JobServerAccess, says: str) -> None:
    async with FakeRay("another").running() as url:
        with pytest.raises(ConfigurationError) as refused:
            await find(url, access)
    assert says in str(refused.value)
    assert "the-token" not in str(refused.value)


async def test_where_nobody_listens_it_is_one_line_at_once() -> None:
    with pytest.raises(ConfigurationError) as refused:
        await find("127.0.0.1:1", NO_TOKEN, within_s=2)
    assert "--address=127.0.0.1:1: no job server of Ray answers at http://127.0.0.1:1 or " in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_what_accepts_and_says_nothing_costs_no_more_than_the_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(ConfigurationError, match="no job server of Ray answers"):
            await find(f"http://127.0.0.1:{silent.getsockname()[1]}", NO_TOKEN, within_s=0.3)
        assert time.monotonic() - began < 3


async def test_what_is_no_job_server_is_told() -> None:
    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hello, "127.0.0.1", 0)
    async with server:
        with pytest.raises(ConfigurationError, match="no job server of Ray answers"):
            await find(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", NO_TOKEN, within_s=2)


async def test_a_package_that_is_there_is_not_sent_again_and_a_refusal_is_its_last_line() -> None:
    ray = FakeRay()
    ray.refusals.append("Traceback (most recent call last):\n  x\nValueError: no such\n")
    async with ray.running() as url, JobServer(url, NO_TOKEN) as server:
        await server.put_package("x.zip", b"one")
        await server.put_package("x.zip", b"two")
        assert ray.taken == {"x.zip": b"one"}
        with pytest.raises(RefusedError) as refused:
            await server.submit({})
    assert str(refused.value) == f"the job server at {url}: ValueError: no such"


async def test_a_server_that_sends_on_to_another_one_is_told_and_nothing_goes_there() -> None:
    there, here = FakeRay(), FakeRay()
    access = JobServerAccess(headers={"X-Api-Key": "geheim"})
    async with there.running() as other, here.running() as url:
        here.elsewhere["/api/"] = other
        with pytest.raises(ConfigurationError) as refused:
            await find(url, access)
        async with JobServer(url, access) as server:
            with pytest.raises(ConfigurationError, match="sends on to"):
                await server.put_package("x.zip", b"geheim")
            with pytest.raises(ConfigurationError, match="sends on to"):
                _ = [piece async for piece in server.log("job")]
    assert str(refused.value) == f"the job server at {url} sends on to {other}; give that one as --address"
    assert (there.seen, there.taken) == ([], {})
