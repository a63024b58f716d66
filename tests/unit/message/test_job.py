"""Job: a value, generic in its payload."""

from __future__ import annotations

import pickle
from typing import get_args, get_origin

import pytest

from rabbitray import Job
from tests.kit.asking_handlers import Order


def test_a_job_names_the_type_of_its_payload() -> None:
    assert (get_origin(Job[Order]), get_args(Job[Order])) == (Job, (Order,))
    assert Job[Order](id="j", payload=Order(id="o")) == Job(id="j", payload=Order(id="o"))


def test_it_is_a_frozen_value_that_travels() -> None:
    job = Job(id="j", payload={"n": 1})
    assert pickle.loads(pickle.dumps(job)) == job
    assert type(pickle.loads(pickle.dumps(Job[Order](id="j")))) is Job
    with pytest.raises(AttributeError):
        job.payload = None  # type: ignore[misc] # what is tested
