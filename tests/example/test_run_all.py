"""The command: what it prints when a run cannot continue."""

import pytest

from examples.mpii_cooking import run_all


def test_features_beyond_their_format_end_with_one_message_and_code_2(tmp_path, monkeypatch, capsys):
    def overflow(*_, **__):
        raise OverflowError("features exceed float16's range")

    monkeypatch.setattr(run_all, "run", overflow)
    with pytest.raises(SystemExit, match="2"):
        run_all.main(output=tmp_path)
    assert capsys.readouterr().err == "error: features exceed float16's range\n"
