"""The constants of the original documents, and names that a quick prediction shares.

Nothing is loaded here: a cold prediction has no time to load what checks all settings.
"""

from __future__ import annotations

# What pip calls this package; `ml-pipeline` on the public index is somebody else's.
DISTRIBUTION = "auto-reinforcement"
CONFIG_FILE = "model_config.yaml"
LOCAL_VARIABLE = "ML_PIPELINE_LOCAL"
SETTING_PREFIX = "ML_PIPELINE__"
MODEL_NAME = "default"

# The id of what is predicted, as the log and the tables call it.
MATCH_ID = "match_id"
# Labels, and the answer that is none.
UNCERTAIN = "UNCERTAIN"
# The key of an event's metadata under which former outcomes stand.
CORRECTIONS = "outcome_corrections"
DEFAULT_CLASSES = ("H", "D", "A")
# The base whose probabilities are those of a classifier that is not ours.
INCUMBENT_BASE = "Incumbent"
DEFAULT_LABELS = {
    "H": "H",
    "D": "D",
    "A": "A",
    "V": "A",
    "0": "H",
    "1": "D",
    "2": "A",
    "home": "H",
    "draw": "D",
    "away": "A",
    "home_win": "H",
    "away_win": "A",
}

# Prediction.
CONFIDENCE_THRESHOLD = 0.6
ENSEMBLE_CONFLICT_MARGIN = 0.1
MISSING_VALUES = "impute"

# Training.
FINE_TUNE_EPOCHS = 5
LEARNING_RATE = 0.001
TEST_SIZE = 0.2
RANDOM_STATE = 42
CV_FOLDS = 5
MIN_TRAINING_SAMPLES = 50

# A run.
DEFAULT_LOOKBACK_DAYS = 7
MIN_ERROR_SAMPLES_FOR_RETRAINING = 10
ERROR_CONFIDENCE_THRESHOLD = 0.7
MIN_EVALUATED_PREDICTIONS = 100

# The watchdog.
DECAY_THRESHOLD = 0.05
CHECK_INTERVAL_MIN = 60
ACCEPT_RATE_THRESHOLD = 0.6
ACCEPT_RATE_WINDOW = 5
ACCEPT_RATE_MIN_CYCLES = 3


def install_extra(extra: str) -> str:
    """The command that installs an extra's libraries beside the package that is there."""
    return f'pip install "{DISTRIBUTION}[{extra}]"'
