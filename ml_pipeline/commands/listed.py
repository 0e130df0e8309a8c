"""The words of the program: each is a file of this folder, with what it does."""

from __future__ import annotations

COMMANDS = {
    "run": "one run of the loop: train, judge, promote or reject",
    "train": "train a base model, or fine-tune one",
    "predict": "predict one row or a file of rows",
    "serve": "predictions, outcomes and labels over HTTP",
    "outcome": "record what really happened",
    "labels": "add labels that people gave, for training",
    "erase": "take a person's rows out of everything that is kept",
    "export": "labelled rows for what trains elsewhere",
    "reconcile": "compare the CSV log with the store's table",
    "runs": "list runs, show what one came to",
    "report": "one run as an HTML page and as Markdown",
    "models": "list, show, compare, promote, roll back, prune",
    "replay": "rebuild a run's challenger and compare it",
    "status": "latest runs, request queue and champion",
    "requests": "submit, list and cancel requests for a run",
    "worker": "keep running: schedule, requests, watchdog, clean-up",
    "decay": "check the champion, act when it has decayed",
    "analyse": "streaks, transitions, tests of randomness",
    "backtest": "replay a labelled history day by day",
    "monitor": "serve the monitoring page",
    "backup": "save a store into a folder, while it is in use",
    "restore": "make a store of a backup",
    "init": "create a store, or update one",
    "doctor": "check everything a run needs",
    "completion": "what completes commands and flags in a shell",
}
