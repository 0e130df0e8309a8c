"""The store alone: one conformance kit for every adapter, then what each adapter adds."""

import pytest

pytest.register_assert_rewrite(
    "tests.contract.kit.kit",
    "tests.contract.kit.artifacts",
    "tests.contract.kit.base",
    "tests.contract.kit.log",
    "tests.contract.kit.models",
    "tests.contract.kit.requests",
    "tests.contract.kit.runs",
    "tests.contract.kit.truth",
    "tests.contract.kit.watch",
)
