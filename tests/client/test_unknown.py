"""What a server says of unknown ids, read from the JSON that its words end in."""

import pytest

from recsplit.client.unknown import UnknownId, from_message

LOOKUPS = [{"input": "a ', b", "columns": None, "table": "t", "rows": 10, "shift": 0, "direct": True, "width": 2}]


def test_the_tail_is_read_whatever_the_names_hold() -> None:
    """The old regular expression took an input's name up to its first quote."""
    error = from_message('in ensemble "shop": words {"x"} {"unknown_id": {"row": 3, "position": 1, "id": -7}}', 20, LOOKUPS)
    assert error is not None
    assert error.unknown_ids == (UnknownId(23, 1, -7, "input 'a ', b': id -7 is outside table 't' (0..9)"),)
    assert "row 23 of the query" in str(error)


OTHER_WORDS = ["", "out of memory", '{"unknown_id"', '{"unknown_id": 3}', '{"unknown_id": {}}']


@pytest.mark.parametrize("message", [*OTHER_WORDS, '{"unknown_id": {"row": "x", "position": 1, "id": 2}}'])
def test_other_words_are_another_error(message: str) -> None:
    assert from_message(message, 0, LOOKUPS) is None
