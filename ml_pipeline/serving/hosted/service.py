"""What a server answers with, whatever protocol it speaks: one model, one log, one store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any, Final

from ml_pipeline.config.environment import StoreSettings, load_store_settings
from ml_pipeline.config.quick import evaluation_csv
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import InputError, StoreUnavailable
from ml_pipeline.evaluation_log.outbox.server_log import ServerLogger
from ml_pipeline.serving.answered import Answering
from ml_pipeline.serving.engine import PredictionEngine
from ml_pipeline.serving.hosted.champion import HostedChampion
from ml_pipeline.serving.hosted.recording import record_labels, record_outcomes
from ml_pipeline.store.contract import Store
from ml_pipeline.store.event_row import EventRow
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.opening import open_local_serving_view, open_serving_view, open_store
from ml_pipeline.store.serving_view import ServingView

# Calls that wait for the store at once: the others of a server's threads go on predicting.
STORE_CALLS: Final = 8
# A damaged champion is not fetched again and again.
DAMAGED_S: Final = 30.0
_NAMED: Final = 10
_NAME_LETTERS: Final = 80

Features = Mapping[str, object] | Sequence[object] | None
RowInput = tuple[Features, str | None, str | None, Mapping[str, object] | None]
"""Features, text, id, and the answer of an incumbent that is to be corrected."""


class PredictionService:
    """For many threads at once. `open` it, and close it in the end."""

    def __init__(
        self,
        *,
        settings: Settings,
        engine: PredictionEngine,
        logger: ServerLogger,
        store: Store,
        clock: Callable[[], datetime],
    ) -> None:
        self.settings = settings
        self.logger = logger
        self.champion = HostedChampion(engine)
        self.is_ending = False
        self._quick = engine.settings
        self._store = store
        self._clock = clock
        self._slots = threading.BoundedSemaphore(STORE_CALLS)

    @classmethod
    @contextmanager
    def open(
        cls,
        settings: Settings,
        *,
        local_dir: str | None,
        config_file: str | None,
        clock: Callable[[], datetime],
    ) -> Iterator[PredictionService]:
        """Open the chosen store and its log; a model need not be there yet.

        Raises ConfigError, StoreRefused and DataError for what would not get better by itself.
        """
        chosen = load_store_settings(local_dir)
        with ExitStack() as stack:
            store = open_store(chosen)
            stack.callback(store.close)
            engine = PredictionEngine(
                local_dir=chosen.local_dir, config_file=config_file, log=False, reload_after_s=0.0,
                retry_after_s=DAMAGED_S,
                clock=clock,
            )  # fmt: skip
            logger = ServerLogger(
                evaluation_csv(settings.log.csv_file, chosen.local_dir),
                model_name=settings.model_name,
                open_table=lambda: _view(chosen),
                labels=lambda: Labels.of(settings.data),
                clock=clock,
            )
            service = cls(settings=settings, engine=engine, logger=logger, store=store, clock=clock)
            stack.callback(service.champion.close)
            stack.callback(logger.close)
            logger.start()
            service.champion.start()
            yield service

    def predict(
        self,
        features: Features,
        *,
        text: str | None,
        match_id: str | None,
        log: bool,
        incumbent: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """The answer for one row, as `ml-pipeline predict` gives it; logged before it is given.

        `incumbent` is the answer that it corrects, if it does (`incumbents.one_answer`). Raises
        InputError, NotFound without a model, StoreUnavailable when it cannot be logged.
        """
        row_input = (features, text, match_id, incumbent)
        answer, row = self._answer(self.champion.answering(), row_input)
        if log:
            self.logger.write([row()])
        return answer

    def predict_many(self, rows: Sequence[RowInput], *, log: bool) -> list[dict[str, Any]]:
        """The answers for rows, all of one model.

        One that cannot be used gets its `error`, the rest goes on. Raises what `predict` does else.
        """
        answering = self.champion.answering()
        answers, logged = list[dict[str, Any]](), list[EventRow]()
        for row_input in rows:
            try:
                answer, row = self._answer(answering, row_input)
                if log:
                    logged.append(row())
            except InputError as error:
                answer = {"match_id": row_input[2], "prediction": None, "error": error.message}
            answers.append(answer)
        self.logger.write(logged)
        return answers

    def _answer(
        self, answering: Answering, row_input: RowInput
    ) -> tuple[dict[str, Any], Callable[[], EventRow]]:
        features, text, match_id, incumbent = row_input
        if isinstance(features, Mapping):
            _refuse_unknown(features, answering)
        return answering.answer(
            features, match_id, text, settings=self._quick, clock=self._clock, incumbent=incumbent
        )

    def model(self) -> dict[str, Any]:
        """What answers: see `PredictionEngine.get_model_info`."""
        return self.champion.answering().info(self._quick)

    def record_outcomes(
        self, entries: Sequence[Mapping[str, object]], *, correct: bool
    ) -> dict[str, Any]:
        """See `recording.record_outcomes`."""
        with self._a_slot():
            return record_outcomes(
                self.logger, self._store, self.settings, entries, now=self._clock(), correct=correct
            )

    def record_labels(self, entries: Sequence[Mapping[str, object]]) -> dict[str, Any]:
        """See `recording.record_labels`."""
        with self._a_slot():
            return record_labels(self._store, self.settings, entries, now=self._clock())

    @contextmanager
    def _a_slot(self) -> Iterator[None]:
        if not self._slots.acquire(blocking=False):
            raise StoreUnavailable(f"{STORE_CALLS} calls wait for the store already.")
        try:
            yield
        finally:
            self._slots.release()

    @property
    def is_ready(self) -> bool:
        """Whether predictions are answered."""
        return self.champion.model_id is not None and not self.is_ending

    def health(self) -> dict[str, Any]:
        """How it is: `ok`, `degraded` where something is worth a look, `failed` without a model."""
        away, waiting = self.logger.away, self.logger.waiting_bytes()
        warnings = self.champion.warnings
        if away:
            warnings = [*warnings, f"The store takes no events, they wait in the log: {away}"]
        status = "ok" if not warnings else "degraded"
        return {
            "status": status if self.champion.model_id is not None else "failed",
            "model_id": self.champion.model_id,
            "warnings": warnings,
            "store": "away" if away else "ok",
            "waiting_bytes": waiting,
            "is_ending": self.is_ending,
        }


def _view(chosen: StoreSettings) -> ServingView:
    """The store as the log needs it; an embedded one that is gone is not made anew."""
    if chosen.local_dir is not None:
        return open_local_serving_view(chosen.local_dir)
    return open_serving_view(chosen)


def _refuse_unknown(features: Mapping[str, object], answering: Answering) -> None:
    """Raise InputError for names that the model does not know: a typing error is no gap."""
    scorer = answering.scorer
    unknown = features.keys() - set(scorer.own_features) - {scorer.text_column}
    if unknown:
        names = sorted(unknown)
        shown = ", ".join(name[:_NAME_LETTERS] for name in names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        known = [*scorer.own_features, *([scorer.text_column] if scorer.text_column else [])]
        raise InputError(
            f"The model has no feature {shown}{more}.", hint=f"It takes {', '.join(known)}."
        )
