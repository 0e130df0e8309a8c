"""The conformance kit: every promise of `ml_pipeline.store.contract` as a test.

To hold an adapter to them, subclass `StoreContract` and override the fixture `open_store`: it
returns a function that opens another handle on the same store, which starts empty.
"""

from __future__ import annotations

import json

from ml_pipeline.store.contract import Store
from tests.contract.kit.answers import AnswersContract
from tests.contract.kit.artifacts import ArtifactStoreContract
from tests.contract.kit.base import OpenStore
from tests.contract.kit.log import EvaluationLogContract
from tests.contract.kit.models import ModelRegistryContract
from tests.contract.kit.requests import RequestQueueContract
from tests.contract.kit.runs import RunLedgerContract
from tests.contract.kit.truth import GroundTruthContract
from tests.contract.kit.watch import WatchLedgerContract

__all__ = ["OpenStore", "StoreContract"]


class StoreContract(
    EvaluationLogContract,
    AnswersContract,
    RunLedgerContract,
    RequestQueueContract,
    ArtifactStoreContract,
    ModelRegistryContract,
    GroundTruthContract,
    WatchLedgerContract,
):
    """Every promise."""

    def test_a_store_describes_its_kind(self, store: Store) -> None:
        assert json.loads(json.dumps(dict(store.describe())))["kind"]
