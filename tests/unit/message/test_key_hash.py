"""The hash of one text is that of the same text in a column: both are in results files."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.message.finished_keys import decode_question, decode_winners, encode_question, encode_winners
from rabbitray.actors.message.key_hash import pair, prefix, text_hash
from rabbitray.actors.store.dedupe.keys import hash_texts, hashes_of, identities_of

TEXTS = st.one_of(st.text(max_size=20), st.text(min_size=100, max_size=300), st.just("é" * 400))


@given(texts=st.lists(TEXTS, min_size=1, max_size=8))
def test_alone_as_in_a_column(texts: list[str]) -> None:
    alone = [text_hash(text.encode()) for text in texts]
    assert alone == hash_texts(pa.array(texts, pa.string())).tolist() == hashes_of(texts).tolist()
    same = [text.ljust(9, ".")[:9] for text in texts * 3]
    assert hashes_of(same).tolist() == [text_hash(text.encode()) for text in same]


def test_the_hash_of_a_version_is_that_of_every_other_one() -> None:
    """As they are in the results files of earlier versions."""
    assert text_hash(b"") == 0
    assert [text_hash(text) for text in (b"4:jobs:k1", b"x" * 513)] == [10827432478463413923, 15895828028383949321]


@given(queue=st.text(max_size=9), keys=st.lists(st.text(max_size=9), max_size=9))
def test_few_keys_are_identified_as_many(queue: str, keys: list[str]) -> None:
    many = identities_of(queue, keys * 5)
    for row, key in enumerate(keys):
        one = identities_of(queue, [key])
        assert (one.hashes[0], one.texts[0].as_py()) == (many.hashes[row], pair(queue, key))
        assert pair(queue, key) == prefix(queue) + key


@given(
    queue=st.text(), keys=st.lists(st.text()), winners=st.dictionaries(st.integers(0, 99), st.integers(0, 2**64 - 1))
)
def test_a_question_and_its_answer_cross_as_they_are(queue: str, keys: list[str], winners: dict[int, int]) -> None:
    asked = decode_question(encode_question(queue, keys))
    assert (asked.queue, asked.keys) == (queue, keys)
    assert decode_winners(encode_winners(winners)) == winners
