"""Messages to token ids, through the model's own chat template.

Knows no engine. Serving and training both take their tokens from here, so that a model is trained on exactly what it will see.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from homefire.engine.request import Message, Request
from homefire.engine.thinking import Tags, Thinking, find_tags, has_switch
from homefire.errors import ContextTooLong, EngineError, InputError, MissingExtra

_MARK, _MARK_END = "\ue0f0", "\ue0f1"
"""Stand around the number of a special token that a message spells out. Whoever writes them gets that token's text, which does nothing."""
_MARKED = re.compile(f"{_MARK}([0-9]{{1,4}}){_MARK_END}")


class PromptEncoder:
    """Renders and tokenizes prompts of one model; may be used from many threads at once.

    Args:
        path: Folder of the model.

    Raises:
        EngineError: the folder holds no tokenizer, or one without a chat template.
    """

    def __init__(self, path: Path) -> None:
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise MissingExtra("transformers", "transformers", "Running a model") from error
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
        except (OSError, ValueError) as error:
            raise EngineError(f"The model folder {path} has no readable tokenizer: {error}") from error
        if not self._tokenizer.chat_template:
            raise EngineError(
                f"The model in {path} has no chat template, so it is a base model and not one that follows instructions. "
                "Take the instruct or chat version of it."
            )
        if not self._tokenizer.is_fast:
            raise EngineError(
                f"The model in {path} has a slow tokenizer, without tokenizer.json. Take a version of the model that has one."
            )
        template: str = self._tokenizer.get_chat_template()
        self._name = path.name
        self._tags = find_tags(template)
        self._switch = has_switch(template)
        self._fast = _with_plain_tags(self._tokenizer.backend_tokenizer, self._tags)  # its encoding changes no state: threads need no lock
        self._fast.no_truncation()
        self._fast.no_padding()
        self._special = sorted((token.content for token in self._fast.get_added_tokens_decoder().values() if token.special), key=len)[::-1]
        self._specials = re.compile("|".join(map(re.escape, self._special)) or r"(?!)")

    @cached_property
    def _plain(self) -> Any:
        """The tokenizer for which special tokens are text; made only when a message spells one out."""
        plain = type(self._fast).from_str(self._fast.to_str())
        plain.encode_special_tokens = True
        return plain

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids of the tokens that end an answer."""
        return frozenset({self._tokenizer.eos_token_id})

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the tokens that stand for no text."""
        return frozenset(number for number, token in self._fast.get_added_tokens_decoder().items() if token.special)

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer itself."""
        return self._tokenizer

    def encode(self, messages: Sequence[Message], thinking: bool | None = None) -> list[int]:
        """Token ids of a prompt that ends where the model's answer begins."""
        return self._encode_prompt(self._render(messages, thinking))

    def encode_request(self, request: Request) -> list[int]:
        """Token ids of a prompt with what there already is of its answer; see `prepared`."""
        return self.prepared(request)[0]

    def prepared(self, request: Request) -> tuple[list[int], Thinking | None]:
        """Token ids of a prompt with what there already is of its answer, and the block of thoughts that the rest may begin with.

        A prefill belongs to the answer: where a reasoning model would still be thinking, the end of its thoughts is put before it, and
        behind generated tokens that end inside them.
        """
        prompt, prefill = self._render(request.messages, request.thinking), request.prefill
        block: Thinking | None = None
        if self._tags is not None:
            tail = prompt.rstrip()
            block = Thinking(self._tags, begun=tail.endswith(self._tags.opening))
            if request.generated or prefill:
                open_block = not prefill.lstrip().startswith(self._tags.closing) and block.inside(self.decode(request.generated))
                prefill, block = (self._tags.end if open_block else "") + prefill, None
            elif tail.endswith(self._tags.closing):
                block = None
        return [*self._encode_prompt(prompt), *request.generated, *(self.encode_text(prefill) if prefill else ())], block

    def encode_text(self, text: str) -> list[int]:
        """Token ids of plain text, with no special tokens added.

        Raises:
            InputError: the text cannot be written as UTF-8.
        """
        try:
            ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        except (TypeError, UnicodeEncodeError) as error:
            lone = next((f"{char!r} at position {place}" for place, char in enumerate(text) if "\ud800" <= char <= "\udfff"), None)
            if lone is None:
                raise
            problem = f"A message holds half of a surrogate pair, {lone}, which is no character. "
            raise InputError(problem + "Write text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace').") from error
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        text: str = self._fast.decode(list(token_ids), skip_special_tokens=True)
        return text

    def room(self, request: Request, prompt_tokens: int, context: int, model: str) -> int:
        """Tokens that the completion may have: what the request asks for, as far as the context goes.

        Raises:
            ContextTooLong: not even one token would fit.
        """
        free = context - prompt_tokens - request.reserve
        if free < 1:
            raise ContextTooLong(prompt_tokens, context, model)
        return min(request.sampling.max_tokens, free)

    def _render(self, messages: Sequence[Message], thinking: bool | None) -> str:
        from jinja2 import TemplateError

        if any(message.parts for message in messages):
            self._check_text_only(messages)
        turns = [{"role": message.role, "content": self._content(message)} for message in messages]
        switches = {} if thinking is None else {"enable_thinking": thinking, "thinking": thinking}
        try:
            text: str = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, **switches)
        except TemplateError as error:
            roles = ", ".join(message.role for message in messages) or "no messages"
            raise InputError(f"The model's chat template refuses these messages ({roles}): {error}. Send turns that it knows.") from error
        if self._tags is None or thinking is not False:
            return text
        opened = text.rstrip().endswith(self._tags.opening)
        return text if self._switch and not opened else self._tags.switched_off(text)

    def _check_text_only(self, messages: Sequence[Message]) -> None:
        for media in (media for message in messages for media in message.media):
            raise InputError(
                f"{media.origin} holds {media.words}, and {self._name} runs on this machine's own engine, which takes text alone. "
                f"Ask a server whose model takes {media.words}: LM('openai/NAME', api_base='http://.../v1')."
            )

    def _content(self, message: Message) -> str:
        """What a turn says; the thoughts before an earlier answer are not sent back, and special tokens are only marked."""
        said = message.content if self._tags is None or message.role != "assistant" else self._tags.without_block(message.content)
        return self._specials.sub(lambda found: f"{_MARK}{self._special.index(found.group())}{_MARK_END}", said)

    def _encode_prompt(self, text: str) -> list[int]:
        """Token ids of a rendered chat: what its messages have of special tokens is text like any other and ends no turn."""
        if _MARK not in text:
            return self.encode_text(text)
        ids: list[int] = []
        for place, part in enumerate(_MARKED.split(text)):
            if place % 2 == 0:
                ids += self.encode_text(part)
            elif int(part) < len(self._special):
                ids += self._plain.encode(self._special[int(part)], add_special_tokens=False).ids
        return ids


def _with_plain_tags(fast: Any, tags: Tags | None) -> Any:
    """The tokenizer with tags that are text: where they are special tokens, decoding would lose them."""
    names = () if tags is None else (tags.opening, tags.closing)
    if not any(token.special and token.content in names for token in fast.get_added_tokens_decoder().values()):
        return fast
    state = json.loads(fast.to_str())
    for token in state["added_tokens"]:
        token["special"] = token["special"] and token["content"] not in names
    return type(fast).from_str(json.dumps(state))
