"""What a server says of unknown ids, read from the JSON that its words end in."""

import pytest

from recsplit.client.unknown import UnknownId, error, told

LOOKUPS = [{"input": "a ', b", "columns": None, "table": "t", "rows": 10, "shift": 0, "direct": True, "width": 2}]


def test_the_tail_is_read_whatever_the_names_hold() -> None:
    """The old regular expression took an input's name up to its first quote."""
    mark = told('in ensemble "shop": words {"x"} {"unknown_id": {"row": 3, "position": 1, "id": -7}}', 20)
    assert mark == (23, 1, -7)
    problem = error([mark], LOOKUPS)
    assert problem.unknown_ids == (UnknownId(23, 1, -7, "input 'a ', b': id -7 is outside table 't' (0..9)"),)
    assert "row 23 of the query" in str(problem)


OTHER_WORDS = ["", "out of memory", '{"unknown_id"', '{"unknown_id": 3}', '{"unknown_id": {}}']


@pytest.mark.parametrize("message", [*OTHER_WORDS, '{"unknown_id": {"row": "x", "position": 1, "id": 2}}'])
def test_other_words_are_another_error(message: str) -> None:
    assert told(message, 0) is None
