"""The model that answers in a server, renewed by a thread so that no request asks the store."""

from __future__ import annotations

import logging
import threading
from typing import Final

from ml_pipeline.errors import NotFound, PipelineError, StoreUnavailable
from ml_pipeline.serving.answered import Answering
from ml_pipeline.serving.engine import PredictionEngine

RENEWED_S: Final = 1.0
FIRST_S: Final = 5.0
# Nobody asks for predictions meanwhile.
IDLE_S: Final = 30.0
log = logging.getLogger("serve")


class HostedChampion:
    """What answers now: read by any thread, changed as a whole by one.

    The engine is the thread's alone from `start` on. A new champion is taken up about a second
    after its promotion while requests come, and with the first ones after a pause. One that cannot
    be loaded is not: the last good model goes on answering, and its warnings say so.
    """

    def __init__(self, engine: PredictionEngine) -> None:
        self._engine = engine
        self._answering: Answering | None = None
        self._fault: PipelineError = NotFound("No model has been loaded yet.")
        self._asked, self._ending = threading.Event(), threading.Event()
        self._tried = threading.Event()
        self._thread = threading.Thread(target=self._keep_renewing, name="champion", daemon=True)

    def start(self) -> None:
        """Load what serves; without anything that can be loaded, go on trying.

        A store that does not answer is not waited for.
        """
        self._thread.start()
        self._tried.wait(FIRST_S)

    def answering(self) -> Answering:
        """The model that answers now. Raises StoreUnavailable while none could be loaded so far."""
        if not self._asked.is_set():
            self._asked.set()
        found = self._answering
        if found is None:
            raise StoreUnavailable(self._fault.message, hint=self._fault.hint)
        return found

    @property
    def model_id(self) -> str | None:
        """Which model answers; None before the first."""
        return None if self._answering is None else self._answering.model.model_id

    @property
    def warnings(self) -> list[str]:
        """What is wrong with it, or why there is none."""
        found = self._answering
        return [str(self._fault)] if found is None else list(found.warnings)

    def _keep_renewing(self) -> None:
        self._renew()
        self._tried.set()
        while not self._ending.wait(RENEWED_S):
            if self._answering is not None:
                self._asked.wait(IDLE_S)
                self._asked.clear()
            if not self._ending.is_set():
                self._renew()

    def _renew(self) -> None:
        try:
            found = self._engine.answering()
        except PipelineError as error:
            self._go_on(error)
        except Exception as error:  # a fault of ours must not end the renewal for good
            log.exception("The champion could not be looked up")
            self._go_on(PipelineError(f"The champion could not be looked up: {error}."))
        else:
            before, self._answering = self._answering, found
            if before is None or before.model.model_id != found.model.model_id:
                log.info("%s answers from now on", found.model.model_id)

    def _go_on(self, fault: PipelineError) -> None:
        """Keep the last good model, if there was one, and say why."""
        found = self._answering
        if str(fault) != str(self._fault):
            log.warning("%s: %s", "No model answers" if found is None else "Not renewed", fault)
        self._fault = fault
        if found is not None:
            warning = f"{found.model.model_id} goes on answering: {fault.message}"
            self._answering = Answering(found.model, found.scorer, [warning])

    def close(self) -> None:
        """End the renewal; what is loaded goes on answering."""
        self._ending.set()
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join(5)
        if not self._thread.is_alive():
            self._engine.close()
