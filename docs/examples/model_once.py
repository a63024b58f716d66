"""A class that loads its model once in each worker and uses it for every job.

    rabbitray run --handler docs.examples.model_once:Sentiment

`__init__` and `setup` run when the worker starts; a worker counts as ready only afterwards, so the autoscaler knows
how long loading takes. What may not be loaded shows as `start_error` in `rabbitray status`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rabbitray import Job, Reject

MODEL = Path(__file__).with_name("sentiment.json")  # words with their weight: stands for gigabytes of parameters


class Sentiment:
    """Tells whether a text is glad or sorry."""

    def setup(self) -> None:
        """Loads the model."""
        self._weights: dict[str, float] = json.loads(MODEL.read_text(encoding="utf-8"))

    def __call__(self, job: Job) -> dict[str, Any]:
        text = job.payload.get("text") if isinstance(job.payload, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise Reject("text is missing")
        words = text.lower().split()
        score = sum(self._weights.get(word.strip(".,!?"), 0.0) for word in words) / len(words)
        return {"score": round(score, 3), "mood": "glad" if score > 0 else "sorry" if score < 0 else "calm"}
