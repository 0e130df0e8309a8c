"""The HTTP service in a thread of this process, and models for it to serve."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ml_pipeline.config.settings import Settings
from ml_pipeline.registry import archive
from ml_pipeline.registry.models import MODEL_BUCKET, artifact_path, scoring_path
from ml_pipeline.registry.scoring_writer import write_scoring
from ml_pipeline.serving.hosted.service import PredictionService
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import (
    Lineage,
    ModelState,
    ModelVersion,
    PromotionEvent,
    PromotionKind,
)
from ml_pipeline.web.guard import Guard
from ml_pipeline.web.predictions.app import PredictionApp
from ml_pipeline.web.predictions.server import Server
from ml_pipeline.web.proxies import Proxies, placed
from tests.support import league

TOKEN = "correct horse battery staple"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ROW = [0.5, -0.3, 0.2, 0.1, 0.4]
SURE = [3.0, -3.0, 3.0, -3.0, 1.0]
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever was answered
        return json.loads(self.text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hosted:
    """A service, and calls of it."""

    port: int
    service: PredictionService
    stop: Callable[[], None]
    base_path: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: BEARER)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,  # noqa: ANN401 - JSON, or bytes
        **headers: str,
    ) -> Reply:
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(
                method, f"{self.base_path}{path}", content, {**self.headers, **named}
            )
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(status=answer.status, headers=found, text=answer.read().decode())
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> Reply:  # noqa: ANN401 - JSON, or bytes
        return self.call("POST", path, body, **headers)

    def get(self, path: str, **headers: str) -> Reply:
        return self.call("GET", path, **headers)

    def predict(self, features: Any = ROW, **members: Any) -> dict[str, Any]:  # noqa: ANN401
        """An answer, which there is."""
        reply = self.post("/v1/predict", {"features": features, **members})
        assert reply.status == 200, reply.text
        found: dict[str, Any] = reply.json
        return found


@contextmanager
def hosting(
    settings: Settings | None = None,
    *,
    local_dir: Path | str | None = None,
    config_file: str | None = None,
    proxies: Proxies | None = None,
    request_s: float = 20,
) -> Iterator[Hosted]:
    """Serve a store of this environment, or of a folder."""
    settings = league.settings_for() if settings is None else settings
    proxies = Proxies() if proxies is None else proxies
    with PredictionService.open(
        settings,
        local_dir=None if local_dir is None else str(local_dir),
        config_file=config_file,
        clock=lambda: datetime.now(UTC),
    ) as service:
        app = placed(PredictionApp(service, Guard(token=TOKEN)), proxies)
        server = Server(app, host="127.0.0.1", port=0, request_s=request_s)
        thread = threading.Thread(target=server.run)
        port = server.port
        thread.start()
        try:
            yield Hosted(port=port, service=service, stop=server.stop, base_path=proxies.base_path)
        finally:
            server.stop()
            thread.join(30)
            service.logger.close(within_s=5)
            assert not thread.is_alive()


def turned_model() -> Any:  # noqa: ANN401 - AdaptiveClassifier
    """A model that says the opposite of the league's first one."""
    from ml_pipeline.training import algorithms
    from ml_pipeline.training.strategies import new_model

    settings = league.settings_for()
    past = league.play(2, 300, turned=True)
    base = algorithms.fit("LogisticRegression", past.features, past.labels, settings.training)
    return new_model(base, past.features, league.CLASSES, settings)


def promote(
    store: Store,
    model: Any,  # noqa: ANN401 - AdaptiveClassifier
    folder: Path,
    model_id: str,
    *,
    spoil: Callable[[Path], None] = lambda _: None,
) -> None:
    """Register a model with its scoring file and let it serve; `spoil` gets what is stored."""
    paths = [folder / f"{model_id}.skops", folder / f"{model_id}.scoring"]
    archive.save_model(model, paths[0])
    assert write_scoring(model, paths[1])
    champion = store.champion(model_name="default")
    count = len(store.list_models(model_name="default"))
    stored = [
        store.put(MODEL_BUCKET, where("default", model_id), path)
        for where, path in zip((artifact_path, scoring_path), paths, strict=True)
    ]
    for ref, path in zip(stored, paths, strict=True):
        before = path.read_bytes()
        spoil(path)
        if path.read_bytes() != before:
            store.remove(ref.bucket, ref.path)
            store.put(ref.bucket, ref.path, path)
    store.register(
        ModelVersion(
            model_name="default",
            model_id=model_id,
            algorithm="LogisticRegression",
            artifact=stored[0],
            created_at=NOW + timedelta(minutes=count),
            state=ModelState.CANDIDATE,
            anchor_id=model_id,
            lineage=Lineage(scoring=stored[1]),
            confidence_threshold=0.5,
            library_versions=archive.library_versions(),
        )
    )
    store.promote(
        PromotionEvent(
            event_id=league.event_id(f"promotion of {model_id} {count}"),
            model_name="default",
            kind=PromotionKind.PROMOTION,
            to_model_id=model_id,
            from_model_id=None if champion is None else champion.model_id,
            reason="a test",
            actor="test",
            created_at=NOW + timedelta(minutes=count),
        )
    )


def said(model: Any, row: list[float]) -> list[float]:  # noqa: ANN401 - AdaptiveClassifier
    """What a model says to a row."""
    return [float(share) for share in model.predict_proba(np.asarray([row]))[0]]


def correcting_model() -> Any:  # noqa: ANN401 - AdaptiveClassifier
    """A model that has learned some nights to correct an incumbent of the league's matches."""
    from ml_pipeline.config.kind import Kind
    from ml_pipeline.store.inputs.incumbent_columns import share_columns
    from ml_pipeline.training.brought.incumbent import fitted_base
    from ml_pipeline.training.strategies import new_model

    settings = league.settings_for(training__algorithm="Incumbent")
    names = [*settings.data.features, *share_columns(league.CLASSES)]
    settings = settings.reading(dict.fromkeys(names, Kind.NUMBER))
    past = league.play(3, 120)
    shares = np.random.default_rng(3).dirichlet(np.ones(3), size=120)
    rows = np.hstack([past.features, shares])
    base = fitted_base("Incumbent", rows, past.labels, settings)
    model = new_model(base, rows, league.CLASSES, settings)
    for _ in range(3):
        model.partial_fit(rows, past.labels)
    return model
