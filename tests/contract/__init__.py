"""One conformance kit, run on every store."""

import pytest

pytest.register_assert_rewrite(
    "tests.contract.kit",
    "tests.contract.kit_artifacts",
    "tests.contract.kit_base",
    "tests.contract.kit_log",
    "tests.contract.kit_models",
    "tests.contract.kit_requests",
    "tests.contract.kit_runs",
)
