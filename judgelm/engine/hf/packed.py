"""A batch without padding, for models that hand their attention over.

A model of transformers calls `packed_attention` in every layer, through the library's attention interface; the `pack`
that goes along with the tokens says where they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from judgelm.engine.hf.attention import Attended, Keys, Pass, PromptPass, Queries, TokenPass, Values
from judgelm.engine.hf.batch import RunningBatch
from judgelm.engine.hf.key_values import KeyValues
from judgelm.engine.hf.rope import LengthRope
from judgelm.engine.hf.tree import Tree
from judgelm.engine.row import Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PACKED = "judgelm_rows"


def use_packed_attention(model: PreTrainedModel, context_length: int) -> bool:
    """From now on the model takes packs; called without one it computes what it did.

    False, and nothing has changed, for a model whose layers do not all attend to all that stands in front, or of which
    it turns out that not each layer hands its pack to our attention once.
    """
    before = model.config._attn_implementation
    if not type(model)._supports_attention_backend or before not in ("sdpa", "flash_attention_2", PACKED):
        return False
    if not _attends_to_all(model.config.get_text_config().to_dict(), context_length):
        return False
    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, sdpa_mask)
    model.set_attn_implementation(PACKED)
    counter = _Counter()
    try:
        one = torch.zeros(1, dtype=torch.long, device=model.get_input_embeddings().weight.device)
        with torch.inference_mode():
            forward_packed(model, one, one, one, counter)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError):
        counter.layers.clear()
    num_layers = model.config.get_text_config().num_hidden_layers
    packs = len(counter.layers) >= num_layers and len(set(counter.layers)) == len(counter.layers)
    if not packs:
        model.set_attn_implementation(before)
    return packs


def _attends_to_all(config: dict[str, Any], context_length: int) -> bool:
    kinds = config.get("layer_types") or ["full_attention"]
    window = None if config.get("layer_types") else config.get("sliding_window")
    return (
        set(kinds) == {"full_attention"}
        and (window is None or window >= context_length)
        and config.get("attn_logit_softcapping") is None
    )


class _Counter(Pass):
    """Notes which layers attend: some models lose the pack on its way, attend twice, or have layers of another kind."""

    def __init__(self) -> None:
        self.layers: list[int] = []

    def attend(self, layer: int, query: Queries, key: Keys, value: Values) -> Attended:
        """See `Pass.attend`; zeros."""
        self.layers.append(layer)
        return query.new_zeros(query.shape[1], query.shape[0], value.shape[2])


def packed_attention(
    module: torch.nn.Module,
    query: Float[Tensor, "B heads T d"],
    key: Float[Tensor, "B kv_heads L d"],
    value: Float[Tensor, "B kv_heads L v"],
    attention_mask: Tensor | None,
    *,
    pack: Pass | None = None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "B T heads v"], None]:
    """What transformers calls in each layer; with a pack B is 1 and L is T."""
    if pack is None:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return found
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    assert isinstance(module.layer_idx, int)
    return pack.attend(module.layer_idx, query[0] * scale, key[0], value[0]).unsqueeze(0), None


def forward_packed(
    model: PreTrainedModel,
    input_ids: Int[Tensor, " T"],
    positions: Int[Tensor, " T"],
    ends: Int[Tensor, " B"],
    pack: Pass,
) -> Float32[Tensor, "B V"]:
    """One forward pass: the logits of the tokens that stand at `ends`."""
    output = model(
        input_ids=input_ids[None],
        position_ids=positions[None],
        # any mask of four dimensions, so that none is made
        attention_mask=input_ids.new_zeros(1, 1, 1, 1),
        use_cache=False,
        logits_to_keep=ends,
        pack=pack,
    )
    logits: Tensor = output.logits[0].float()
    return logits


class PackedBatch(RunningBatch):
    """Prompts are one row of tokens, what they begin with together stands in it once; rows keep their keys in slots.

    For models that take packed attention. No work is done on padding, but for the attention of rows of different
    lengths while they decode.
    """

    def __init__(self, *args: Any, store: KeyValues) -> None:
        super().__init__(*args)
        self.store = store

    def _prefill(self, rows: Sequence[Row]) -> Float32[Tensor, "B V"]:
        texts = [row.input_ids for row in rows]
        nums = [len(row.request.input_ids) for row in rows]
        for row, text in zip(rows, texts, strict=True):
            row.num_read = len(text)
        kinds = [self.rope.kind_of_prompt(num, len(text)) for num, text in zip(nums, texts, strict=True)]
        tree = Tree(texts, kinds=kinds)
        pack = PromptPass(tree, self.store)
        ends = torch.tensor([leaf.end - 1 for leaf in tree.leaves], device=self.device)
        positions = torch.tensor(tree.position_ids, device=self.device)
        with self.rope.using([tree_kinds(self.rope, tree, nums, list(map(len, texts)))]):
            return forward_packed(self.model, torch.tensor(tree.input_ids, device=self.device), positions, ends, pack)

    def _decode(self) -> Float32[Tensor, "B V"]:
        unread = [row.tokens[row.num_read - len(row.request.input_ids) :] for row in self.rows]
        step = TokenPass(self.store, [len(tokens) for tokens in unread], self.device, self.model.dtype)
        filled = [tokens + tokens[-1:] * (step.num - len(tokens)) for tokens in unread]
        kinds: list[int] = []
        for row, tokens in zip(self.rows, unread, strict=True):
            kinds += self.rope.kinds(row.num_read, len(row.input_ids), range(row.num_read, row.num_read + step.num))
            row.num_read += len(tokens)
        input_ids = torch.tensor(filled, device=self.device).flatten()
        ends = torch.tensor(
            [index * step.num + len(tokens) - 1 for index, tokens in enumerate(unread)], device=self.device
        )
        with self.rope.using([kinds]):
            return forward_packed(self.model, input_ids, step.positions.flatten(), ends, step)

    def _choose(self, logits: Float[Tensor, "B V"], rows: Sequence[Row]) -> None:
        super()._choose(logits, rows)
        engine = self.engine
        for row in rows:
            # a token without an alternative need not be computed, unless somebody asks how likely it was
            if row.sampling.logprobs is not None:
                continue
            while row.generation is None and (allowed := row.allowed(engine.pieces)) is not None and len(allowed) == 1:
                if row.sampling.temperature > 0:
                    row.random.random()
                row.add(allowed[0], engine.eos, engine.tokenizer)

    def _drop(self, kept: Sequence[int]) -> list[int]:
        # the last ones fill the gaps, so that few move
        last = (index for index in kept if index >= len(kept))
        order = [index if index in kept else next(last) for index in range(len(kept))]
        self.store.keep(order)
        return order


def tree_kinds(rope: LengthRope, tree: Tree, nums: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """The kind of each token of a tree [T]; `nums` are the tokens of each text's prompt, `lengths` all of its."""
    kinds: list[int] = []
    for segment in tree.segments:
        positions = range(segment.position, segment.position + segment.end - segment.begin)
        kinds += rope.kinds(nums[segment.prompt], lengths[segment.prompt], positions)
    return kinds
