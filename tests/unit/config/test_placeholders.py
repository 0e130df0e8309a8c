"""What may stand in braces in a command, and what is refused when settings are read."""

from __future__ import annotations

import pytest

from ml_pipeline.config.placeholders import filled
from ml_pipeline.config.settings import load_settings
from ml_pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train", "{rows}"], "{rows}"),
        (["train", "--data={dataset}{model}"], "{model}"),
        (["{dataset}"], "begins with a placeholder"),
        (["sh", "-c", "train {dataset}"], "text of a shell"),
        (["/bin/bash", "-lc", "train {run_id}"], "text of a shell"),
        (["nice", "bash", "-e", "-c", "train {dataset}"], "text of a shell"),
        (["env", "A=1", "zsh", "-ec", "train '{dataset}'"], "text of a shell"),
        (["pwsh", "-c", "train {dataset}"], "text of a shell"),
    ],
)
def test_what_cannot_be_filled_or_would_be_read_as_commands_is_refused(
    command: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=r"decay") as refused:
        load_settings(flags={"decay.action": "command", "decay.command": command})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["train", "--data={dataset}", "{run_id}"], ["train", "--data=/w/a b.jsonl", "r-1"]),
        (["sh", "-c", 'train "$1"', "sh", "{dataset}"],
         ["sh", "-c", 'train "$1"', "sh", "/w/a b.jsonl"]),
        (["curl", "-d", '{"a": {"b": 1}}', "{}"], ["curl", "-d", '{"a": {"b": 1}}', "{}"]),
        (["awk", "{{print}}"], ["awk", "{print}"]),
    ],
)  # fmt: skip
def test_placeholders_are_filled_and_other_braces_stay(
    command: list[str], expected: list[str]
) -> None:
    settings = load_settings(flags={"decay.action": "command", "decay.command": command})
    values = {"dataset": "/w/a b.jsonl", "run_id": "r-1"}
    assert filled(settings.decay.command, values) == expected
