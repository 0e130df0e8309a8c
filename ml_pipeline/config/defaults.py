"""Names and defaults that a prediction shares with `config`, which it has no time to load."""

from __future__ import annotations

CONFIG_FILE = "model_config.yaml"
LOCAL_VARIABLE = "ML_PIPELINE_LOCAL"
SETTING_PREFIX = "ML_PIPELINE__"
MODEL_NAME = "default"
CONFIDENCE_THRESHOLD = 0.6
ENSEMBLE_CONFLICT_MARGIN = 0.1

FINE_TUNE_EPOCHS = 5
LEARNING_RATE = 0.001
TEST_SIZE = 0.2
RANDOM_STATE = 42
CV_FOLDS = 5
MIN_TRAINING_SAMPLES = 50
