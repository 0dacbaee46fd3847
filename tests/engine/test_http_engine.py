"""The engine over HTTP against a real server on a real port: what it sends, what it understands, and what it makes of every fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.engine.fake_server as fake
from homefire.engine.grammar import Grammar
from homefire.engine.remote import close_remote_engines
from homefire.engine.request import AdapterRef, Delta, Request, Sampling
from homefire.errors import AdapterError, ContextTooLong, EngineError, ServerError
from tests.engine.fake_server import ASK, FakeServer, answer, choice, engine, events, say, status

FORM = Grammar('root ::= "x"\n', json_schema='{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}')


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as one:
        yield one
        close_remote_engines()


def ask(request: Request = ASK, **changes: Any) -> Request:
    values = {name: getattr(request, name) for name in request.__slots__}
    sampling = {key: changes.pop(key) for key in list(changes) if key in Sampling.__slots__}
    return Request(**{**values, **({"sampling": Sampling(**sampling)} if sampling else {}), **changes})


def test_a_call_and_what_it_says_of_itself(server: FakeServer) -> None:
    made = engine(server)
    assert server.connections == 0, "nothing is contacted before the first call"
    (one,) = made.submit(ask(temperature=0.5, top_p=0.9, seed=3, stop=("END",), max_tokens=9)).result()
    assert (one.text, one.finish_reason, one.token_ids) == ("hello", "stop", ())
    assert (one.prompt_tokens, one.completion_tokens, one.cached_tokens) == (7, 3, 4) and one.seconds > 0
    sent = server.posts[0]
    assert sent.path == "/v1/chat/completions" and sent.headers["authorization"] == "Bearer secret-key"
    assert sent.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["END"],
    }
    info = made.info
    assert (info.backend, info.model, info.adapter_mode, info.max_batch) == ("http", "openai/m", "none", 32)
    assert info.identity.startswith(f"http {server.url} m") and "secret-key" not in repr(info) + repr(made._endpoint)


def test_calls_share_connections_and_engines_are_shared(server: FakeServer) -> None:
    made = engine(server)
    assert engine(server) is made and engine(server, num_retries=1) is not made
    for _ in range(5):
        made.submit(ASK).result()
    assert server.connections == 1
    futures = [made.submit(ASK) for _ in range(100)]
    assert all(future.result()[0].text == "hello" for future in futures)
    assert server.connections <= made.info.max_batch + 1


def test_several_completions_come_in_one_request(server: FakeServer) -> None:
    made = engine(server)
    assert len(made.submit(ask(n=4, temperature=1.0)).result()) == 4
    assert [post.body["n"] for post in server.posts] == [4]


def test_missing_completions_are_asked_for_at_once(server: FakeServer) -> None:
    server.replies = [answer(choice("first"))]
    texts = [one.text for one in engine(server).submit(ask(n=3, temperature=1.0, seed=5)).result()]
    assert texts == ["first", "hello", "hello"]
    assert [(post.body.get("n"), post.body["seed"]) for post in server.posts] == [(3, 5), (None, 6), (None, 7)]


def test_a_server_that_refuses_several_completions_is_asked_one_by_one(server: FakeServer) -> None:
    refused = status(400, {"error": {"message": "'n' : number must be at most 1", "param": "n"}})
    server.replies = [refused]
    made = engine(server)
    for _ in range(2):
        assert len(made.submit(ask(n=2, temperature=1.0)).result()) == 2
    assert [post.body.get("n") for post in server.posts] == [2, None, None, None, None]


def test_pieces_come_in_order_and_make_the_text(server: FakeServer) -> None:
    heard: list[Delta] = []
    completions = engine(server).submit(ask(n=2, temperature=1.0), heard.append).result()
    for index, one in enumerate(completions):
        assert one.text == "hello" == "".join(delta.text for delta in heard if delta.index == index)
        assert one.prompt_tokens == 7 and one.completion_tokens == 3
    assert server.posts[0].body["stream_options"] == {"include_usage": True}


def test_a_listener_that_fails_does_not_matter(server: FakeServer) -> None:
    def listener(delta: Delta) -> None:
        raise RuntimeError("mine")

    assert engine(server).submit(ASK, listener).result()[0].text == "hello"


def test_thoughts_are_kept_apart(server: FakeServer) -> None:
    inline = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in ("<th", "ink>I th", "ink</thi", "nk>\n\nYes", "!")]
    apart = [{"choices": [{"index": 0, "delta": {key: text}}]} for key, text in (("reasoning_content", "I think"), ("content", "\n\nYes!"))]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    server.replies = [
        answer(choice("\n\nYes!", reasoning="I think")),
        answer(choice("<think>I think</think>Yes!")),
        answer(choice("I think\n</think>\n\nYes!")),
        answer(choice([{"type": "thinking", "thinking": [{"text": "I think"}]}, {"type": "text", "text": "Yes!"}])),  # type: ignore[arg-type]
        events([*inline, end]),
        events([*apart, end]),
    ]
    made = engine(server)
    for streamed in (False, False, False, False, True, True):
        heard: list[Delta] = []
        (one,) = made.submit(ASK, heard.append if streamed else None).result()
        assert (one.thinking, one.text) == ("I think", "Yes!")
        assert not streamed or "".join(delta.text for delta in heard if not delta.thinking) == "Yes!"
        assert not streamed or "".join(delta.text for delta in heard if delta.thinking) == "I think"


def test_logprobs_and_token_ids(server: FakeServer) -> None:
    said = {"logprobs": {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1}]}, "token_ids": [5, 6]}
    server.replies = [answer({**choice("ab"), **said})]
    (one,) = engine(server, "hosted_vllm/m").submit(ask(logprobs=True)).result()
    assert one.logprobs == (-0.5, -1.0) and one.token_ids == (5, 6) and one.completion_tokens == 2
    assert server.posts[0].body["logprobs"] is True and server.posts[0].body["return_token_ids"] is True


def test_finish_reasons(server: FakeServer) -> None:
    server.replies = [answer(choice("a", finish=reason)) for reason in ("length", "max_tokens", "tool_calls", None, "content_filter")]
    made = engine(server)
    assert [made.submit(ASK).result()[0].finish_reason for _ in range(4)] == ["length", "length", "stop", "stop"]
    with pytest.raises(ServerError, match="gave an answer up \\(content_filter\\)"):
        made.submit(ASK).result()


# The dialect of a server that is not known is found out, and a form that it refuses is asked for no more.


@pytest.mark.parametrize(("owner", "level"), [("vllm", "grammar"), ("sglang", "grammar"), ("llamacpp", "grammar"), ("who", "json_schema")])
def test_the_kind_of_a_server_is_found_out_once(server: FakeServer, owner: str, level: str) -> None:
    server.owner, server.context = owner, 4096
    made = engine(server)
    before = made.identity
    for _ in range(2):
        made.submit(ask(grammar=FORM)).result()
    assert (made.info.structured, made.info.context, made.info.identity) == (level, 4096, before)
    assert [seen.path for seen in server.seen].count("/v1/models") == 1
    assert {"vllm": "structured_outputs", "sglang": "ebnf", "llamacpp": "grammar", "who": "response_format"}[owner] in server.posts[0].body


def test_a_server_without_a_list_of_models_is_taken_as_it_comes(server: FakeServer) -> None:
    server.owner = None
    made = engine(server)
    assert made.info.structured == "json_schema" and made.submit(ASK).result()[0].text == "hello"


def test_a_refused_form_is_one_step_down_for_good_and_said_once(server: FakeServer, capfd: pytest.CaptureFixture[str]) -> None:
    server.replies = [status(400, {"error": {"message": "unknown field json_schema"}}), status(422, {"detail": "response_format: no"})]
    made = engine(server)
    for _ in range(3):
        assert made.submit(ask(grammar=FORM)).result()[0].text == "hello"
    kinds = [post.body.get("response_format", {}).get("type") for post in server.posts]
    assert kinds == ["json_schema", "json_object", None, None, None]
    assert made.info.structured == "none"
    said = "".join(capfd.readouterr().err.split())
    assert said.count("refusedjson_schema") == 1 and "itenforcesnothing" in said


def test_a_form_that_a_server_does_not_enforce_is_said_once(server: FakeServer, capfd: pytest.CaptureFixture[str]) -> None:
    made = engine(server, "anthropic/m")
    for _ in range(2):
        made.submit(ask(grammar=FORM)).result()
    assert "".join(capfd.readouterr().err.split()).count("enforcesnoform") == 1


def test_one_refused_schema_is_that_schema_s_own(server: FakeServer) -> None:
    server.replies = [status(400, {"error": {"message": "Invalid schema for response_format 'output'"}})]
    made, other = engine(server), Grammar("y", json_schema='{"type": "object", "properties": {}}')
    for form in (FORM, FORM, other):
        made.submit(ask(grammar=form)).result()
    assert [post.body["response_format"]["type"] for post in server.posts] == ["json_schema", "json_object", "json_object", "json_schema"]
    assert made.info.structured == "json_schema"


def test_parameters_that_a_server_does_not_take_are_left_out(server: FakeServer) -> None:
    server.replies = [
        status(
            400, {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "param": "max_tokens"}}
        ),
        status(400, {"error": {"message": "Unsupported value: 'temperature' does not support 0.", "param": "temperature"}}),
    ]
    made = engine(server)
    for _ in range(2):
        made.submit(ASK).result()
    assert len(server.posts) == 4
    assert server.posts[-1].body == {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 512}


def test_other_refusals_are_errors_at_once(server: FakeServer) -> None:
    server.replies = [status(400, {"error": {"message": "messages: must not be boring"}})]
    with pytest.raises(ServerError, match=r"m at http.* refused the request \(400\): messages: must not be boring"):
        engine(server, num_retries=3).submit(ask(grammar=None)).result()
    assert len(server.posts) == 1
    server.replies = [status(404, {"error": {"message": "no such model"}})]
    with pytest.raises(ServerError, match=r"\(404\): no such model. Check that the server has a model 'm'"):
        engine(server).submit(ASK).result()


# The context of a server is its own business until it says that it is too small.


def test_a_completion_gets_the_tokens_that_there_is_room_for(server: FakeServer) -> None:
    said = (
        "This model's maximum context length is 100 tokens. However, you requested 512 output tokens and your prompt has 40 input tokens."
    )
    server.replies = [status(400, {"error": {"message": said}})]
    made = engine(server)
    assert made.submit(ask(reserve=10)).result()[0].text == "hello"
    assert [post.body["max_tokens"] for post in server.posts] == [512, 50]
    assert made.info.context == 100


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ("This model's maximum context length is 100 tokens. However, your prompt contains at least 400 input tokens", (400, 100)),
        ("This model's maximum context length is 100 tokens. However, your messages resulted in 400 tokens.", (400, 100)),
        ("However, you requested 912 tokens (400 in the messages, 512 in the completion). The maximum context length is 100", (400, 100)),
        ("request (400 tokens) exceeds the available context size (100 tokens), try increasing it", (400, 100)),
        ("The input (400 tokens) is longer than the model's context length (100 tokens).", (400, 100)),
        ("max_tokens=912 cannot be greater than max_model_len=100, and your request has 400 input tokens", (400, 100)),
        ("prompt is too long: 400 tokens > 100 maximum", (400, 100)),
    ],
)
def test_a_prompt_that_is_too_long_says_by_how_much(server: FakeServer, said: str, counts: tuple[int, int]) -> None:
    server.replies = [status(400, {"error": {"message": said}})]
    with pytest.raises(ContextTooLong) as caught:
        engine(server).submit(ASK).result()
    assert (caught.value.prompt_tokens, caught.value.context_tokens) == counts


# What only vLLM's own server can do: token ids, continuations, scores, adapters.


def test_continuations_go_behind_exact_token_ids(server: FakeServer) -> None:
    server.owner, server.tokenizer = "vllm", True
    made = engine(server)
    assert made.info.continues and made.info.scores
    (one,) = made.submit(ask(generated=(1, 2), prefill="ab", grammar=FORM)).result()
    assert one.text == "hello" and server.posts[0].path == "/v1/completions"
    assert server.posts[0].body["prompt"] == [ord("H"), ord("i"), 1, 2, ord("a"), ord("b")]
    assert server.posts[0].body["structured_outputs"] == {"grammar": FORM.gbnf}
    assert made.count_tokens(ask(prefill="abc")) == 5


def test_without_a_tokenizer_the_last_message_stays_open(server: FakeServer) -> None:
    made = engine(server, "hosted_vllm/m")
    assert made.submit(ask(prefill="ab")).result()[0].text == "hello"
    sent = server.posts[0].body
    assert sent["messages"][-1] == {"role": "assistant", "content": "ab"}
    assert sent["continue_final_message"] is True and sent["add_generation_prompt"] is False
    with pytest.raises(EngineError, match="cannot go on behind token ids"):
        made.submit(ask(generated=(1,))).result()
    assert not made.info.scores and made.count_tokens(ASK) > 0


def test_half_a_character_at_the_end_shows(server: FakeServer) -> None:
    cut = [{**choice("a", finish="length"), "token_ids": [97, 300]}]
    server.replies, server.tokenizer = [answer(*cut), answer(*cut)], True
    made = engine(server, "hosted_vllm/m")
    (one,) = made.submit(ASK).result()
    assert (one.text, one.token_ids) == ("a\ufffd", (97, 300))
    server.tokenizer = False
    (one,) = made.submit(ASK).result()
    assert (one.text, one.token_ids) == ("a", ())


def test_servers_that_cannot_continue_say_so_before_anything_is_sent(server: FakeServer) -> None:
    made = engine(server, "ollama_chat/m")
    assert not made.info.continues
    with pytest.raises(EngineError, match="cannot go on with an answer that was begun \\(ollama"):
        made.submit(ask(prefill="ab"))
    with pytest.raises(EngineError, match="does not take min_p"):
        made.submit(ask(min_p=0.1))
    with pytest.raises(EngineError, match="gives no log-probabilities of given texts"):
        made.score(ASK, ["a"])
    assert server.connections == 0
    unknown = engine(server)
    with pytest.raises(EngineError, match="cannot go on"):
        unknown.submit(ask(prefill="ab")).result()


def test_scores_come_in_one_call(server: FakeServer) -> None:
    server.tokenizer = True
    server.otherwise = lambda connection, seen: status(200, fake.logprobs_of(seen.body["prompt"], lambda token: -token / 100))(
        connection, seen
    )
    made = engine(server, "hosted_vllm/m")
    scores = made.score(ask(prefill="P"), ["a", "ab", ""]).result()
    assert scores == pytest.approx([-0.97, -1.95, 0.0])
    assert made.score(ASK, []).result() == []
    assert len(server.posts) == 1 and server.posts[0].body["prompt"][1] == [ord(char) for char in "HiPab"]
    server.otherwise = say()
    with pytest.raises(ServerError, match="gave no log-probabilities"):
        made.score(ASK, ["a"]).result()


def test_adapters_are_names_of_models(server: FakeServer) -> None:
    adapter = AdapterRef("area", 3, Path("x"))
    engine(server, "hosted_vllm/m").submit(ask(adapter=adapter)).result()
    assert server.posts[0].body["model"] == "area@3"
    with pytest.raises(AdapterError, match="area@3 cannot be used on m at"):
        engine(server, "groq/m").submit(ask(adapter=adapter))
    with pytest.raises(AdapterError, match="area@3"):
        engine(server).submit(ask(adapter=adapter)).result()


def test_extra_fields_are_sent_and_change_the_identity(server: FakeServer) -> None:
    plain, more = engine(server), engine(server, extra_body={"reasoning_effort": "low"}, headers={"X-Team": "blue-team"})
    more.submit(ASK).result()
    assert server.posts[0].body["reasoning_effort"] == "low" and server.posts[0].headers["x-team"] == "blue-team"
    assert plain.info.identity != more.info.identity
    assert json.dumps(more.info.settings).count("blue-team") == 0
