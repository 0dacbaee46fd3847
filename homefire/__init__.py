"""Local-first language-model programs: the public names, each loaded when it is first used.

Imports nothing by itself, so that `import homefire` is quick and works with none of the heavy libraries installed. A new public name is
one line in `_DEFINED_IN` and one among the imports below it, which only type checkers and editors read.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_DEFINED_IN = {
    "AdapterError": "homefire.errors",
    "AdapterStore": "homefire.engine.adapters",
    "BaseCallback": "homefire.engine.callbacks",
    "BootstrapFewShot": "homefire.optimizers.few_shot",
    "BootstrapFinetune": "homefire.optimizers.bootstrap_finetune",
    "CallTimeout": "homefire.errors",
    "ChainOfThought": "homefire.modules.chain_of_thought",
    "ChatAdapter": "homefire.modules.chat_format",
    "ChatFormat": "homefire.modules.chat_format",
    "Completion": "homefire.engine.request",
    "ConfigError": "homefire.errors",
    "ConstraintError": "homefire.errors",
    "ContextTooLong": "homefire.errors",
    "DiskError": "homefire.errors",
    "EngineError": "homefire.errors",
    "EngineSettings": "homefire.engine.settings",
    "Evaluate": "homefire.optimizers.evaluate",
    "EvaluationError": "homefire.errors",
    "EvaluationResult": "homefire.optimizers.evaluate",
    "Example": "homefire.modules.example",
    "FieldDelta": "homefire.modules.field_stream",
    "Gate": "homefire.optimizers.gate",
    "HashEncoder": "homefire.retrieval.encoder",
    "HomefireError": "homefire.errors",
    "Index": "homefire.retrieval.index",
    "InputError": "homefire.errors",
    "InputField": "homefire.modules.signature",
    "JSONAdapter": "homefire.modules.json_format",
    "JsonFormat": "homefire.modules.json_format",
    "LM": "homefire.engine.lm",
    "LabeledFewShot": "homefire.optimizers.few_shot",
    "Message": "homefire.engine.request",
    "MissingExtra": "homefire.errors",
    "Module": "homefire.modules.module",
    "OutputField": "homefire.modules.signature",
    "ParseError": "homefire.errors",
    "Passage": "homefire.retrieval.passage",
    "Predict": "homefire.modules.predict",
    "Prediction": "homefire.modules.example",
    "RAG": "homefire.modules.rag",
    "Request": "homefire.engine.request",
    "Restarted": "homefire.modules.field_stream",
    "Sampling": "homefire.engine.request",
    "ScriptedLM": "homefire.engine.scripted_engine",
    "SentenceEncoder": "homefire.retrieval.encoder",
    "Server": "homefire.engine.server",
    "ServerError": "homefire.errors",
    "Signature": "homefire.modules.signature",
    "SignatureError": "homefire.errors",
    "TrainingError": "homefire.errors",
    "UnknownModel": "homefire.errors",
    "XMLAdapter": "homefire.modules.xml_format",
    "XmlFormat": "homefire.modules.xml_format",
    "configure": "homefire.modules.settings",
    "configure_cache": "homefire.engine.response_cache",
    "context": "homefire.modules.settings",
    "field_match": "homefire.optimizers.metrics",
    "inspect_history": "homefire.engine.history",
    "read_files": "homefire.retrieval.passage",
    "read_folder": "homefire.retrieval.passage",
    "record": "homefire.modules.trace",
    "settings": "homefire.modules.settings",
    "track_usage": "homefire.engine.usage",
}

if TYPE_CHECKING:
    from homefire.engine.adapters import AdapterStore as AdapterStore
    from homefire.engine.callbacks import BaseCallback as BaseCallback
    from homefire.engine.history import inspect_history as inspect_history
    from homefire.engine.lm import LM as LM
    from homefire.engine.request import Completion as Completion
    from homefire.engine.request import Message as Message
    from homefire.engine.request import Request as Request
    from homefire.engine.request import Sampling as Sampling
    from homefire.engine.response_cache import configure_cache as configure_cache
    from homefire.engine.scripted_engine import ScriptedLM as ScriptedLM
    from homefire.engine.server import Server as Server
    from homefire.engine.settings import EngineSettings as EngineSettings
    from homefire.engine.usage import track_usage as track_usage
    from homefire.errors import AdapterError as AdapterError
    from homefire.errors import CallTimeout as CallTimeout
    from homefire.errors import ConfigError as ConfigError
    from homefire.errors import ConstraintError as ConstraintError
    from homefire.errors import ContextTooLong as ContextTooLong
    from homefire.errors import DiskError as DiskError
    from homefire.errors import EngineError as EngineError
    from homefire.errors import EvaluationError as EvaluationError
    from homefire.errors import HomefireError as HomefireError
    from homefire.errors import InputError as InputError
    from homefire.errors import MissingExtra as MissingExtra
    from homefire.errors import ParseError as ParseError
    from homefire.errors import ServerError as ServerError
    from homefire.errors import SignatureError as SignatureError
    from homefire.errors import TrainingError as TrainingError
    from homefire.errors import UnknownModel as UnknownModel
    from homefire.modules.chain_of_thought import ChainOfThought as ChainOfThought
    from homefire.modules.chat_format import ChatAdapter as ChatAdapter
    from homefire.modules.chat_format import ChatFormat as ChatFormat
    from homefire.modules.example import Example as Example
    from homefire.modules.example import Prediction as Prediction
    from homefire.modules.field_stream import FieldDelta as FieldDelta
    from homefire.modules.field_stream import Restarted as Restarted
    from homefire.modules.json_format import JSONAdapter as JSONAdapter
    from homefire.modules.json_format import JsonFormat as JsonFormat
    from homefire.modules.module import Module as Module
    from homefire.modules.predict import Predict as Predict
    from homefire.modules.rag import RAG as RAG
    from homefire.modules.settings import configure as configure
    from homefire.modules.settings import context as context
    from homefire.modules.settings import settings as settings
    from homefire.modules.signature import InputField as InputField
    from homefire.modules.signature import OutputField as OutputField
    from homefire.modules.signature import Signature as Signature
    from homefire.modules.trace import record as record
    from homefire.modules.xml_format import XMLAdapter as XMLAdapter
    from homefire.modules.xml_format import XmlFormat as XmlFormat
    from homefire.optimizers.bootstrap_finetune import BootstrapFinetune as BootstrapFinetune
    from homefire.optimizers.evaluate import Evaluate as Evaluate
    from homefire.optimizers.evaluate import EvaluationResult as EvaluationResult
    from homefire.optimizers.few_shot import BootstrapFewShot as BootstrapFewShot
    from homefire.optimizers.few_shot import LabeledFewShot as LabeledFewShot
    from homefire.optimizers.gate import Gate as Gate
    from homefire.optimizers.metrics import field_match as field_match
    from homefire.retrieval.encoder import HashEncoder as HashEncoder
    from homefire.retrieval.encoder import SentenceEncoder as SentenceEncoder
    from homefire.retrieval.index import Index as Index
    from homefire.retrieval.passage import Passage as Passage
    from homefire.retrieval.passage import read_files as read_files
    from homefire.retrieval.passage import read_folder as read_folder

__all__ = ["__version__", *_DEFINED_IN]  # noqa: PLE0604

if not TYPE_CHECKING:  # type checkers must go by the imports above, or a misspelt name would pass

    def __getattr__(name: str) -> object:
        if name not in _DEFINED_IN:
            raise AttributeError(f"module 'homefire' has no attribute {name!r}")
        value = getattr(import_module(_DEFINED_IN[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
