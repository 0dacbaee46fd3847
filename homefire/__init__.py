"""Local-first language-model programs: the public names, each loaded when it is first used.

Imports nothing by itself, so that `import homefire` is quick and works with none of the heavy libraries installed. A new public name is
one line in `_DEFINED_IN` and one among the imports below it, which only type checkers and editors read.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_DEFINED_IN = {
    "Adapter": "homefire.modules.adapter",
    "AdapterError": "homefire.errors",
    "AdapterParseError": "homefire.other_names",
    "AdapterStore": "homefire.engine.adapters",
    "Assert": "homefire.modules.assertions",
    "AssertionFailed": "homefire.modules.assertions",
    "Audio": "homefire.modules.media",
    "BaseCallback": "homefire.engine.callbacks",
    "BaseLM": "homefire.engine.own_lm",
    "BaseModule": "homefire.other_names",
    "BestOfN": "homefire.modules.best_of_n",
    "BootstrapFewShot": "homefire.optimizers.few_shot",
    "BootstrapFinetune": "homefire.optimizers.bootstrap_finetune",
    "CallTimeout": "homefire.errors",
    "ChainOfThought": "homefire.modules.chain_of_thought",
    "ChatAdapter": "homefire.modules.chat_format",
    "ChatFormat": "homefire.modules.chat_format",
    "Chunker": "homefire.retrieval.chunks",
    "Code": "homefire.modules.code",
    "CodeAct": "homefire.modules.code_act",
    "CodeExecutionError": "homefire.errors",
    "CodeInterpreter": "homefire.modules.interpreter",
    "CodeInterpreterError": "homefire.errors",
    "Codec": "homefire.retrieval.late_codec",
    "ColbertEncoder": "homefire.retrieval.token_encoder",
    "ColBERTv2": "homefire.retrieval.colbert_client",
    "Completion": "homefire.engine.request",
    "Completions": "homefire.modules.example",
    "ConfigError": "homefire.errors",
    "ConstraintError": "homefire.errors",
    "ContextTooLong": "homefire.errors",
    "CrossEncoderReranker": "homefire.retrieval.reranker",
    "ContextWindowExceededError": "homefire.other_names",
    "DSPyError": "homefire.other_names",
    "DiskError": "homefire.errors",
    "Document": "homefire.modules.document",
    "Effort": "homefire.retrieval.late_search",
    "Embedder": "homefire.modules.embedder",
    "Embeddings": "homefire.modules.embeddings",
    "EmbeddingsWithScores": "homefire.modules.embeddings",
    "EngineError": "homefire.errors",
    "EngineSettings": "homefire.engine.settings",
    "Evaluate": "homefire.optimizers.evaluate",
    "EvaluationError": "homefire.errors",
    "EvaluationFailed": "homefire.optimizers.evaluate",
    "EvaluationInterrupted": "homefire.optimizers.evaluate",
    "EvaluationResult": "homefire.optimizers.evaluate",
    "Example": "homefire.modules.example",
    "FieldDelta": "homefire.modules.field_stream",
    "File": "homefire.modules.media",
    "FinalOutput": "homefire.modules.interpreter",
    "Format": "homefire.modules.format",
    "Gate": "homefire.optimizers.gate",
    "HashEncoder": "homefire.retrieval.encoder",
    "History": "homefire.modules.history",
    "Hit": "homefire.retrieval.hit",
    "HomefireError": "homefire.errors",
    "IdHit": "homefire.retrieval.late_results",
    "Image": "homefire.modules.media",
    "Index": "homefire.retrieval.index",
    "IndexServer": "homefire.retrieval.index_server",
    "InputError": "homefire.errors",
    "InputField": "homefire.modules.signature",
    "JSONAdapter": "homefire.modules.json_format",
    "JsonFormat": "homefire.modules.json_format",
    "KNN": "homefire.modules.knn",
    "LM": "homefire.engine.lm",
    "LMAuthError": "homefire.other_names",
    "LMBillingError": "homefire.other_names",
    "LMConfigurationError": "homefire.other_names",
    "LMError": "homefire.other_names",
    "LMInvalidRequestError": "homefire.other_names",
    "LMNotConfiguredError": "homefire.other_names",
    "LMProviderError": "homefire.other_names",
    "LMRateLimitError": "homefire.other_names",
    "LMServerError": "homefire.other_names",
    "LMTimeoutError": "homefire.other_names",
    "LMTransportError": "homefire.other_names",
    "LMUnsupportedModelError": "homefire.other_names",
    "LabeledFewShot": "homefire.optimizers.few_shot",
    "LateInteractionStore": "homefire.retrieval.late_store",
    "LocalInterpreter": "homefire.modules.local_interpreter",
    "Media": "homefire.engine.request",
    "Message": "homefire.engine.request",
    "MissingExtra": "homefire.errors",
    "Module": "homefire.modules.module",
    "MultiChainComparison": "homefire.modules.multi_chain",
    "OpenTelemetry": "homefire.modules.telemetry",
    "OutputField": "homefire.modules.signature",
    "Parallel": "homefire.modules.parallel_pairs",
    "ParseError": "homefire.errors",
    "Passage": "homefire.retrieval.passage",
    "Predict": "homefire.modules.predict",
    "Prediction": "homefire.modules.example",
    "ProgramOfThought": "homefire.modules.program_of_thought",
    "PythonInterpreter": "homefire.modules.python_interpreter",
    "RAG": "homefire.modules.rag",
    "RLM": "homefire.modules.rlm",
    "ReAct": "homefire.modules.react",
    "ReActV2": "homefire.modules.react_v2",
    "Reasoning": "homefire.modules.reasoning",
    "Refine": "homefire.modules.refine",
    "Request": "homefire.engine.request",
    "Restarted": "homefire.modules.field_stream",
    "Retrieve": "homefire.modules.retrieve",
    "Retriever": "homefire.modules.retriever",
    "Sampling": "homefire.engine.request",
    "SandboxSerializable": "homefire.modules.sandbox_values",
    "ScriptedLM": "homefire.engine.scripted_engine",
    "SentenceEncoder": "homefire.retrieval.sentence_encoder",
    "Server": "homefire.engine.server",
    "ServerError": "homefire.errors",
    "Signature": "homefire.modules.signature",
    "SignatureError": "homefire.errors",
    "Step": "homefire.modules.trace",
    "Suggest": "homefire.modules.assertions",
    "TokenReranker": "homefire.retrieval.reranker",
    "TokenVectors": "homefire.retrieval.token_vectors",
    "TooManyFailures": "homefire.modules.parallel",
    "Tool": "homefire.modules.tool",
    "ToolCallResults": "homefire.modules.tool_calls",
    "ToolCalls": "homefire.modules.tool_calls",
    "Trace": "homefire.modules.trace",
    "TraceStore": "homefire.modules.trace_store",
    "TrainingError": "homefire.errors",
    "TwoStepAdapter": "homefire.modules.two_step_format",
    "TwoStepFormat": "homefire.modules.two_step_format",
    "Type": "homefire.modules.custom_type",
    "UnknownModel": "homefire.errors",
    "XMLAdapter": "homefire.modules.xml_format",
    "XmlFormat": "homefire.modules.xml_format",
    "assert_transform_module": "homefire.modules.assertions",
    "asyncify": "homefire.modules.waiting",
    "backtrack_handler": "homefire.modules.assertions",
    "check_index": "homefire.retrieval.index_check",
    "compare": "homefire.optimizers.comparison",
    "configure": "homefire.modules.settings",
    "configure_cache": "homefire.engine.response_cache",
    "context": "homefire.modules.settings",
    "ensure_signature": "homefire.other_names",
    "field_match": "homefire.optimizers.metrics",
    "inspect_history": "homefire.engine.history",
    "instrument": "homefire.modules.telemetry",
    "is_retryable_lm_error": "homefire.other_names",
    "load": "homefire.modules.saved_program",
    "majority": "homefire.modules.majority",
    "make_signature": "homefire.other_names",
    "maxsim": "homefire.retrieval.maxsim",
    "pool_tokens": "homefire.retrieval.late_pooling",
    "Unread": "homefire.retrieval.reading",
    "read_documents": "homefire.retrieval.reading",
    "read_files": "homefire.retrieval.reading",
    "read_folder": "homefire.retrieval.reading",
    "record": "homefire.modules.trace",
    "settings": "homefire.modules.settings",
    "streamify": "homefire.modules.streaming",
    "syncify": "homefire.modules.waiting",
    "track_usage": "homefire.engine.usage",
    "uninstrument": "homefire.modules.telemetry",
}

_NAMESPACES = ("adapters", "datasets", "evaluate", "retrievers", "streaming", "teleprompt", "utils")
"""Modules of names, as in `homefire.evaluate.answer_exact_match`; loaded when first used."""

if TYPE_CHECKING:
    from homefire import adapters as adapters
    from homefire import datasets as datasets
    from homefire import evaluate as evaluate
    from homefire import retrievers as retrievers
    from homefire import streaming as streaming
    from homefire import teleprompt as teleprompt
    from homefire import utils as utils
    from homefire.engine.adapters import AdapterStore as AdapterStore
    from homefire.engine.callbacks import BaseCallback as BaseCallback
    from homefire.engine.history import inspect_history as inspect_history
    from homefire.engine.lm import LM as LM
    from homefire.engine.own_lm import BaseLM as BaseLM
    from homefire.engine.request import Completion as Completion
    from homefire.engine.request import Media as Media
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
    from homefire.errors import CodeExecutionError as CodeExecutionError
    from homefire.errors import CodeInterpreterError as CodeInterpreterError
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
    from homefire.modules.adapter import Adapter as Adapter
    from homefire.modules.assertions import Assert as Assert
    from homefire.modules.assertions import AssertionFailed as AssertionFailed
    from homefire.modules.assertions import Suggest as Suggest
    from homefire.modules.assertions import assert_transform_module as assert_transform_module
    from homefire.modules.assertions import backtrack_handler as backtrack_handler
    from homefire.modules.best_of_n import BestOfN as BestOfN
    from homefire.modules.chain_of_thought import ChainOfThought as ChainOfThought
    from homefire.modules.chat_format import ChatAdapter as ChatAdapter
    from homefire.modules.chat_format import ChatFormat as ChatFormat
    from homefire.modules.code import Code as Code
    from homefire.modules.code_act import CodeAct as CodeAct
    from homefire.modules.custom_type import Type as Type
    from homefire.modules.document import Document as Document
    from homefire.modules.embedder import Embedder as Embedder
    from homefire.modules.embeddings import Embeddings as Embeddings
    from homefire.modules.embeddings import EmbeddingsWithScores as EmbeddingsWithScores
    from homefire.modules.example import Completions as Completions
    from homefire.modules.example import Example as Example
    from homefire.modules.example import Prediction as Prediction
    from homefire.modules.field_stream import FieldDelta as FieldDelta
    from homefire.modules.field_stream import Restarted as Restarted
    from homefire.modules.format import Format as Format
    from homefire.modules.history import History as History
    from homefire.modules.interpreter import CodeInterpreter as CodeInterpreter
    from homefire.modules.interpreter import FinalOutput as FinalOutput
    from homefire.modules.json_format import JSONAdapter as JSONAdapter
    from homefire.modules.json_format import JsonFormat as JsonFormat
    from homefire.modules.knn import KNN as KNN
    from homefire.modules.local_interpreter import LocalInterpreter as LocalInterpreter
    from homefire.modules.majority import majority as majority
    from homefire.modules.media import Audio as Audio
    from homefire.modules.media import File as File
    from homefire.modules.media import Image as Image
    from homefire.modules.module import Module as Module
    from homefire.modules.multi_chain import MultiChainComparison as MultiChainComparison
    from homefire.modules.parallel import TooManyFailures as TooManyFailures
    from homefire.modules.parallel_pairs import Parallel as Parallel
    from homefire.modules.predict import Predict as Predict
    from homefire.modules.program_of_thought import ProgramOfThought as ProgramOfThought
    from homefire.modules.python_interpreter import PythonInterpreter as PythonInterpreter
    from homefire.modules.rag import RAG as RAG
    from homefire.modules.react import ReAct as ReAct
    from homefire.modules.react_v2 import ReActV2 as ReActV2
    from homefire.modules.reasoning import Reasoning as Reasoning
    from homefire.modules.refine import Refine as Refine
    from homefire.modules.retrieve import Retrieve as Retrieve
    from homefire.modules.retriever import Retriever as Retriever
    from homefire.modules.rlm import RLM as RLM
    from homefire.modules.sandbox_values import SandboxSerializable as SandboxSerializable
    from homefire.modules.saved_program import load as load
    from homefire.modules.settings import configure as configure
    from homefire.modules.settings import context as context
    from homefire.modules.settings import settings as settings
    from homefire.modules.signature import InputField as InputField
    from homefire.modules.signature import OutputField as OutputField
    from homefire.modules.signature import Signature as Signature
    from homefire.modules.streaming import streamify as streamify
    from homefire.modules.telemetry import OpenTelemetry as OpenTelemetry
    from homefire.modules.telemetry import instrument as instrument
    from homefire.modules.telemetry import uninstrument as uninstrument
    from homefire.modules.tool import Tool as Tool
    from homefire.modules.tool_calls import ToolCallResults as ToolCallResults
    from homefire.modules.tool_calls import ToolCalls as ToolCalls
    from homefire.modules.trace import Step as Step
    from homefire.modules.trace import Trace as Trace
    from homefire.modules.trace import record as record
    from homefire.modules.trace_store import TraceStore as TraceStore
    from homefire.modules.two_step_format import TwoStepAdapter as TwoStepAdapter
    from homefire.modules.two_step_format import TwoStepFormat as TwoStepFormat
    from homefire.modules.waiting import asyncify as asyncify
    from homefire.modules.waiting import syncify as syncify
    from homefire.modules.xml_format import XMLAdapter as XMLAdapter
    from homefire.modules.xml_format import XmlFormat as XmlFormat
    from homefire.optimizers.bootstrap_finetune import BootstrapFinetune as BootstrapFinetune
    from homefire.optimizers.comparison import compare as compare
    from homefire.optimizers.evaluate import Evaluate as Evaluate
    from homefire.optimizers.evaluate import EvaluationFailed as EvaluationFailed
    from homefire.optimizers.evaluate import EvaluationInterrupted as EvaluationInterrupted
    from homefire.optimizers.evaluate import EvaluationResult as EvaluationResult
    from homefire.optimizers.few_shot import BootstrapFewShot as BootstrapFewShot
    from homefire.optimizers.few_shot import LabeledFewShot as LabeledFewShot
    from homefire.optimizers.gate import Gate as Gate
    from homefire.optimizers.metrics import field_match as field_match
    from homefire.other_names import AdapterParseError as AdapterParseError
    from homefire.other_names import BaseModule as BaseModule
    from homefire.other_names import ContextWindowExceededError as ContextWindowExceededError
    from homefire.other_names import DSPyError as DSPyError
    from homefire.other_names import LMAuthError as LMAuthError
    from homefire.other_names import LMBillingError as LMBillingError
    from homefire.other_names import LMConfigurationError as LMConfigurationError
    from homefire.other_names import LMError as LMError
    from homefire.other_names import LMInvalidRequestError as LMInvalidRequestError
    from homefire.other_names import LMNotConfiguredError as LMNotConfiguredError
    from homefire.other_names import LMProviderError as LMProviderError
    from homefire.other_names import LMRateLimitError as LMRateLimitError
    from homefire.other_names import LMServerError as LMServerError
    from homefire.other_names import LMTimeoutError as LMTimeoutError
    from homefire.other_names import LMTransportError as LMTransportError
    from homefire.other_names import LMUnsupportedModelError as LMUnsupportedModelError
    from homefire.other_names import ensure_signature as ensure_signature
    from homefire.other_names import is_retryable_lm_error as is_retryable_lm_error
    from homefire.other_names import make_signature as make_signature
    from homefire.retrieval.chunks import Chunker as Chunker
    from homefire.retrieval.colbert_client import ColBERTv2 as ColBERTv2
    from homefire.retrieval.encoder import HashEncoder as HashEncoder
    from homefire.retrieval.hit import Hit as Hit
    from homefire.retrieval.index import Index as Index
    from homefire.retrieval.index_check import check_index as check_index
    from homefire.retrieval.index_server import IndexServer as IndexServer
    from homefire.retrieval.late_codec import Codec as Codec
    from homefire.retrieval.late_pooling import pool_tokens as pool_tokens
    from homefire.retrieval.late_results import IdHit as IdHit
    from homefire.retrieval.late_search import Effort as Effort
    from homefire.retrieval.late_store import LateInteractionStore as LateInteractionStore
    from homefire.retrieval.maxsim import maxsim as maxsim
    from homefire.retrieval.passage import Passage as Passage
    from homefire.retrieval.reading import Unread as Unread
    from homefire.retrieval.reading import read_documents as read_documents
    from homefire.retrieval.reading import read_files as read_files
    from homefire.retrieval.reading import read_folder as read_folder
    from homefire.retrieval.reranker import CrossEncoderReranker as CrossEncoderReranker
    from homefire.retrieval.reranker import TokenReranker as TokenReranker
    from homefire.retrieval.sentence_encoder import SentenceEncoder as SentenceEncoder
    from homefire.retrieval.token_encoder import ColbertEncoder as ColbertEncoder
    from homefire.retrieval.token_vectors import TokenVectors as TokenVectors

__all__ = ["__version__", *_DEFINED_IN]  # noqa: PLE0604

if not TYPE_CHECKING:  # type checkers must go by the imports above, or a misspelt name would pass

    def __getattr__(name: str) -> object:
        if name in _NAMESPACES:
            return import_module(f"homefire.{name}")
        if name not in _DEFINED_IN:
            raise AttributeError(f"module 'homefire' has no attribute {name!r}")
        value = getattr(import_module(_DEFINED_IN[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_NAMESPACES])
