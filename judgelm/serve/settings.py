"""Where the parts find each other by default, and what `judgelm serve` is told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from judgelm.errors import InputError, SettingError, one_line
from judgelm.serve.draining import DRAIN_S
from judgelm.verdict_forms import SCORES

TOKEN_VARIABLE = "JUDGELM_REGISTRATION_TOKEN"
"""environment variable: with it, a controller registers only workers that send the same"""
OPEN_CONTROLLER = (
    "the controller listens beyond this machine without a token: whoever reaches it can register a worker of their own"
    f" and is sent texts to judge; set {TOKEN_VARIABLE}"
)
CONTROLLER_PORT = 21001
WORKER_PORT = 21002
API_PORT = 21003
PAGE_PORT = 7860
LABEL_PORT = 7861
_NAME = re.compile(r"[^\s,/]+(/[^\s,/]+)*")
_MOST_NAME = 200
CONTROLLER_ADDRESS = f"http://127.0.0.1:{CONTROLLER_PORT}"


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What `judgelm serve` starts, and where."""

    models: tuple[str, ...] = ("tiny",)
    """hub ids, local folders, PEFT adapters, or tiny"""
    served_model_names: tuple[str, ...] = ()
    """under which clients ask for them; empty: the last part of each"""
    num_workers: int = 1
    """of each model"""
    num_gpus_per_worker: int = 1
    engine: str = "hf"
    """hf or vllm: what runs the models"""
    device: str | None = None
    dtype: str = "auto"
    quantization: str | None = None
    compile: str = "auto"
    """auto, on or off; see `Judge.load`"""
    batch_tokens: int | None = None
    chat_format: str = "auto"
    prompt_format: str = "auto"
    """how judges are asked; see `Judge.load`"""
    prompt_file: str | None = None
    """of a template in whose words they are asked; see `read_prompt_template`"""
    verdict_format: str = SCORES
    """scores, grade, letter or json: how they say a verdict"""
    reasoning: bool = False
    """they think first, in at most so many tokens"""
    max_reasoning_tokens: int = 4096
    calibration: str | None = None
    """file of a map of the model's probabilities; see `read_calibration`"""
    host: str = "127.0.0.1"
    """on which page and API listen"""
    port: int = PAGE_PORT
    """of the page; of this and the others 0 is any that is free"""
    api_port: int = API_PORT
    controller_host: str = "127.0.0.1"
    controller_port: int = 0
    worker_host: str = "127.0.0.1"
    allowed_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    """whose pages may ask the API"""
    root_path: str = ""
    """under which a proxy shows page and API"""
    batch_dir: str | None = None
    """where files and batches of the API are kept"""
    drain_s: float = DRAIN_S
    """for which requests that run are waited for at the end"""
    controller_address: str | None = None
    """of another machine's controller: then there are workers alone"""
    share: bool = False
    gradio_auth_path: str | None = None
    log_dir: Path = Path("logs")

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise SettingError("num_workers", f"{self.num_workers}: expected 1 or more")
        names = self.names
        if self.calibration is not None and len(names) > 1:
            raise SettingError("calibration", f"belongs to one model, found {len(names)}: {', '.join(names)}")
        if len(set(names)) < len(names):
            raise InputError(
                f"--model {' '.join(self.models)}: each name may come once (--num-workers serves more of one)"
            )

    @property
    def names(self) -> list[str]:
        """Of the models, for clients. Raises InputError for what is no name."""
        if not self.served_model_names:
            return [served_name(model) for model in self.models]
        if len(self.served_model_names) != len(self.models):
            found, wanted = len(self.served_model_names), len(self.models)
            raise InputError(f"--served-model-name: expected a name for each of {wanted} models, found {found}")
        for name in self.served_model_names:
            # a proxy makes one slash of two, and a comma separates names
            if not _NAME.fullmatch(name) or not name.isprintable() or len(name) > _MOST_NAME:
                raise InputError(
                    f"--served-model-name {one_line(name)}: expected a name such as org/model, of at most {_MOST_NAME}"
                    " printable characters without blanks and commas"
                )
        return list(self.served_model_names)


def served_name(model: str) -> str:
    """The name under which clients ask for a model: the last part of its folder or hub id.

    Raises InputError where that is no name.
    """
    path = Path(model).expanduser()
    name = path.name if path.name not in ("", "..") else path.resolve().name
    if not name or not name.isprintable() or len(name) > _MOST_NAME:
        raise InputError(f"model {model}: expected a folder with a name of at most {_MOST_NAME} printable characters")
    return name
