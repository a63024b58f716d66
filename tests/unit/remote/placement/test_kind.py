"""What a worker asks of Ray, as the settings have it and as Ray takes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.remote.placement.kind import UNIT, Selector, WorkerKind, gpu_share, matches, units
from rabbitray.actors.remote.placement.read import Resources, read_resources, read_runtime_env, read_selectors

GIB = 2**30


@given(st.integers(2, 2_000))
def test_n_shares_of_one_nth_fit_on_a_gpu_and_not_one_more(parts: int) -> None:
    assert UNIT // units(gpu_share(1 / parts)) >= parts
    assert parts > 100 or UNIT // units(gpu_share(1 / parts)) == parts


@pytest.mark.parametrize("number", [0.6, 0.4, 0.7, 1.5, 2.5, -1.0, 0.0, 0.99, 1e-9, float("inf"), float("nan")])
def test_other_shares_of_a_gpu_are_refused(number: float) -> None:
    with pytest.raises(ConfigurationError, match="whole GPUs, or 1/n of one"):
        gpu_share(number)


def test_resources_are_read_as_people_write_them() -> None:
    assert read_resources("gpu=0.25,memory=8GiB,license=1") == Resources(
        num_gpus=0.25, memory=8 * GIB, others=(("license", 1.0),)
    )
    assert read_resources(" GPU = 1/3 , memory = 1.5GB") == Resources(num_gpus=0.3333, memory=1_500_000_000)
    assert read_resources("gpu=0.33").num_gpus == 0.3333
    assert read_resources("") == Resources()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gpu=0.6", "gpu=0.6: a worker has whole GPUs"),
        ("gpu=much", "gpu=much is no number"),
        ("gpu=1/0", "gpu=1/0 is no number"),
        ("gpu=1e999", "gpu=1e999 is no number"),
        ("memory=9999999GiB", "memory=9999999GiB is no size"),
        ("memory=8", "memory=8 is no size such as 8GiB"),
        ("memory=-1GiB", "memory=-1GiB is no size"),
        ("cpu=2", "cpu: set worker_num_cpus"),
        ("license", "'license' is no name=amount"),
        ("license=0", "license=0 is not between"),
        ("license=1,license=2", "license is there twice"),
        ("object_store_memory=1GiB", "object_store_memory cannot be reserved for an actor"),
    ],
)
def test_what_is_no_resource_is_said(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="^" + says.replace("(", r"\(")):
        read_resources(text)


def test_labels_are_read_with_what_is_tried_instead() -> None:
    assert read_selectors("zone=a, ray.io/market-type=!in(spot, on-demand); zone=b") == (
        (("zone", "a"), ("ray.io/market-type", "!in(spot,on-demand)")),
        (("zone", "b"),),
    )
    assert read_selectors(" ") == ()
    for wrong in ("zone", "zone=", "zone=a;", "zone=in()", "zone=a=b", "-zone=a"):
        with pytest.raises(ValueError, match="is no label with a value"):
            read_selectors(wrong)


@pytest.mark.parametrize(
    ("wanted", "labels", "holds"),
    [
        ("a", {"zone": "a"}, True),
        ("a", {"zone": "b"}, False),
        ("a", {}, False),
        ("!a", {"zone": "b"}, True),
        ("!a", {}, True),
        ("in(a,b)", {"zone": "b"}, True),
        ("!in(a,b)", {"zone": "b"}, False),
        ("!in(a,b)", {}, True),
    ],
)
def test_a_node_passes_a_selector_or_not(wanted: str, labels: dict[str, str], holds: bool) -> None:
    selector: Selector = (("zone", wanted),)
    assert matches([selector], labels) is holds
    assert matches([selector, (("other", "x"),)], {**labels, "other": "x"}), "one of them is enough"
    assert matches([], labels)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ({"conda": {}}, "has conda; known: config, env_vars"),
        ({"pip": ["a"], "uv": ["b"]}, "has pip and uv"),
        ({"pip": "requirements.txt"}, "pip is a list"),
        ({"env_vars": {"A": 1}}, "env_vars are texts"),
        ({"working_dir": "."}, "'.' is no URI of a package; Ray uploads local folders for a job only"),
        ({"py_modules": ["./mine"]}, "'./mine' is no URI"),
        ({"config": {"setup_timeout_seconds": 0}}, "config is an object"),
    ],
)
def test_an_environment_that_ray_would_refuse_is_refused_at_the_start(value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        read_runtime_env(value)


def test_an_environment_is_kept_as_json() -> None:
    assert read_runtime_env({"uv": ["a"], "env_vars": {"B": "1"}}) == '{"env_vars": {"B": "1"}, "uv": ["a"]}'
    assert read_runtime_env("") == read_runtime_env({}) == read_runtime_env("{}") == ""


@pytest.mark.parametrize(
    ("env", "build_s"),
    [
        ("", 0.0),
        ('{"env_vars": {"A": "1"}}', 0.0),
        ('{"pip": ["a"]}', 600.0),
        ('{"uv": ["a"], "config": {"setup_timeout_seconds": 90}}', 90.0),
    ],
)
def test_only_what_is_installed_takes_time_to_build(env: str, build_s: float) -> None:
    assert WorkerKind(runtime_env=env).build_timeout_s == build_s


def test_ray_is_asked_for_everything_that_a_kind_says_and_for_nothing_else() -> None:
    assert WorkerKind().options == {"num_cpus": 1.0, "scheduling_strategy": "SPREAD"}
    kind = WorkerKind(
        num_cpus=0.0,
        num_gpus=2.0,
        memory=GIB,
        resources=(("license", 1.0),),
        accelerator_type="A100",
        selectors=((("zone", "a"),), (("zone", "b"),)),
        runtime_env='{"env_vars": {"A": "1"}}',
        placement="pack",
    )
    assert kind.options == {
        "num_cpus": 0.0,
        "num_gpus": 2,
        "memory": GIB,
        "resources": {"license": 1.0},
        "accelerator_type": "A100",
        "label_selector": {"zone": "a"},
        "fallback_strategy": [{"label_selector": {"zone": "b"}}],
        "runtime_env": {"env_vars": {"A": "1"}},
        "scheduling_strategy": "DEFAULT",
    }
    assert kind.words == "gpu=2, memory=1GiB, license=1, accelerator_type:A100=0.001"
    assert kind.bundle == {
        "GPU": 2 * UNIT, "memory": GIB * UNIT, "license": UNIT, "accelerator_type:A100": 10
    }  # fmt: skip
