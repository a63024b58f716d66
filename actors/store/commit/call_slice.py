"""CallSlice: rows of one call, as they go into one transaction. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rabbitray.actors.store.answers import AnswerBuilder, Call


@dataclass(slots=True, kw_only=True)
class CallSlice:
    """Rows of one call, on their way into one transaction; `tally` is of the whole call."""

    call: Call
    tally: AnswerBuilder

    @property
    def is_safe(self) -> bool:
        """Whether each of its rows has its outcome: an earlier transaction of the same group may have taken all."""
        told = self.tally.committed + len(self.tally.duplicates) + len(self.tally.rejected)
        return bool(0 < self.call.rows.num_rows <= told)


def halves(part: CallSlice) -> list[list[CallSlice]]:
    """Its rows in two, of at least two."""
    call = part.call
    middle = call.rows.num_rows // 2
    left = replace(call, rows=call.rows.slice(0, middle))
    right = replace(call, rows=call.rows.slice(middle), offset=call.offset + middle)
    return [[CallSlice(call=left, tally=part.tally)], [CallSlice(call=right, tally=part.tally)]]
