"""Natural mistakes: each error names the argument, says what it must be, what it is and, where it can, what to do."""

import importlib
import re

import pytest

from tests.library.mistakes import TABLES

MISTAKES = {
    f"{table}: {what}": mistake
    for table in TABLES
    for what, mistake in importlib.import_module(f"tests.library.mistakes.{table}").MISTAKES.items()
}


@pytest.mark.parametrize("what", MISTAKES)
def test_the_error_says_what_is_wrong(what):
    make, kind, message = MISTAKES[what]
    with pytest.raises(kind) as caught:
        make()
    assert str(caught.value) == message


def test_the_tables_hold_many_mistakes_and_each_message_has_all_parts():
    assert len(MISTAKES) >= 150
    messages = [message for _, _, message in MISTAKES.values()]
    vague = [message for message in messages if not re.match(r"[\w. ']+ (must|is only|are only|starts)", message)]
    assert not [message for message in vague if "head_init=" not in message]
    assert not [message for message in messages if "got " not in message and "head_init=" not in message]
