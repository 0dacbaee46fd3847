"""Images, sounds and files as inputs, for engines that take them.

Knows no engine: a value becomes a part of a message, and the engine sends it or refuses it. Nothing is fetched unless that is asked for.
"""

from __future__ import annotations

import io
import mimetypes
import sys
import wave
from array import array
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, PlainValidator

from homefire.engine.request import Media, MediaKind
from homefire.errors import InputError
from homefire.modules.custom_type import Type
from homefire.modules.media_bytes import check_size, data_of, data_url, declared_type, fetched, media_type_of, read_bytes


def _checked(url: Any) -> str:
    if isinstance(url, str) and url.startswith(("data:", "http://", "https://")):
        return url
    raise ValueError("an address that begins with data:, http:// or https:// was expected")


class MediaType(Type):
    """Bytes of one kind; equal bytes are equal values, and its JSON is an object with the data URL."""

    model_config = ConfigDict(frozen=True)
    kind: ClassVar[MediaKind]
    noun: ClassVar[str]

    url: Annotated[str, PlainValidator(_checked)]
    """A data URL; of an image also an address, which the model's server fetches."""

    def format(self) -> list[Media]:
        return [self._media()]

    @property
    def media_type(self) -> str:
        """`image/png`; empty where only an address is known."""
        return self._media().media_type

    @property
    def data(self) -> bytes:
        """The bytes.

        Raises:
            InputError: only an address is known.
        """
        return data_of(self.url, self.noun)

    def _media(self) -> Media:
        return Media(self.kind, self.url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._media().described})"

    __str__ = __repr__


def _read(source: object, noun: str, *, download: bool) -> bytes | str:
    """The bytes of a source, or the address where it is one that is not to be fetched."""
    if isinstance(source, str) and source.startswith("data:"):
        data = data_of(source, noun)
    elif isinstance(source, str) and source.startswith(("http://", "https://")):
        if not download:
            return source
        data = fetched(source, noun)
    elif isinstance(source, str | PathLike):
        data = read_bytes(Path(source), noun)
    elif isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    else:
        problem = f"{source!r:.80} is no {noun}, but a {type(source).__name__}"
        raise InputError(f"{problem}; expected a path, bytes, a data URL or an address. Write {noun.title()}('path').")
    check_size(len(data), noun, "that was given")
    return data


def _no_kind(data: bytes, noun: str, wanted: str) -> InputError:
    return InputError(f"The {noun} begins with {data[:8]!r}, which is none of {wanted}. Convert it to one of these first.")


class Image(MediaType):
    """An image: PNG, JPEG, GIF, WebP, BMP, TIFF, AVIF or HEIC.

    >>> Image("https://example.org/cat.png")
    Image(https://example.org/cat.png)

    Args:
        source: A path, bytes, a PIL image, a data URL, or an address. A path comes from whoever writes the program, never out of data.
        url: A data URL or an address; this is how saved values come back, and it never names a file.
        download: Whether to fetch an address now. Otherwise the model's server does.

    Raises:
        InputError: no such file, no image, or one that is too large.
    """

    kind = "image"
    noun = "image"

    def __init__(self, source: Any = None, /, *, url: str | None = None, download: bool = False) -> None:
        given = _one_of(type(self), source, url)
        super().__init__(url=_image_url(_read(_png(given), self.noun, download=download)))

    @classmethod
    def from_file(cls, file_path: str | PathLike[str]) -> Self:
        """The image in a file."""
        return cls(Path(file_path))

    from_path = from_file

    @classmethod
    def from_url(cls, url: str, download: bool = False) -> Self:
        """The image at an address."""
        return cls(url=url, download=download)

    @classmethod
    def from_PIL(cls, pil_image: Any) -> Self:
        """A PIL image, as PNG."""
        return cls(pil_image)


class Audio(MediaType):
    """A sound: WAV, MP3, FLAC, Ogg or M4A.

    Args:
        source: A path, bytes, a data URL, or with `download` an address.
        url: A data URL; this is how saved values come back.
        download: Whether to fetch an address.
        data: Base64 of the bytes instead, as servers speak of sounds.
        audio_format: What they are, as in `wav`.

    Raises:
        InputError: no such file, no sound, too large, or an address that is not to be fetched, which servers do not take.
    """

    kind = "audio"
    noun = "audio"

    def __init__(
        self,
        source: Any = None,
        /,
        *,
        url: str | None = None,
        download: bool = False,
        data: str | None = None,
        audio_format: str = "wav",
    ) -> None:
        given = f"data:audio/{audio_format};base64,{data}" if source is None and data is not None else source
        read = _own_bytes(_read(_one_of(type(self), given, url), self.noun, download=download), type(self))
        media_type = media_type_of(read) or ""
        if not media_type.startswith("audio/"):
            raise _no_kind(read, self.noun, "WAV, MP3, FLAC, Ogg, M4A")
        super().__init__(url=data_url(read, media_type))

    @property
    def audio_format(self) -> str:
        """`wav`, `mp3`, ..."""
        return self.media_type.removeprefix("audio/")

    @classmethod
    def from_file(cls, file_path: str | PathLike[str]) -> Self:
        """The sound in a file."""
        return cls(Path(file_path))

    from_path = from_file

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The sound at an address, fetched now."""
        return cls(url, download=True)

    @classmethod
    def from_array(cls, samples: Iterable[float], sampling_rate: int) -> Self:
        """One channel of samples from -1 to 1, as 16-bit WAV; louder ones are cut off."""
        whole = array("h", (round(max(-1.0, min(1.0, float(sample))) * 32767) for sample in samples))
        if sys.byteorder == "big":
            whole.byteswap()
        written = io.BytesIO()
        with wave.open(written, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(sampling_rate)
            out.writeframes(whole.tobytes())
        return cls(written.getvalue())


class File(MediaType):
    """A file of any kind, such as a PDF, for the few servers that take them.

    Args:
        source: A path, bytes, a data URL, or with `download` an address.
        name: What it is called; the path's own if not given.
        url: A data URL; this is how saved values come back.
        media_type: What it is; found in its bytes and its name if not given.
        download: Whether to fetch an address.

    Raises:
        InputError: no such file, too large, or an address that is not to be fetched.
    """

    kind = "file"
    noun = "file"

    name: str = ""

    def __init__(
        self, source: Any = None, /, *, name: str = "", url: str | None = None, media_type: str = "", download: bool = False
    ) -> None:
        given = _one_of(type(self), source, url)
        data = _own_bytes(_read(given, self.noun, download=download), type(self))
        if not name and isinstance(given, str | PathLike) and not str(given).startswith("data:"):
            name = Path(str(given).split("?")[0]).name
        said = declared_type(given) if isinstance(given, str) else ""
        kind = media_type or said or media_type_of(data) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        values: dict[str, Any] = {"url": data_url(data, kind), "name": name or "file" + (mimetypes.guess_extension(kind) or "")}
        super().__init__(**values)

    @classmethod
    def from_path(cls, file_path: str | PathLike[str], filename: str = "", mime_type: str = "") -> Self:
        """The file at a path."""
        return cls(Path(file_path), name=filename, media_type=mime_type)

    @classmethod
    def from_bytes(cls, file_bytes: bytes, filename: str = "", mime_type: str = "") -> Self:
        """A file that is not on disk."""
        return cls(file_bytes, name=filename, media_type=mime_type)

    def _media(self) -> Media:
        return Media(self.kind, self.url, self.name)

    def __repr__(self) -> str:
        return f"File({self.name}, {self._media().described})"

    __str__ = __repr__


def _one_of(cls: type[MediaType], source: Any, url: str | None) -> Any:
    """The source, or the URL, which names no file."""
    if (source is None) == (url is None):
        raise InputError(f"{cls.__name__} takes one source; got {'none' if url is None else 'two'}. Write {cls.__name__}('path').")
    if url is not None:
        try:
            return _checked(url)
        except ValueError as error:
            raise InputError(f"The url of the {cls.noun} is {url!r:.80}: {error}. A path is written {cls.__name__}('path').") from None
    return source.url if isinstance(source, cls) else source


def _own_bytes(read: bytes | str, cls: type[MediaType]) -> bytes:
    if isinstance(read, str):
        wanted = f"Write {cls.__name__}({read!r}, download=True) to fetch it here"
        raise InputError(f"No server takes the address of a {cls.noun}: {read}. {wanted}, or give a path.")
    return read


def _image_url(read: bytes | str) -> str:
    if isinstance(read, str):
        return read
    media_type = media_type_of(read) or ""
    if not media_type.startswith("image/"):
        raise _no_kind(read, "image", "PNG, JPEG, GIF, WebP, BMP, TIFF, AVIF, HEIC")
    return data_url(read, media_type)


def _png(source: Any) -> Any:
    """A PIL image as PNG; anything else as it is. Whoever has one has loaded PIL."""
    if "PIL.Image" not in sys.modules:
        return source
    from PIL import Image as pil

    if not isinstance(source, pil.Image):
        return source
    written = io.BytesIO()
    picture = source if source.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else source.convert("RGB")
    picture.save(written, "PNG")
    return written.getvalue()
