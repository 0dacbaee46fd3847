"""Images, sounds, files and documents: made from what users have, refused with a reason, short to look at, whole as JSON."""

from __future__ import annotations

import base64
import io
import json
import pickle
import threading
import wave
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from homefire.engine.request import Media
from homefire.errors import HomefireError, InputError, SignatureError
from homefire.modules import media_bytes
from homefire.modules.document import Document
from homefire.modules.example import Example
from homefire.modules.json_format import JsonFormat
from homefire.modules.media import Audio, File, Image
from homefire.modules.signature import Signature

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
JPEG, WEBP, AVIF = b"\xff\xd8\xff\xe0rest", b"RIFF\x10\0\0\0WEBPVP8 ", b"\0\0\0\x20ftypavif...."
WAV = Audio.from_array([0.0, 0.5, -2.0], 8000).data
PDF = b"%PDF-1.4 and so on"
PNG_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()


@pytest.fixture
def web() -> Iterator[str]:
    """A server that says what it has, and counts who asks."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = {"/cat.png": PNG, "/a.wav": WAV, "/paper.pdf": PDF, "/empty": b""}.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_image_comes_from_whatever_holds_one(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(PNG)  # what it is says its content, not its name
    path = tmp_path / "cat.jpg"
    made = [Image(str(path)), Image(path), Image(PNG), Image(bytearray(PNG)), Image(PNG_URL), Image(url=PNG_URL), Image.from_file(path)]
    assert all(image == Image(Image(PNG)) for image in made)
    assert {image.url for image in made} == {PNG_URL}
    assert (made[0].data, made[0].media_type) == (PNG, "image/png")
    assert [Image(data).media_type for data in (JPEG, WEBP, AVIF)] == ["image/jpeg", "image/webp", "image/avif"]
    assert hash(made[0]) == hash(made[1])


def test_a_pil_image_becomes_png() -> None:
    pil = pytest.importorskip("PIL.Image")
    for mode in ("RGB", "RGBA", "L", "CMYK"):
        image = Image(pil.new(mode, (2, 3)))
        assert image.media_type == "image/png"
        assert pil.open(io.BytesIO(image.data)).size == (2, 3)


def test_an_address_is_fetched_only_when_that_is_asked_for(web: str) -> None:
    there = Image(f"{web}/cat.png")
    assert (there.url, there.media_type) == (f"{web}/cat.png", "")
    with pytest.raises(InputError, match="no data URL"):
        _ = there.data
    assert Image(f"{web}/cat.png", download=True) == Image.from_url(f"{web}/cat.png", download=True) == Image(PNG)
    assert Audio.from_url(f"{web}/a.wav").data == WAV
    paper = File(f"{web}/paper.pdf", download=True)
    assert (paper.name, paper.media_type) == ("paper.pdf", "application/pdf")
    with pytest.raises(InputError, match=r"cannot be fetched: HTTP Error 404.*Save it to a file"):
        Image(f"{web}/dog.png", download=True)
    with pytest.raises(InputError, match="is empty"):
        Image(f"{web}/empty", download=True)
    for kind in (Audio, File):
        with pytest.raises(InputError, match=r"No server takes the address.*download=True"):
            kind(f"{web}/a.wav")


def test_a_sound_is_wav_from_numbers(tmp_path: Path) -> None:
    with wave.open(io.BytesIO(WAV)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (8000, 1, 3)
        assert sound.readframes(3) == b"\x00\x00\x00\x40\x01\x80"
    (tmp_path / "a.bin").write_bytes(WAV)
    assert Audio(tmp_path / "a.bin") == Audio.from_file(tmp_path / "a.bin") == Audio(WAV)
    assert (Audio(WAV).audio_format, Audio(b"ID3rest").audio_format) == ("wav", "mp3")


def test_names_that_dspys_users_give(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(WAV)
    (tmp_path / "a.png").write_bytes(PNG)
    sound = Audio(data=base64.b64encode(WAV).decode(), audio_format="wav")
    assert sound == Audio.from_path(tmp_path / "a.wav") == Audio.from_file(file_path=tmp_path / "a.wav")
    assert (sound.audio_format, sound.data) == ("wav", WAV)
    assert Image.from_path(tmp_path / "a.png") == Image(PNG)
    assert File.from_bytes(file_bytes=PDF, filename="b.x", mime_type="application/x-b").media_type == "application/x-b"
    with pytest.raises(InputError, match="Audio takes one source; got none"):
        Audio()


def test_a_file_knows_its_name_and_kind(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2")
    table = File(tmp_path / "a.csv")
    assert (table.name, table.media_type, table.data) == ("a.csv", "text/csv", b"1,2")
    assert File.from_bytes(PDF, "b.x").media_type == "application/pdf"
    assert (File(PDF).name, File(b"??").media_type) == ("file.pdf", "application/octet-stream")
    assert File(b"??", media_type="a/b").media_type == "a/b"
    assert File.from_path(tmp_path / "a.csv", "z.csv").format() == [Media("file", table.url, "z.csv")]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Image("no such.png"), r"The image 'no such\.png' cannot be read: No such file"),
        (lambda: Image("a\0b"), "cannot be read"),
        (lambda: Image(b"GIF8 almost"), r"begins with b'GIF8 alm', which is none of PNG"),
        (lambda: Image(WAV), "which is none of PNG"),
        (lambda: Audio(PNG), "which is none of WAV"),
        (lambda: Image(b""), "is empty"),
        (lambda: Image(3), r"3 is no image, but a int; expected a path.*Write Image\('path'\)"),
        (lambda: Image(), "takes one source; got none"),
        (lambda: Image(PNG, url=PNG_URL), "takes one source; got two"),
        (lambda: Image(url="secret.png"), r"The url of the image is 'secret\.png'.*A path is written Image\('path'\)"),
        (lambda: Image("data:image/png,plain"), "is no data URL"),
        (lambda: Image("data:image/png;base64,*"), "is no data URL"),
        (lambda: File("/"), "cannot be read: Is a directory"),
        (lambda: Document(3), r"A document's data is text or bytes; got a int"),
        (lambda: Document(b"\xff"), "cannot be read as text/plain.*expected UTF-8 text"),
        (lambda: Document("%%", media_type="application/pdf"), "expected bytes, or base64"),
    ],
)
def test_what_cannot_be_used_says_why(make: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        make()


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_bytes, "MOST_BYTES", 10)
    (tmp_path / "cat.png").write_bytes(PNG)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("read"))
    for source in (tmp_path / "cat.png", PNG, PNG_URL):
        with pytest.raises(InputError, match=r"has 0\.0 MB; at most 0 MB are sent"):
            Image(source)


def test_saved_values_never_open_a_file(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PNG)
    for value in ({"url": str(tmp_path / "cat.png")}, str(tmp_path / "cat.png")):
        with pytest.raises((HomefireError, ValueError)):
            TypeAdapter(Image).validate_python(value)
        with pytest.raises(InputError):
            JsonFormat().render(Signature("photo: Image -> answer"), [], {"photo": value})


EVERY = [Image(PNG), Image("https://example.org/cat.png"), Audio(WAV), File(PDF, name="b.pdf"), Document("Cats purr.", title="Cats")]
EVERY += [Document(PDF, media_type="application/pdf")]


@pytest.mark.parametrize("value", EVERY, ids=repr)
def test_values_are_short_to_look_at_and_whole_as_json(value: Any) -> None:
    assert len(repr(value)) < 60
    assert str(value) == repr(value)
    assert type(value).model_validate(json.loads(value.model_dump_json())) == value
    assert TypeAdapter(list[type(value)]).validate_python(Example(a=[value]).toDict()["a"]) == [value]
    assert pickle.loads(pickle.dumps(value)) == value


def test_a_document_is_text_for_every_engine_and_a_file_where_it_is_none(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("# Cats")
    (tmp_path / "paper.pdf").write_bytes(PDF)
    notes, paper = Document.from_file(tmp_path / "notes.md"), Document.from_file(tmp_path / "paper.pdf", title="Paper")
    signature = Signature("documents: list[Document] -> answer")
    message = JsonFormat().render(signature, [], {"documents": [notes, Document("Dogs bark.")]})[-1]
    assert (message.content, message.parts) == ("documents: \n[1] notes.md\n# Cats\n[2] Dogs bark.", ())
    (part,) = JsonFormat().render(signature, [], {"documents": [paper]})[-1].media
    assert (part.kind, part.name, base64.b64decode(part.base64)) == ("file", "Paper", PDF)


@pytest.mark.parametrize("cls", [Image, Audio, File])
def test_no_model_here_writes_one(cls: type) -> None:
    with pytest.raises(SignatureError, match=rf"'thing'\.url has the type {cls.__name__}, for which there is no grammar"):
        Signature("a -> thing: T", custom_types={"T": cls})


def test_numbers_of_samples_beyond_the_range_are_cut_off() -> None:
    samples = memoryview(WAV[44:]).cast("h")
    assert list(samples) == [0, 16384, -32767]
