"""Signatures: what goes into a step of a program and what comes out, with types.

Knows no model and no prompt format. A signature is a class that is never instantiated; every change makes a new one.
"""

from __future__ import annotations

import enum
import inspect
import keyword
import typing
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, Unpack

from homefire.errors import SignatureError
from homefire.modules.field_constraints import Constraints, constraint_metadata
from homefire.modules.signature_text import caller_scope, parse_signature, resolve_annotations
from homefire.modules.type_grammar import TypeGrammar

FieldRole = Literal["input", "output"]
OPTIONS = ("lm", "config", "demos", "signature")
"""What every call takes beside its inputs."""


class _NoDefault(enum.Enum):
    """The default of inputs that have none."""

    REQUIRED = "required"
    OMITTED = "omitted"

    def __repr__(self) -> str:
        return self.name


REQUIRED: Final = _NoDefault.REQUIRED
OMITTED: Final = _NoDefault.OMITTED
"""Of an input that a call may leave out, and that is not shown then."""


@dataclass(frozen=True, slots=True)
class Field:
    """One named, typed field of a signature."""

    name: str
    type: Any
    role: FieldRole
    description: str = ""
    default: Any = dataclass_field(default=REQUIRED, hash=False)
    """Of an input that a call may leave out."""

    @property
    def annotation(self) -> Any:
        """Another name of `type`."""
        return self.type

    @property
    def desc(self) -> str:
        """Another name of `description`."""
        return self.description

    @property
    def json_schema_extra(self) -> Mapping[str, str]:
        """Role and description as DSPy's fields have them: `field.json_schema_extra["desc"]`."""
        return {"__dspy_field_type": self.role, "desc": self.description}


@dataclass(frozen=True, slots=True)
class Declared:
    """What `InputField()` and `OutputField()` leave in a class body until the signature is made."""

    role: FieldRole
    description: str
    constraints: tuple[tuple[str, Any], ...] = ()
    default: Any = REQUIRED

    def field(self, name: str, annotation: Any) -> Field:
        """The field of this name; its constraints become part of its type."""
        metadata = constraint_metadata(dict(self.constraints))
        return Field(name, Annotated[(annotation, *metadata)] if metadata else annotation, self.role, self.description, self.default)


def InputField(
    desc: str = "", *, description: str = "", default: Any = REQUIRED, prefix: str | None = None, **constraints: Unpack[Constraints]
) -> Any:
    """Marks an annotated attribute of a signature class as an input.

    Args:
        desc: What it is, in words; shown to the model.
        description: Another name of `desc`.
        default: What it is where a call leaves it out.
        prefix: Of DSPy's older programs; not shown, which a warning says, for prompts have the names of fields.
        constraints: `gt`, `ge`, `lt`, `le`, `multiple_of`, `min_length`, `max_length`, `pattern`, `max_digits`, `decimal_places` or
            `discriminator`, as in pydantic's `Field`.
    """
    return _declared("InputField", "input", desc or description, constraints, default, prefix)


def OutputField(
    desc: str = "", *, description: str = "", default: Any = REQUIRED, prefix: str | None = None, **constraints: Unpack[Constraints]
) -> Any:
    """Marks an annotated attribute of a signature class as an output; takes what `InputField` takes.

    A default is what the output is where an answer leaves it out, which only servers without grammars let a model do.

    >>> class Rate(Signature):
    ...     text: str = InputField()
    ...     stars: int = OutputField(desc="five is best", ge=1, le=5)
    """
    return _declared("OutputField", "output", desc or description, constraints, default, prefix)


def _declared(
    function: str, role: FieldRole, description: str, constraints: Mapping[str, Any], default: Any, prefix: str | None
) -> Declared:
    if prefix is not None:
        said = f"{function}(prefix={prefix!r}) shows nothing: prompts have the names of fields. Leave it out, or write desc='...'."
        warnings.warn(said, stacklevel=3)
    if unknown := [name for name in constraints if name not in Constraints.__annotations__]:
        known = ", ".join(Constraints.__annotations__)
        raise TypeError(f"{function}() takes no argument {unknown[0]!r}; it takes desc and the constraints {known}.")
    return Declared(role, description, tuple((name, value) for name, value in constraints.items() if value is not None), default)


class Signature:
    """The contract of one step: instructions, inputs and outputs.

    Written as a class, whose docstring is the instructions, or as a string; a field without a type is text:

    >>> class Review(Signature):
    ...     '''Say how the review sounds.'''
    ...     text: str = InputField()
    ...     mood: Literal["good", "bad"] = OutputField()
    >>> same = Signature("text -> mood: Literal['good', 'bad']", "Say how the review sounds.")
    >>> same.equals(Review)
    True

    Raises:
        SignatureError: a name twice, a field that is neither input nor output, no output, or an output type that has no grammar.
    """

    fields: ClassVar[Mapping[str, Field]] = MappingProxyType({})
    input_fields: ClassVar[Mapping[str, Field]] = MappingProxyType({})
    output_fields: ClassVar[Mapping[str, Field]] = MappingProxyType({})
    instructions: ClassVar[str] = ""
    signature: ClassVar[str] = ""
    """The names of the fields, as in `question, context -> answer`."""

    def __new__(  # type: ignore[misc]
        cls,
        signature: str | type[Signature] | Mapping[str, Any],
        instructions: str | None = None,
        *,
        custom_types: Mapping[str, Any] | None = None,
    ) -> type[Signature]:
        """A signature class from text, or from pairs of a type and `InputField()` or `OutputField()` by name.

        `custom_types` names types that neither builtins, typing nor the caller's scope know.
        """
        if isinstance(signature, Mapping):
            signature = _of_mapping(signature)
        if not isinstance(signature, str):
            if not (isinstance(signature, type) and issubclass(signature, Signature)):
                raise SignatureError(
                    f"{signature!r} is not a signature. Write a string, as in Signature('question -> answer'), or a class."
                )
            return signature if instructions is None else signature.with_instructions(instructions)
        scope = {**caller_scope(), **(custom_types or {})}
        return make_signature([Field(*declared) for declared in parse_signature(signature, scope)], instructions)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if isinstance(vars(cls).get("fields"), Mapping):
            return
        above: type[Signature] = cls.__mro__[1]
        declared = {name: value for name, value in vars(cls).items() if isinstance(value, Declared)}
        types = {name: hint for name, hint in resolve_annotations(cls).items() if typing.get_origin(hint) is not ClassVar}
        if neither := [name for name in types if name not in declared]:
            raise SignatureError(
                f"{cls.__name__}.{neither[0]} is neither an input nor an output. Write `{neither[0]}: ... = InputField()` or "
                "`= OutputField()`."
            )
        fields = {**above.fields, **{name: one.field(name, types.get(name, str)) for name, one in declared.items()}}
        for name in declared:
            delattr(cls, name)  # a field may be called like a method of signatures
        own = inspect.cleandoc(vars(cls).get("__doc__") or "")
        _settle(cls, list(fields.values()), own or above.instructions or None)

    @classmethod
    def with_instructions(cls, instructions: str) -> type[Signature]:
        """The same fields under other instructions."""
        return cls._with(list(cls.fields.values()), instructions)

    @classmethod
    def append_instructions(cls, instructions: str) -> type[Signature]:
        """The same fields, with more instructions in a paragraph below the others."""
        return cls.with_instructions(f"{cls.instructions}\n\n{inspect.cleandoc(instructions)}")

    @classmethod
    def insert(cls, index: int, name: str, field: Any, type_: Any = str) -> type[Signature]:
        """One more field, made by `InputField()` or `OutputField()`, at a place among the fields of its role."""
        if not isinstance(field, Declared):
            raise SignatureError(f"The field {name!r} is {field!r}; expected InputField() or OutputField().")
        same = [one for one in cls.fields.values() if one.role == field.role]
        other = [one for one in cls.fields.values() if one.role != field.role]
        same.insert(index if index >= 0 else len(same) + 1 + index, field.field(name, str if type_ is None else type_))
        return cls._with([*same, *other])

    @classmethod
    def prepend(cls, name: str, field: Any, type_: Any = str) -> type[Signature]:
        """One more field in front of the others of its role."""
        return cls.insert(0, name, field, type_)

    @classmethod
    def append(cls, name: str, field: Any, type_: Any = str) -> type[Signature]:
        """One more field behind the others of its role."""
        return cls.insert(-1, name, field, type_)

    @classmethod
    def delete(cls, name: str) -> type[Signature]:
        """The signature without a field; one that it does not have is no error."""
        return cls._with([field for field in cls.fields.values() if field.name != name])

    @classmethod
    def with_updated_fields(cls, name: str, type_: Any = None, *, desc: str | None = None) -> type[Signature]:
        """The signature in which one field has another type or description."""
        if name not in cls.fields:
            raise SignatureError(f"{cls.__name__} has no field {name!r}; it has {', '.join(cls.fields)}.")
        old = cls.fields[name]
        new = replace(old, type=type_ or old.type, description=old.description if desc is None else desc)
        return cls._with([new if field is old else field for field in cls.fields.values()])

    @classmethod
    def equals(cls, other: type[Signature]) -> bool:
        """Whether instructions and fields are the same."""
        return cls.instructions == other.instructions and list(cls.fields.values()) == list(other.fields.values())

    @classmethod
    def dump_state(cls) -> dict[str, Any]:
        """What optimizers change, as JSON values: instructions and descriptions; types are not among it."""
        fields = [{"name": field.name, "description": field.description} for field in cls.fields.values()]
        return {"instructions": cls.instructions, "fields": fields}

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> type[Signature]:
        """The signature with the instructions and descriptions of a dumped state, for the same fields.

        Raises:
            SignatureError: the state is of other fields.
        """
        described = {field["name"]: field["description"] for field in state["fields"]}
        if list(described) != list(cls.fields):
            raise SignatureError(f"The state has the fields {', '.join(described)}, but {cls.__name__} has {', '.join(cls.fields)}.")
        fields = [replace(field, description=described[field.name]) for field in cls.fields.values()]
        return cls._with(fields, state["instructions"])

    @classmethod
    def _with(cls, fields: Sequence[Field], instructions: str | None = None) -> type[Signature]:
        return make_signature(fields, cls.instructions if instructions is None else instructions, name=cls.__name__)


def make_signature(fields: Sequence[Field], instructions: str | None = None, *, name: str = "StringSignature") -> type[Signature]:
    """A signature class from its fields; inputs come before outputs, otherwise in the order given.

    Raises:
        SignatureError: see `Signature`.
    """
    made: type[Signature] = type(name, (Signature,), {"fields": MappingProxyType({}), "__doc__": instructions})
    _settle(made, fields, instructions)
    return made


def _settle(cls: type[Signature], fields: Sequence[Field], instructions: str | None) -> None:
    """Checks the fields and makes them the class's own."""
    ordered = [field for role in ("input", "output") for field in fields if field.role == role]
    names = [field.name for field in ordered]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SignatureError(f"The field {min(twice)!r} stands twice in the signature. Give one another name, such as {min(twice)}_2.")
    if wrong := [name for name in names if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_") or name == "self"]:
        raise SignatureError(
            f"{wrong[0]!r} cannot be the name of a field. Use letters, digits and underscores, beginning with a letter; not 'self'."
        )
    if taken := [field.name for field in ordered if field.role == "input" and field.name in OPTIONS]:
        raise SignatureError(
            f"An input cannot be called {taken[0]!r}, which is an option of every call. Give it another name, such as {taken[0]}_text."
        )
    inputs = {field.name: field for field in ordered if field.role == "input"}
    outputs = {field.name: field for field in ordered if field.role == "output"}
    if not outputs:
        raise SignatureError(
            f"The signature with the inputs {', '.join(inputs) or '(none)'} has no output. Add one, as in `question -> answer`."
        )
    for field in outputs.values():
        _check_type(field)
    cls.fields = MappingProxyType({**inputs, **outputs})
    cls.input_fields, cls.output_fields = MappingProxyType(inputs), MappingProxyType(outputs)
    cls.signature = f"{', '.join(inputs)} -> {', '.join(outputs)}"
    cls.instructions = inspect.cleandoc(instructions) if instructions else _default_instructions(inputs, outputs)


def _of_mapping(fields: Mapping[str, Any]) -> type[Signature]:
    made = []
    for name, given in fields.items():
        pair = (str, given) if isinstance(given, Declared) else given
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Declared)):
            raise SignatureError(f"The field {name!r} is {pair!r}; expected a type and its role, as in {{{name!r}: (str, InputField())}}.")
        made.append(pair[1].field(name, pair[0]))
    return make_signature(made)


def _check_type(field: Field) -> None:
    where = f"The output {field.name!r}"
    for tight in (False, True):
        types = TypeGrammar(tight=tight)
        types.value(field.type, where)
        types.bare(field.type, where)


def _default_instructions(inputs: Mapping[str, Field], outputs: Mapping[str, Field]) -> str:
    given = f"From {', '.join(inputs)}, give" if inputs else "Give"
    return f"{given} {', '.join(outputs)}."
