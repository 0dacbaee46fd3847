"""The conformance suite on transformers with the real small model, in float32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conformance import CHECKS, Check, Subject
from tests.engine.real_engines import random_adapter, subject_of


@pytest.fixture(scope="module")
def subject(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp("conformance")
    with subject_of(smollm2, "transformers", folder, adapter=random_adapter(smollm2, folder)) as made:
        yield made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(subject: Subject, check: Check) -> None:
    check(subject)
