"""Batched generation with transformers, for any causal language model."""

from __future__ import annotations

import functools
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from judgelm.engine.context import find_context_length, find_eos_ids
from judgelm.engine.hf.batch import RunningBatch, add_tokens
from judgelm.engine.hf.compiled import CompiledParts
from judgelm.engine.hf.key_values import KeyValues
from judgelm.engine.hf.line_tree import LineTree, score_prompts
from judgelm.engine.hf.packed import PackedBatch, use_packed_attention
from judgelm.engine.hf.padded import PaddedBatch, can_mix, check_cache, knows_padding
from judgelm.engine.hf.padded_lines import score_prompt
from judgelm.engine.hf.prompt_likelihoods import PromptRead, read_prompt
from judgelm.engine.hf.rope import LengthRope
from judgelm.engine.hf.schedule import Room, Schedule, is_out_of_memory
from judgelm.engine.hf.tree import are_family, common_length, split_family
from judgelm.engine.interface import Generation, LineScores, OnText, Request, Sampling, TokenLikelihood, block_size
from judgelm.engine.row import Row
from judgelm.engine.schema_text import SchemaText, SchemaWriter
from judgelm.engine.score_line import line_tokens
from judgelm.engine.shared import SharedEngine
from judgelm.errors import InputError
from judgelm.models.prepacked import prepack

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCH_TOKENS = 16384
"""of a padded batch"""
_MEMORY_CPU = 1 << 30
"""bytes of keys and values on a CPU"""
_MOST_ROWS = 256
_MOST_ROWS_CPU = 32
_PREFILL = 16384
_PREFILL_CPU = 2048
"""more at once do not fit a processor's cache, and are read more slowly"""
_PREFILL_SERVED = 1024
"""prompt tokens that are read at once while a server's other users wait for their next token"""
_REFILL = 4


class HFEngine(SharedEngine):
    """A running batch that is filled up as rows finish: without padding where the model's attention can be packed.

    Args:
        model: in evaluation mode, on its device or devices; its attention and linear layers are changed.
        batch_tokens: most tokens of the batch, all rows as long as the longest, expected new ones included;
            None chooses.
        compile: auto, on or off; see `CompiledParts`.
    """

    most_served = 32
    can_read = True

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_tokens: int | None = None,
        compile: str = "auto",
    ) -> None:
        eos = find_eos_ids(model.generation_config, tokenizer)
        super().__init__(tokenizer, find_context_length(model.config), eos)
        self.model = model
        self.batch_tokens = batch_tokens
        self.packs = use_packed_attention(model, self.context_length)
        self.can_copy = self.packs or check_cache(model)
        """what the model remembers is in its cache, and in nothing else"""
        self.description: dict[str, str | int] = {
            "engine": "hf",
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
            "attention": "packed" if self.packs else model.config._attn_implementation,
            "context_length": self.context_length,
        }
        self.block = block_size(model.device.type)
        self.can_mix = self.packs or can_mix(model)
        """rows may join while others run"""
        self.rope = LengthRope(model)
        self._schema_writer: Callable[[], SchemaWriter] = functools.cache(
            lambda: SchemaWriter(tokenizer, self.vocabulary, eos)
        )
        self._spare: KeyValues | None = None
        """of the last block, empty, for the next one"""
        prepack(model)
        self.parts = CompiledParts(model, compile, not self.packs, self.description)

    def expect(self, tokens: int, waits: bool = True) -> None:
        """See `SharedEngine.expect`."""
        self.parts.expect(tokens, waits)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, done: Collection[str] = (), on_text: OnText = None
    ) -> Iterator[Generation]:
        """See `Engine.generate`. Out of memory halves the batch and goes on, with a warning."""
        if all(request.key in done for request in requests):
            return
        room = self.room()
        schedule = self.schedule(room)
        schedule.waiting.extend(self.start(request, sampling) for request in self._in_order(requests))
        while schedule.waiting or schedule.batch.rows:
            for row in schedule.advance(schedule.admit()):
                if on_text is not None:
                    on_text(row.request.key, row.generation.text if row.generation else row.text)
                if row.generation is not None and row.request.key not in done:
                    yield row.generation
        if schedule.room.tokens < room.tokens:
            # memory was short, and would be for the next block too
            self.batch_tokens = schedule.room.tokens
        if isinstance(schedule.batch, PackedBatch):
            self._spare = schedule.batch.store

    def _in_order(self, requests: Sequence[Request]) -> list[Request]:
        """Prompts that have much in common side by side, else those of like length; the longest first."""
        if not self.packs:
            return sorted(requests, key=lambda request: -len(request.input_ids))
        families: list[list[Request]] = []
        for request in sorted(requests, key=lambda request: request.input_ids):
            if families and are_family(families[-1][-1].input_ids, request.input_ids):
                families[-1].append(request)
            else:
                families.append([request])
        # like lengths together, as rows that are attended in one product should not wait for a longer one
        families.sort(key=lambda family: -max(len(request.input_ids) for request in family))
        return [request for family in families for request in family]

    def score(self, requests: Sequence[Request], lines: Sequence[str]) -> Iterator[LineScores]:
        """See `Engine.score`: one forward pass over a prompt and all that its lines can begin with; where attention
        cannot be packed, one over the prompt and one for each further token of the lines.

        Where not even one prompt fits the memory, its `log_probs` are empty, with a warning.
        """
        if not self.can_copy:
            raise InputError(
                f"a model of type {self.model.config.model_type} keeps a state of its own, so the probabilities of"
                " score lines cannot be read"
            )
        trees = {
            prefill: LineTree(line_tokens(lines, prefill, self.tokenizer))
            for prefill in {request.prefill for request in requests}
        }
        most = self.room().prefill
        waiting = deque(self._in_order(requests))
        while waiting:
            tree = trees[waiting[0].prefill]
            chunk = self._chunk(waiting, tree, most)
            try:
                if self.packs:
                    yield from score_prompts(self.model, self.rope, chunk, tree)
                else:
                    yield score_prompt(self.model, self.rope, chunk[0], tree, most)
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # outside of the handler, so that the traceback's tensors are freed
            torch.cuda.empty_cache()
            if len(chunk) == 1 and (self.packs or most <= len(chunk[0].input_ids)):
                warnings.warn(f"out of memory with question_id {chunk[0].seed_key} alone", stacklevel=2)
                yield LineScores(chunk[0].key, (), len(chunk[0].input_ids), finish_reason="out_of_memory")
                continue
            most = max(1, (sum(len(request.input_ids) for request in chunk) if self.packs else most) // 2)
            warnings.warn(f"out of memory with {len(chunk)} prompts at once, going on with half", stacklevel=2)
            waiting.extendleft(reversed(chunk))

    def _chunk(self, waiting: deque[Request], tree: LineTree, most: int) -> list[Request]:
        """Take those that are scored together: one at least, else up to `most` tokens, and with the same lines."""
        chunk, tokens = [waiting.popleft()], 0
        while self.packs and waiting and waiting[0].prefill == chunk[0].prefill:
            # those that begin alike stand side by side, and that part is read once
            shared = common_length(chunk[-1].input_ids, waiting[0].input_ids)
            tokens += len(waiting[0].input_ids) - shared + len(tree.nodes)
            if tokens > most - len(chunk[0].input_ids):
                for _ in range(split_family([request.input_ids for request in chunk], waiting[0].input_ids)):
                    waiting.appendleft(chunk.pop())
                break
            chunk.append(waiting.popleft())
        return chunk

    @property
    def vocabulary(self) -> int:
        """Tokens that the model knows."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    def start_schema_text(self, schema: str) -> SchemaText:
        """See `ContextEngine.start_schema_text`."""
        return self._schema_writer().start(schema)

    def read(self, input_ids: Sequence[int], count: int) -> PromptRead:
        """How likely each token of a prompt was, and so many of the likeliest at its place."""
        return read_prompt(self.model, self.rope, input_ids, count, in_pieces=self.packs)

    def read_row(self, row: Row) -> tuple[TokenLikelihood, ...]:
        """See `SharedEngine.read_row`. Where memory is short the row finishes as `out_of_memory`."""
        try:
            read = self.read(row.request.input_ids, row.sampling.logprobs or 0)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            row.finish("", "out_of_memory")
            return ()
        if row.max_new_tokens:
            add_tokens(read.logits, [row], self)
        else:
            row.finish("", "length")
        return read.likelihoods

    @property
    def can_score(self) -> bool:
        return self.can_copy

    def open(self, most_rows: int) -> Schedule:
        room = self.room()
        room = replace(room, rows=most_rows, prefill=min(room.prefill, _PREFILL_SERVED), refill=1)
        return self.schedule(room, fair=True)

    def schedule(self, room: Room, fair: bool = False) -> Schedule:
        """An empty schedule."""
        mixed = self.can_mix and (fair or self.packs)
        return Schedule(lambda: self.open_batch(mixed), room, fair)

    def room(self) -> Room:
        """How much this machine takes at once."""
        cpu = self.model.device.type == "cpu"
        tokens = self.batch_tokens or self._tokens_in_memory()
        prefill = min(tokens, _PREFILL_CPU if cpu else _PREFILL) if self.packs else tokens
        rows = _MOST_ROWS_CPU if cpu else _MOST_ROWS
        together = self.packs or (self.can_copy and knows_padding(self.model))
        return Room(rows if together else 1, tokens, prefill, _REFILL)

    def _tokens_in_memory(self) -> int:
        """How many tokens' keys and values there is memory for."""
        if not self.packs:
            return _BATCH_TOKENS
        config = self.model.config.get_text_config()
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        per_token: int = 2 * config.num_hidden_layers * heads * width * self.model.dtype.itemsize
        if self.model.device.type != "cuda":
            return max(self.context_length, _MEMORY_CPU // per_token)
        devices = {parameter.device for parameter in self.model.parameters()}
        total = sum(torch.cuda.get_device_properties(device).total_memory for device in devices)
        # the rest is for the activations of a prefill, and for slots while they are enlarged
        free = int(total * 0.8 - self.model.get_memory_footprint())
        return max(self.context_length, free // 2 // per_token)

    def open_batch(self, mixed: bool = False) -> RunningBatch:
        """An empty batch; `mixed` where rows are to join while others run."""
        if not self.packs:
            return PaddedBatch(self.model, self, self.rope, mixed=mixed)
        store, self._spare = self._spare or KeyValues(self.model.device.type == "cpu"), None
        return PackedBatch(self.model, self, self.rope, store=store)
