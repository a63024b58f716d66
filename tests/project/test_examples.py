"""The examples of the documentation, run as a user tests a handler: through rabbitray.actors.testing."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from types import ModuleType

import numpy as np
import pytest
from aiohttp import web

from docs.examples import gpu_embedding
from docs.examples.cpu_batch import CATALOGUE
from docs.examples.gpu_embedding import WIDTH, Embed
from docs.examples.model_once import Sentiment
from rabbitray import Job
from rabbitray.actors.testing import work, work_async


class GreetingService:
    """A service that answers as its caller asks: `{"answer": status}`; remembers who called."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []
        self.url = ""

    async def greet(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("Idempotency-Key"))
        asked = await request.json()
        status = asked.get("answer", 200)
        if status != 200:
            return web.Response(status=status, text="no", headers={"Retry-After": "7"} if status == 429 else {})
        return web.json_response({"text": f"Happy birthday, {asked['name']}!"})


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GreetingService]:
    own = GreetingService()
    app = web.Application()
    app.router.add_post("/greet", own.greet)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    own.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setenv("GREETING_SERVICE", own.url)
    yield own
    await runner.cleanup()


async def test_http_calls(service: GreetingService) -> None:
    answers = [{"name": "Ada"}, {"answer": 429}, {"answer": 503}, {"answer": 422}]
    jobs = [Job(id=f"job-{n}", user_id="u1", payload=payload) for n, payload in enumerate(answers)]
    good, busy, broken, refused = await work_async("docs.examples.http_calls:Greetings", jobs)
    assert good.result == {"user": "u1", "text": "Happy birthday, Ada!"}
    assert (busy.status, busy.delay_s) == ("RETRY", 8.0)  # asked for 7 s: the shortest rung that is long enough
    assert (broken.status, broken.delay_s) == ("RETRY", 2.0)
    assert (refused.status, refused.reason, refused.error) == ("DEAD", "rejected", "the service answered 422: no")
    assert sorted(service.keys) == ["job-0", "job-1", "job-2", "job-3"]


def test_http_calls_without_the_service_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREETING_SERVICE", "http://127.0.0.1:9")
    [outcome] = work("docs.examples.http_calls:Greetings", [Job(payload={"name": "Ada"})])
    assert (outcome.status, outcome.category) == ("RETRY", "transient")


def test_cpu_batch() -> None:
    jobs = [Job(payload={"vector": [2.0 * float(x) for x in CATALOGUE[entry]]}) for entry in (17, 4_000, 3)]
    jobs.insert(1, Job(payload={"vector": [1.0, 2.0]}))
    first, bad, second, third = work("docs.examples.cpu_batch:nearest", jobs)
    assert [found.result["entry"] for found in (first, second, third)] == [17, 4_000, 3]
    assert np.isclose(first.result["similarity"], 1.0)
    assert (bad.status, bad.reason) == ("DEAD", "rejected")


@pytest.mark.parametrize("payload", [None, {"vector": ["x"]}, {"vector": [0.0] * 64}, {"vector": [[1.0]]}, {}])
def test_cpu_batch_refuses_what_is_no_vector(payload: object) -> None:
    [outcome] = work("docs.examples.cpu_batch:nearest", [Job(payload=payload)])
    assert (outcome.status, outcome.reason) == ("DEAD", "rejected")


def test_model_once() -> None:
    texts = ["Happy birthday, great day!", "Sorry, it came late and broken.", "It is Tuesday."]
    outcomes = work("docs.examples.model_once:Sentiment", [Job(payload={"text": text}) for text in texts])
    assert [outcome.result["mood"] for outcome in outcomes] == ["glad", "sorry", "calm"]


def test_model_once_loads_once() -> None:
    loads = []

    class Counted(Sentiment):
        def setup(self) -> None:
            loads.append(1)
            super().setup()

    outcomes = work(Counted, [Job(payload={"text": "thanks"})] * 30, batch_size=5)
    assert all(outcome.done for outcome in outcomes)
    assert len(outcomes) == 30
    assert loads == [1]


def test_gpu_embedding_on_a_cpu() -> None:
    texts = ["happy birthday to you", "Happy  birthday to me", "the invoice is overdue"]
    jobs = [Job(payload={"text": text}) for text in texts]
    jobs.insert(1, Job(payload={"text": " "}))
    first, bad, second, third = work("docs.examples.gpu_embedding:Embed", jobs)
    assert (bad.status, bad.reason) == ("DEAD", "rejected")
    one, two, other = (np.array(found.result) for found in (first, second, third))
    assert one.shape == (WIDTH,)
    assert np.isclose(np.linalg.norm(one), 1.0, atol=1e-5)
    assert one @ two > 0.6 > 0.4 > one @ other


class OtherArrays(ModuleType):
    """Stands for CuPy: NumPy's functions, and what else the example asks of it."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.limits: list[float] = []
        self.copied_back = 0

    def __getattr__(self, name: str) -> object:
        return getattr(np, name)

    def get_default_memory_pool(self) -> OtherArrays:
        return self

    def set_limit(self, *, fraction: float) -> None:
        self.limits.append(fraction)

    def asnumpy(self, array: np.ndarray) -> np.ndarray:
        self.copied_back += 1
        return array


def test_gpu_embedding_keeps_to_its_share_of_the_device_and_asks_it_once_for_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = OtherArrays()
    monkeypatch.setitem(sys.modules, "cupy", device)
    monkeypatch.setattr(gpu_embedding, "gpu_share", lambda: 0.25)
    jobs = [Job(payload={"text": f"number {n}"}) for n in range(20)]
    on_device = [found.result for found in work("docs.examples.gpu_embedding:Embed", jobs, batch_size=20)]
    assert (device.limits, device.copied_back) == ([0.225], 1)
    monkeypatch.setitem(sys.modules, "cupy", None)  # not installed
    assert [found.result for found in work(Embed, jobs)] == on_device, "the CPU does the same"
