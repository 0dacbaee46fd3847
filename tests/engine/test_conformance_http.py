"""The conformance suite on the engine over HTTP, against a real server on a real port with a scripted model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from homefire.engine.remote import RemoteSettings, remote_engine
from tests.engine.conformance import CAPITAL, CHECKS, Check, Subject
from tests.engine.fake_server import FakeServer, scripted


def text_of(body: Mapping[str, Any]) -> str:
    """The text of a grammar that has only one, or what the user's turn is known for."""
    grammar = body.get("structured_outputs", {}).get("grammar", "")
    if found := re.fullmatch(r'root ::= "(.*)"\n', grammar):
        return re.sub(r"\\u([0-9a-f]{4})", lambda code: chr(int(code.group(1), 16)), found.group(1))
    return "It is Paris." if body["messages"][-1]["content"] == CAPITAL else "Once upon a time."


@pytest.fixture(scope="module")
def subject() -> Iterator[Subject]:
    with FakeServer(owner="vllm", context=2000, tokenizer=True, otherwise=scripted(text_of)) as server:
        engine = remote_engine("openai/m", RemoteSettings(api_base=server.url, api_key="", num_retries=0))
        yield Subject(engine=engine, real=False, counts=False)
        engine.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(subject: Subject, check: Check) -> None:
    check(subject)
