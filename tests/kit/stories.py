"""The steps of a message's story."""

from __future__ import annotations

from rabbitray.cluster.results.message_story import Story


def whats(story: Story) -> list[str]:
    return [step.what for step in story.steps]
