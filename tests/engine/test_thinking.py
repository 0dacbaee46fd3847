"""Thinking blocks: found in templates, allowed by grammars, split off texts whole and in pieces, written by the real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homefire.engine.grammar import Grammar
from homefire.engine.prompt import PromptEncoder
from homefire.engine.request import Completion, Delta, Message, Request, Sampling
from homefire.engine.thinking import Tags, Thinking, find_tags, has_switch
from homefire.engine.threaded_engine import ThreadedEngine
from homefire.engine.transformers_backend import TransformersBackend
from homefire.errors import InputError
from tests.engine.real_engines import small_settings

ANGLE, SQUARE = Tags("<think>", "</think>"), Tags("[THINK]", "[/THINK]")
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
HEAD = "{% if add_generation_prompt %}<|im_start|>assistant\n"
SWITCHED = "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
TEMPLATES = {
    "plain": TURNS + HEAD + "{% endif %}",
    "switched": TURNS + HEAD + SWITCHED,
    "opened": TURNS + "{# after </think> #}" + HEAD + "<think>\n{% endif %}",
    "named": TURNS + HEAD + "{% if thinking %}<think>{% else %}</think>{% endif %}{% endif %}",
    "square": "{# [THINK] and [/THINK] #}" + TURNS + HEAD + "{% endif %}",
}
NUMBER = Grammar('root ::= "{\\"n\\": " [0-9]{1,3} "}"\n')


def ask(text: str = "Hi", thinking: bool | None = None, **more: object) -> Request:
    return Request(messages=(Message("user", text),), thinking=thinking, **more)  # type: ignore[arg-type]


def model_with(template: str, smollm2: Path, folder: Path) -> Path:
    """The real model under another chat template."""
    folder.mkdir(exist_ok=True)
    for file in smollm2.iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).symlink_to(file)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def encoders(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PromptEncoder]:
    folder = tmp_path_factory.mktemp("templates")
    return {name: PromptEncoder(model_with(template, smollm2, folder / name)) for name, template in TEMPLATES.items()}


def rendered(encoder: PromptEncoder, request: Request) -> str:
    return str(encoder.tokenizer.decode(encoder.encode_request(request)))


def test_tags_and_switches_are_found_in_templates() -> None:
    assert {name: find_tags(template) for name, template in TEMPLATES.items()} == {
        "plain": None, "switched": ANGLE, "opened": ANGLE, "named": ANGLE, "square": SQUARE,
    }  # fmt: skip
    assert [name for name, template in TEMPLATES.items() if has_switch(template)] == ["switched", "named"]
    assert find_tags("{% if '</seed:think>' in content %}") == Tags("<seed:think>", "</seed:think>")
    assert not has_switch("{% if message.thinking %}{% endif %} thinking {{ m['thinking'] }}")


@pytest.mark.parametrize(
    ("name", "thinking", "end"),
    [
        ("plain", False, "assistant\n"),
        ("switched", None, "assistant\n"),
        ("switched", True, "assistant\n"),
        ("switched", False, "assistant\n<think>\n\n</think>\n\n"),
        ("opened", None, "assistant\n<think>\n"),
        ("opened", False, "assistant\n<think>\n\n</think>\n\n"),
        ("named", True, "assistant\n<think>"),
        ("named", False, "assistant\n</think>"),
        ("square", False, "assistant\n[THINK]\n\n[/THINK]\n\n"),
    ],
)
def test_requests_switch_thinking(encoders: dict[str, PromptEncoder], name: str, thinking: bool | None, end: str) -> None:
    assert rendered(encoders[name], ask(thinking=thinking)).endswith(end)


@pytest.mark.parametrize(
    ("name", "thinking", "begun"),
    [("plain", None, None), ("switched", None, False), ("switched", False, None), ("opened", None, True), ("opened", False, None),
     ("named", True, True), ("named", False, None), ("square", None, False)],
)  # fmt: skip
def test_what_an_answer_may_begin_with(encoders: dict[str, PromptEncoder], name: str, thinking: bool | None, begun: bool | None) -> None:
    block = encoders[name].prepared(ask("<think>", thinking))[1]
    assert (None if block is None else block.begun) == begun


def test_thoughts_of_earlier_turns_are_not_sent_back(encoders: dict[str, PromptEncoder]) -> None:
    def chat(answer: str) -> Request:
        return Request(messages=(Message("user", "a"), Message("assistant", answer), Message("user", "b")))

    for name in ("switched", "opened"):
        assert rendered(encoders[name], chat("<think>\nhm </b>\n</think>\n\nFour.")) == rendered(encoders[name], chat("Four."))
    kept = "Tags are <think> and </think>."
    assert kept in rendered(encoders["switched"], chat(kept))
    assert "<think>x</think>y" in rendered(encoders["plain"], chat("<think>x</think>y"))
    assert "<think>x</think>y" in rendered(encoders["switched"], ask("<think>x</think>y"))


@pytest.mark.parametrize(
    ("name", "said", "prefill", "end"),
    [
        ("opened", "Let me see", '{"n": ', 'assistant\n<think>\nLet me see\n</think>\n\n{"n": '),
        ("opened", "Let me see", "", "<think>\nLet me see\n</think>\n\n"),
        ("opened", "Let me see", '</think>{"n": ', 'Let me see</think>{"n": '),
        ("opened", "Hm.\n</think>\n\n{", '"n": ', '<think>\nHm.\n</think>\n\n{"n": '),
        ("opened", "", '{"n": ', '<think>\n\n</think>\n\n{"n": '),
        ("switched", "<think>\nHm", '{"n": ', '<think>\nHm\n</think>\n\n{"n": '),
        ("switched", '{"n"', ": ", 'assistant\n{"n": '),
        ("switched", "", '{"n": ', 'assistant\n{"n": '),
        ("plain", "<think>\nHm", "{", "<think>\nHm{"),
    ],
)
def test_a_continuation_ends_the_thoughts(encoders: dict[str, PromptEncoder], name: str, said: str, prefill: str, end: str) -> None:
    encoder = encoders[name]
    generated = tuple(encoder.encode_text(said))
    request = ask(generated=generated, prefill=prefill)
    assert rendered(encoder, request).endswith(end)
    assert encoder.prepared(request)[1] is None


def test_tags_that_are_special_tokens_are_still_read(smollm2: Path, tmp_path: Path) -> None:
    folder = model_with(TEMPLATES["square"], smollm2, tmp_path / "special")
    state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").unlink()
    for number, tag in enumerate(("[THINK]", "[/THINK]"), start=len(state["model"]["vocab"])):
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        state["added_tokens"].append({"id": number, "content": tag, **flags})
    (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    encoder = PromptEncoder(folder)
    ids = encoder.encode_text("[THINK]a[/THINK]b<|im_end|>")
    assert len(ids) == 5
    assert encoder.decode(ids) == "[THINK]a[/THINK]b"
    assert not {ids[0], ids[2]} & encoder.special_ids


def test_a_template_that_refuses_says_so(smollm2: Path, tmp_path: Path) -> None:
    encoder = PromptEncoder(model_with("{{ raise_exception('roles must alternate') }}", smollm2, tmp_path / "strict"))
    with pytest.raises(InputError, match=r"refuses these messages \(user\): roles must alternate"):
        encoder.encode_request(ask())


@pytest.mark.parametrize(
    ("begun", "text", "thoughts", "answer"),
    [
        (True, "Two and two.\n</think>\n\nFour.", "Two and two.", "Four."),
        (True, "<think>\nagain</think>Four.", "again", "Four."),
        (True, "cut off </thi", "cut off </thi", ""),
        (True, "", "", ""),
        (True, "\n\n</think>\n\n", "", ""),
        (False, "<think>\nHm.\n</think>\n\nFour.\n", "Hm.", "Four.\n"),
        (False, "\n<think>Hm.</think> a </think> b", "Hm.", "a </think> b"),
        (False, " Four. <think>x</think>", "", " Four. <think>x</think>"),
        (False, "<thing>1</thing>", "", "<thing>1</thing>"),
        (False, "<thi", "", "<thi"),
        (False, "<think>\nHm", "Hm", ""),
        (False, "", "", ""),
    ],
)
def test_thoughts_and_answer_are_told_apart(begun: bool, text: str, thoughts: str, answer: str) -> None:
    block = Thinking(ANGLE, begun)
    assert block.split(text) == (thoughts, answer)
    assert block.inside(text) == ((begun or text.lstrip().startswith("<think>")) and "</think>" not in text)


texts = st.lists(st.sampled_from(["<think>", "</think>", "</thi", "<", "think>", "\n", " ", "a", "é", "</"]), max_size=9).map("".join)


@given(begun=st.booleans(), text=texts, cuts=st.lists(st.integers(0, 40), max_size=6))
def test_pieces_together_are_the_split(begun: bool, text: str, cuts: list[int]) -> None:
    block = Thinking(ANGLE, begun)
    stream = block.stream()
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [piece for start, end in pairwise(places) for piece in stream.feed(text[start:end])] + stream.finish()
    thoughts, answer = block.split(text)
    assert "".join(piece for piece, thought in pieces if thought) == thoughts
    assert "".join(piece for piece, thought in pieces if not thought) == answer
    assert all(piece for piece, _ in pieces) and thoughts == thoughts.strip()


@pytest.fixture(scope="module")
def accepts(smollm2: Path) -> object:
    import xgrammar

    compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo.from_huggingface(PromptEncoder(smollm2).tokenizer))

    def accept(grammar: Grammar, text: str) -> bool:
        matcher = xgrammar.GrammarMatcher(compiler.compile_grammar(grammar.gbnf))
        return bool(matcher.accept_string(text) and matcher.is_completed())

    return accept


@pytest.mark.parametrize("tags", [ANGLE, SQUARE, Tags("<<a", "</<</a")], ids=lambda tags: tags.closing)
@pytest.mark.parametrize("begun", [True, False])
def test_grammars_allow_one_block_and_then_the_answer(accepts: object, tags: Tags, begun: bool) -> None:
    assert callable(accepts)
    grammar = Thinking(tags, begun).wrap(Grammar('root ::= "{" [a-z]+ "root}" root-x\nroot-x ::= [root]?\n'))
    opening, closing = "" if begun else tags.opening, tags.closing
    for body in ("", "hi\n", "a < b </ thi </thin k> </<think> <<</", "日本\n\n[/[/TH", closing[:-1], "</<</<x"):
        assert accepts(grammar, f"{opening}{body}{closing}\n\n{{abcroot}}")
        assert accepts(grammar, f"{opening}{body}{closing}{{abcroot}}r")
        assert not accepts(grammar, f"{opening}{body}{{abcroot}}")
    assert not accepts(grammar, f"{opening}x{closing} y {closing}{{aroot}}")
    assert bool(accepts(grammar, "{abroot}")) != begun


@pytest.fixture(scope="module")
def reasoner(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadedEngine]:
    """The real model, made to think by its template."""
    folder = model_with(TEMPLATES["opened"], smollm2, tmp_path_factory.mktemp("reasoner") / "model")
    engine = ThreadedEngine("reasoner", folder, small_settings(folder, "transformers"), TransformersBackend)
    yield engine
    engine.close()


def test_a_real_model_thinks_first(reasoner: ThreadedEngine) -> None:
    """A small model that was not trained to think rambles, so its thoughts end where the budget does, and a continuation answers."""
    heard: list[Delta] = []
    request = ask("How many legs has a dog?", grammar=NUMBER, sampling=Sampling(max_tokens=16))
    (cut,) = reasoner.submit(request, heard.append).result(300)
    assert (cut.text, cut.finish_reason, cut.completion_tokens) == ("", "length", 16)
    assert cut.thinking and cut.thinking == "".join(delta.text for delta in heard if delta.thinking)
    assert len(heard) > 1 and all(delta.thinking for delta in heard)
    rest = ask("How many legs has a dog?", grammar=NUMBER, generated=cut.token_ids, sampling=Sampling(max_tokens=12))
    (closed,) = reasoner.submit(rest).result(300)
    assert isinstance(json.loads(closed.text)["n"], int)
    assert (closed.thinking, closed.finish_reason) == ("", "stop")


def test_a_real_model_thinks_and_answers_in_one_completion(reasoner: ThreadedEngine) -> None:
    text = "Your whole answer must be:\n\nYes.\n</think>\n\nWrite nothing but this: Yes.\n</think>"
    heard: list[Delta] = []
    (completion,) = reasoner.submit(ask(text, grammar=NUMBER, sampling=Sampling(max_tokens=48)), heard.append).result(300)
    assert completion.finish_reason == "stop" and completion.thinking
    assert isinstance(json.loads(completion.text)["n"], int)
    assert "</think>" not in completion.thinking + completion.text
    assert completion.thinking == "".join(delta.text for delta in heard if delta.thinking)
    assert completion.text == "".join(delta.text for delta in heard if not delta.thinking)
    assert completion.completion_tokens == len(completion.token_ids)


def test_a_request_can_forbid_thinking(reasoner: ThreadedEngine) -> None:
    (completion,) = reasoner.submit(ask("How many legs has a dog?", False, grammar=NUMBER, sampling=Sampling(max_tokens=12))).result(300)
    assert isinstance(completion, Completion)
    assert isinstance(json.loads(completion.text)["n"], int) and completion.thinking == ""
