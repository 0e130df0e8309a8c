"""Predict with a registered model: `ml-pipeline predict`, and `PredictionEngine` in Python.

A model is scored from its scoring file, so that neither a cold start nor a single row pays for
the libraries that trained it; what has no such file is scored from the artifact. There is no
answer without a model: no default label, no untrained stand-in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from ml_pipeline.config import quick
from ml_pipeline.errors import ArtifactCorrupt, ArtifactError, InputError, NotFound, StoreError
from ml_pipeline.registry import scoring
from ml_pipeline.serving import incumbents
from ml_pipeline.serving.answered import Answering
from ml_pipeline.store import opening
from ml_pipeline.store.event_row import EventRow, one_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from ml_pipeline.evaluation_log.logger import EvaluationLogger
    from ml_pipeline.serving.artifact import BatchScorer
    from ml_pipeline.store.inputs.labels import Labels
    from ml_pipeline.store.serving_view import ServedModel, ServingView

RELOAD_AFTER_S = 1.0
LOGGED_AT_ONCE = 1000


class PredictionEngine:
    """Answers with the champion, or with one registered model. Close it, or use it in a `with`.

    A new champion is taken up within `reload_after_s` seconds; when it cannot be loaded the last
    good model goes on answering, and the answers and `get_model_info` say so; it is tried again
    after `retry_after_s` at the earliest. With `log` every
    answer is logged with its features. Not for two threads at once.
    """

    def __init__(  # noqa: PLR0913 - each has a default
        self,
        *,
        local_dir: str | None = None,
        model_id: str | None = None,
        config_file: str | None = None,
        log: bool = True,
        reload_after_s: float = RELOAD_AFTER_S,
        retry_after_s: float = 0.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folder = quick.local_dir(local_dir)
        self.settings = quick.quick_settings(config_file, self._folder)
        self._model_id = model_id
        self._log = log
        self._reload_after_s, self._retry_after_s = reload_after_s, retry_after_s
        # The champion that could not be loaded, and until when it is left alone.
        self._unloadable, self._left_until = "", 0.0
        self._clock = clock
        self._store: ServingView = self._open_store()
        self._logger: EvaluationLogger | None = None
        self._checked_at = 0.0
        self._model: ServedModel | None = None
        self._scorer: scoring.Scorer | None = None
        self._trouble: str | None = None
        self._without_scoring_file: str | None = None

    def _open_store(self) -> ServingView:
        if self._folder is not None:
            return opening.open_local_serving_view(self._folder)
        from ml_pipeline.config.environment import load_store_settings

        return opening.open_serving_view(load_store_settings())

    def _serving(self) -> tuple[ServedModel, scoring.Scorer]:
        """The model that answers now. Raises NotFound, ArtifactError or StoreError without one."""
        now = time.monotonic()
        if self._model is None or self._scorer is None:
            self._model, self._scorer = self._load(self._wanted())
            self._checked_at = now
        elif self._model_id is None and now - self._checked_at >= self._reload_after_s:
            self._checked_at = now
            self._take_up_champion(self._model)
        return self._model, self._scorer

    def _take_up_champion(self, serving: ServedModel) -> None:
        try:
            wanted = self._wanted()
            if wanted.model_id == self._unloadable and time.monotonic() < self._left_until:
                return
            if wanted.model_id != serving.model_id:
                self._unloadable = wanted.model_id
                self._left_until = time.monotonic() + self._retry_after_s
                self._model, self._scorer = self._load(wanted)
            self._unloadable, self._trouble = "", None
        except (ArtifactError, StoreError) as error:
            if isinstance(error, StoreError):
                self._unloadable = ""  # it may be whole: nobody could look
            if self._trouble is None:
                _warn("%s goes on answering: %s", serving.model_id, error)
            self._trouble = f"{serving.model_id} goes on answering: {error.message}"

    def _wanted(self) -> ServedModel:
        name = self.settings.model_name
        if self._model_id is not None:
            return self._store.model(name, self._model_id)
        champion = self._store.champion(name)
        if champion is None:
            raise NotFound(
                f"No model serves {name} yet, so nothing can be predicted.",
                hint="Register one with `ml-pipeline train --register`, or run `ml-pipeline run`.",
            )
        return champion

    def _load(self, model: ServedModel) -> tuple[ServedModel, scoring.Scorer]:
        trouble = None
        if model.scoring is not None:
            digest, size = str(model.scoring["digest"]), model.scoring["size"]
            bound = size if type(size) is int else None
            try:
                path = self._store.scoring_path(model)
                scorer = scoring.load(path, digest=digest, size=bound)
            except (ArtifactCorrupt, NotFound) as error:
                trouble = (
                    f"{model.model_id} is scored from its artifact, more slowly: {error.message}"
                )
            else:
                self._without_scoring_file = None
                return model, scorer
        from ml_pipeline.serving.artifact import load_artifact

        loaded = load_artifact(self._folder, self.settings.model_name, model.model_id)
        if trouble is not None:
            _warn("%s", trouble)
        self._without_scoring_file = trouble
        return model, loaded

    def answering(self) -> Answering:
        """What answers now, for answers beside this thread: model, scorer and warnings are one."""
        model, scorer = self._serving()
        return Answering(model, scorer, self._troubles())

    def get_model_info(self) -> dict[str, Any]:
        """What answers: the model, its input, its threshold and its metrics."""
        return self.answering().info(self.settings)

    def _troubles(self) -> list[str]:
        return [text for text in (self._trouble, self._without_scoring_file) if text is not None]

    def predict(
        self,
        features: object = None,
        match_id: str | None = None,
        *,
        text: str | None = None,
        entity_id: str | None = None,
    ) -> dict[str, Any]:
        """Answer for one row: values in the model's order, or by name, and the text it reads.

        `entity_id` is another name of `match_id`.

        Raises InputError for input that cannot be used.
        """
        answer, row = self._answer(features, one_id(match_id, entity_id), text)
        if row is not None:
            self.logger.write([row])
        return answer

    def correct(  # noqa: PLR0913 - an answer, and what it was about
        self,
        features: object = None,
        match_id: str | None = None,
        *,
        probabilities: Mapping[str, float] | None = None,
        prediction: str | None = None,
        confidence: float | None = None,
        text: str | None = None,
        entity_id: str | None = None,
    ) -> dict[str, Any]:
        """Correct what an incumbent, a classifier of somebody's own, answered for one row.

        It answered with `probabilities` by class, which sum to 1; or with a `prediction` and its
        `confidence` from 0 to 1, of which the other classes share the rest. What is logged is the
        corrected answer, and the incumbent's beside it.

        Raises InputError for an answer that is none, and for a model that corrects nobody.
        """
        incumbent = incumbents.one_answer(probabilities, prediction, confidence)
        answer, row = self._answer(features, one_id(match_id, entity_id), text, incumbent)
        if row is not None:
            self.logger.write([row])
        return answer

    def batch_predict(self, rows: object) -> list[dict[str, Any]]:
        """Answer for many rows; one that cannot be used gets its `error`, the rest goes on.

        A mapping may hold `match_id` (or `entity_id`, or what data.id_column names) and the text
        beside the features; a string is a text. A frame and a matrix are taken row by row. For a
        model that corrects an incumbent a mapping holds its answer under `incumbent`, by class, or
        as a label with its `incumbent_confidence`.
        Raises InputError for what is no collection of rows.
        """
        from ml_pipeline.store.inputs.values import many_rows, one_row

        answers: list[dict[str, Any]] = []
        logged: list[EventRow] = []
        for passed in many_rows(rows):
            own_id: str | None = None
            try:
                plain, incumbent = one_row(passed), None
                if isinstance(plain, Mapping):
                    own_id = self._own_id(plain)
                    incumbent = incumbents.of_row(plain, self._serving()[1])
                answer, row = self._answer(plain, own_id, None, incumbent)
                if row is not None:
                    logged.append(row)
            except InputError as error:
                answer = {"match_id": own_id, "prediction": None, "error": error.message}
            answers.append(answer)
            if len(logged) >= LOGGED_AT_ONCE:
                self.logger.write(logged)
                logged = []
        if logged:
            self.logger.write(logged)
        return answers

    def _own_id(self, row: Mapping[str, object]) -> str | None:
        from ml_pipeline.store.inputs.values import id_text

        names = ("match_id", "entity_id", self.settings.id_column)
        return next((text for name in names if (text := id_text(row.get(name), name))), None)

    def _answer(
        self,
        passed: object,
        match_id: str | None,
        text: str | None,
        incumbent: Mapping[str, object] | None = None,
    ) -> tuple[dict[str, Any], EventRow | None]:
        answer, row = self.answering().answer(
            passed, match_id, text, settings=self.settings, clock=self._clock, incumbent=incumbent
        )
        return answer, row() if self._log else None

    @property
    def imputes(self) -> bool:
        """Whether a missing value is filled in, as in training."""
        return self.settings.missing == "impute"

    def batch_scorer(self) -> BatchScorer:
        """The model that answers now, for a file of rows."""
        from ml_pipeline.serving.artifact import BatchScorer, load_artifact

        model, scorer = self._serving()
        name, folder = self.settings.model_name, self._folder
        return BatchScorer(
            scorer=scorer, served=model, load=lambda: load_artifact(folder, name, model.model_id)
        )

    def scorer(self) -> scoring.Scorer:
        """What answers now, without checks and log."""
        return self._serving()[1]

    def now(self) -> datetime:
        """The engine's time."""
        return self._clock()

    def evaluate_prediction(
        self, event_id: str, actual_result: object, *, correct: bool = False
    ) -> float:
        """Record what really happened; returns the accuracy, 1.0 or 0.0, which is computed.

        The label may be spelt as `data.labels` allows; InputError names the known ones. Raises
        NotFound for an unknown event and StoreRefused when another outcome stands, unless this one
        is to `correct` it.
        """
        return self.logger.log_evaluation(event_id, actual_result, correct=correct)

    @property
    def logger(self) -> EvaluationLogger:
        """The evaluation log, opened on first use."""
        if self._logger is None:
            from ml_pipeline.evaluation_log.logger import EvaluationLogger

            path = quick.evaluation_csv(self.settings.csv_file, self._folder)
            self._logger = EvaluationLogger(
                path,
                model_name=self.settings.model_name,
                open_table=lambda: self._store,
                labels=self._labels,
                clock=self._clock,
            )
        return self._logger

    def _labels(self) -> Labels:
        from ml_pipeline.store.inputs.labels import Labels

        return Labels(self.settings.spellings, is_open=self.settings.any_label)

    def close(self) -> None:
        """Let go of the store and the log."""
        if self._logger is not None:
            self._logger.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _warn(message: str, *values: object) -> None:
    import logging

    logging.getLogger("prediction_engine").warning(message, *values)
