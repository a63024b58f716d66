"""The test kit: a handler over messages through the real decode -> run -> verdict path, with no broker and no Ray."""

from rabbitray.actors.testing import KitSettings, Message, Outcome, work, work_async

__all__ = ["KitSettings", "Message", "Outcome", "work", "work_async"]
