"""Parts of a model's layers as kernels of this machine: on a CPU each operation of eager torch passes over memory."""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import os
import sys
import threading
from collections.abc import Callable, MutableMapping
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch

from judgelm.errors import InputError
from judgelm.files import cache_folder
from judgelm.models.devices import only_avx2
from judgelm.models.int8 import Int8Linear
from judgelm.models.loading import in_one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_KINDS = ("MLP", "RMSNorm", Int8Linear.__name__)
"""how the names of classes end whose `forward` is compiled, in transformers and here"""
_ROTARY = "apply_rotary_pos_emb"
"""a function that the attention of transformers' models calls"""
_PAYS_S = 120.0
"""seconds of computing that are long enough: compiling saves a sixth of them, and takes 20 s"""
_PER_CORE = 50e9
"""floating-point operations a second of a core with AVX2, of all that a model computes in float32"""
_SHAPES = ((1, 31), (1, 1), (11, 31), (11, 1))
"""rows and tokens of what each part is compiled for: torch makes one of anything a case of its own. Primes, so that
they are the size of nothing else, which it would take for the same"""
_MOST_KINDS = 64
"""of data types, widths and shapes that a part is compiled for: torch's own limit of 8 is reached by two models"""


class CompiledParts:
    """A model's MLPs, RMSNorms, rotary positions and linear layers in 8 bits, compiled by torch: once for all layers
    and numbers of tokens.

    What they compute stays the same up to rounding. Where they cannot be compiled the model goes on as it is, and one
    line on stderr says why.

    Args:
        wanted: auto, on or off; on compiles at once.
        rows: whether the model is given several rows at once.
        description: gets what is compiled.
    """

    def __init__(
        self, model: PreTrainedModel, wanted: str, rows: bool, description: MutableMapping[str, str | int]
    ) -> None:
        self.model = model
        self.description = description
        self.thread: threading.Thread | None = None
        """in which they are or were compiled while others use the model"""
        self._shapes = _SHAPES if rows else _SHAPES[:2]
        self._token_s = seconds_per_token(model)
        self._undecided = wanted == "auto" and _pays(model)
        if model.device.type == "cpu":
            description["compiled"] = "nothing"
        if wanted == "on":
            self.compile()

    def expect(self, tokens: int, waits: bool) -> None:
        """Compile, if so many tokens are worth it, now or, where nobody `waits` for it, in a thread."""
        if not self._undecided or tokens * self._token_s < _PAYS_S:
            return
        self._undecided = False
        if waits:
            self.compile()
            return
        self.thread = threading.Thread(target=self.compile, name="compile", daemon=True)
        self.thread.start()

    def compile(self) -> None:
        """Compile with a copy that shares the weights, so that meanwhile the model can be used, and then put it in."""
        try:
            with in_one_line("it cannot be"):
                parts = _compile_for(self.model, self._shapes)
        except InputError as error:
            print(f"judgelm: the model is not compiled, and goes on as it is: {error}", file=sys.stderr)
            return
        put_in(self.model)
        self.description["compiled"] = ", ".join(parts)


def seconds_per_token(model: PreTrainedModel) -> float:
    """About how long this process takes to read a token on a CPU.

    Nothing is measured, so that a run that goes on decides as it did before.
    """
    embeddings = {id(each.weight): each.weight.numel() for each in _embeddings(model)}
    parameters = sum(each.numel() for each in model.parameters()) - sum(embeddings.values())
    return float(2 * parameters / (torch.get_num_threads() * _PER_CORE))


def _embeddings(model: PreTrainedModel) -> list[Any]:
    found = (model.get_input_embeddings(), model.get_output_embeddings())
    return [each for each in found if each is not None]


def _twin(model: PreTrainedModel) -> PreTrainedModel:
    """The same modules with the same weights, and with nothing of what was put into the first ones."""
    shared: dict[int, Any] = {id(each): each for each in itertools.chain(model.parameters(), model.buffers())}
    twin = copy.deepcopy(model, shared)
    for module in twin.modules():
        vars(module).pop("forward", None)
    return twin


@torch.inference_mode()
def _compile_for(model: PreTrainedModel, shapes: tuple[tuple[int, int], ...]) -> list[str]:
    """The names of the parts. Raises InputError where nothing can be compiled, and whatever torch and its compiler
    raise; the model stays as it is.
    """
    if model.device.type != "cpu":
        raise InputError(f"it is on {model.device}, not on a CPU")
    # torch takes a folder as soon as it is asked for a compiled function
    _choose_cache()
    twin = _twin(model)
    parts = put_in(twin)
    if not parts:
        raise InputError(f"no part of a {type(model).__name__} is known")
    import torch._dynamo.config as tracing
    import torch._inductor.config as config

    takes = inspect.signature(twin.forward).parameters
    # without a pool of processes, which would stay, and 150 MB of headers in /tmp
    quietly = config.patch(compile_threads=1, cpp_cache_precompile_headers=False)
    with quietly, tracing.patch(recompile_limit=_MOST_KINDS):
        for shape in shapes:
            tokens = torch.zeros(shape, dtype=torch.long)
            extra = {"position_ids": tokens, "logits_to_keep": 1, "use_cache": False}
            twin(input_ids=tokens, **{name: value for name, value in extra.items() if name in takes})
    return parts


def _pays(model: PreTrainedModel) -> bool:
    """With AVX512 nothing was saved (benchmarks/compiled.json) but where numbers become whole ones and return."""
    if model.device.type != "cpu":
        return False
    in_8_bits = any(isinstance(module, Int8Linear) for module in model.modules())
    return in_8_bits or (model.dtype == torch.float32 and only_avx2())


def _choose_cache() -> None:
    """A folder of the user's own: torch would take one of /tmp, as soon as it is asked to compile, and what lies there
    is run. Raises OSError where it cannot be, before time is spent.
    """
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        folder = cache_folder() / "compiled"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def put_in(model: PreTrainedModel) -> list[str]:
    """Let the parts of a model call what is compiled; the names of their classes, and of functions."""
    found = set()
    for module in model.modules():
        forward = type(module).forward
        if "forward" in vars(module) or not isinstance(forward, FunctionType):
            continue
        if type(module).__name__.endswith(_KINDS):
            found.add(type(module).__name__)
            compiled = _compiled(forward)
        elif _ROTARY in forward.__code__.co_names and _ROTARY in forward.__globals__:
            found.add(_ROTARY)
            compiled = _with_rotary(forward)
        else:
            continue
        module.forward = MethodType(compiled, module)
    return sorted(found)


@functools.cache
def _compiled(function: FunctionType) -> Callable[..., Any]:
    """One for all layers, and for all models of a class."""
    compiled: Callable[..., Any] = torch.compile(function, dynamic=True)
    return compiled


@functools.cache
def _with_rotary(forward: FunctionType) -> FunctionType:
    """The `forward` of an attention, not compiled itself, in which that of rotary positions is."""
    names = {**forward.__globals__, _ROTARY: _compiled(forward.__globals__[_ROTARY])}
    found = FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    found.__kwdefaults__ = forward.__kwdefaults__
    return found
