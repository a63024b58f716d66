"""The test kit: a handler over messages as a worker runs it (decode, run, judge), with no broker and no Ray.

    from rabbitray import Job
    from rabbitray.testing import work

    def test_a_birthday_is_greeted():
        [outcome] = work("mypackage.jobs:handle", [Job(message_type="BIRTHDAY", payload={"name": "Ada"})])
        assert outcome.status == "DONE"
        assert outcome.result == {"text": "Happy birthday, Ada!"}

What a pool adds is not here: no dedupe (there is no results file), no killing of a worker that hangs or dies. A handler
that ends its process ends the test's.
"""

from rabbitray.actors.testing import KitSettings, Message, Outcome, work, work_async

__all__ = ["KitSettings", "Message", "Outcome", "work", "work_async"]
