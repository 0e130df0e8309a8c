"""The checks of a store's content, in the order in which they are made."""

from __future__ import annotations

from typing import Final

from ml_pipeline.commands.checks.answering import answering
from ml_pipeline.commands.checks.champion import (
    champion,
    champion_artifact,
    champion_bytes,
    database_answers,
)
from ml_pipeline.commands.checks.examined import Check
from ml_pipeline.commands.checks.log import evaluation_log
from ml_pipeline.commands.checks.runs import last_success, requests, running_run

QUICK: Final[tuple[Check, ...]] = (champion, champion_bytes)
FULL: Final[tuple[Check, ...]] = (
    champion,
    champion_artifact,
    database_answers,
    last_success,
    running_run,
    requests,
    answering,
    evaluation_log,
)
