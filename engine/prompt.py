"""Messages to token ids, through the model's own chat template.

Knows no engine. Serving and training both take their tokens from here, so that a model is trained on exactly what it will see.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from homefire.engine.request import Message, Request
from homefire.errors import ContextTooLong, EngineError, MissingExtra


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
        self._fast = self._tokenizer.backend_tokenizer  # encoding through it changes no state, so threads need no lock
        self._fast.no_truncation()
        self._fast.no_padding()

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids of the tokens that end an answer."""
        return frozenset({self._tokenizer.eos_token_id})

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer itself."""
        return self._tokenizer

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a prompt that ends where the model's answer begins."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        text: str = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        return self.encode_text(text)

    def encode_request(self, request: Request) -> list[int]:
        """Token ids of a prompt with what there already is of its answer."""
        return [*self.encode(request.messages), *request.generated, *(self.encode_text(request.prefill) if request.prefill else ())]

    def encode_text(self, text: str) -> list[int]:
        """Token ids of plain text, with no special tokens added."""
        ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
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
