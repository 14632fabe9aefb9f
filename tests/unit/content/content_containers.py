"""Containers for the parser tests: small ones made by the real libraries once, and writers for the simple formats.

    python tests/unit/content/content_containers.py     needs torch and h5py; writes what is missing in tests/golden

The golden containers stand in for libraries that the test environment need not have.
"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "content" / "containers"


def golden(name: str) -> bytes:
    """Bytes of a golden container."""
    return (FOLDER / name).read_bytes()


def safetensors(arrays: dict[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file of float32, float64, int64 and uint8 arrays."""
    names = {"float32": "F32", "float64": "F64", "int64": "I64", "uint8": "U8", "uint16": "BF16"}
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at, bodies = 0, []
    for name, array in arrays.items():
        body = array.tobytes()
        header[name] = {"dtype": names[array.dtype.name], "shape": array.shape, "data_offsets": [at, at + len(body)]}
        bodies.append(body)
        at += len(body)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(bodies)


def gguf(arrays: dict[str, Any], vocabulary: int = 20, version: int = 3) -> bytes:
    """A GGUF file of float32 and float16 arrays, with a vocabulary among its key-value pairs."""

    def string(value: str) -> bytes:
        data = value.encode()
        return struct.pack("<Q", len(data)) + data

    pairs = [
        string("general.architecture") + struct.pack("<I", 8) + string("llama"),
        string("general.alignment") + struct.pack("<II", 4, 64),
        string("tokens") + struct.pack("<IIQ", 9, 8, vocabulary) + b"".join(string(f"t{i}") for i in range(vocabulary)),
        string("scores") + struct.pack("<IIQ", 9, 6, 3) + bytes(12),
        string("flag") + struct.pack("<I?", 7, True),
    ]
    described, bodies, at = [], [], 0
    for name, array in arrays.items():
        kind = {"float32": 0, "float16": 1}[array.dtype.name]
        dims = struct.pack(f"<I{array.ndim}Q", array.ndim, *array.shape[::-1])
        described.append(string(name) + dims + struct.pack("<IQ", kind, at))
        body = array.tobytes() + bytes(-array.nbytes % 64)
        bodies.append(body)
        at += len(body)
    head = b"GGUF" + struct.pack("<IQQ", version, len(described), len(pairs)) + b"".join(pairs) + b"".join(described)
    return head + bytes(-len(head) % 64) + b"".join(bodies)


def npz(**arrays: Any) -> bytes:
    """An uncompressed .npz."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array: Any) -> bytes:
    """A .npy."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def main() -> None:
    import h5py
    import torch

    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(40, 16), torch.nn.Linear(16, 24), torch.nn.BatchNorm1d(24))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.arange(8)).sum().backward()
    optimizer.step()
    odd = {
        "half": torch.arange(6, dtype=torch.bfloat16),
        "eight": torch.zeros(5, dtype=torch.float8_e4m3fn),
        "transposed": torch.arange(6).reshape(2, 3).T,
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "tied": model[1].bias,
        "tied_too": model[1].bias,
    }
    for name, value in {
        "state.pt": model.state_dict(),
        "checkpoint.pt": {"epoch": 3, "model": model.state_dict(), "optimizer": optimizer.state_dict()},
        "module.pt": model,
        "odd.pt": odd,
    }.items():
        if not (FOLDER / name).exists():
            torch.save(value, FOLDER / name)
    if not (FOLDER / "weights.h5").exists():
        with h5py.File(FOLDER / "weights.h5", "w") as file:
            for i in range(12):
                group = file.create_group(f"layers/dense_{i}/vars")
                group.create_dataset("0", data=np.arange(12, dtype=np.float32).reshape(3, 4) + i)
                group.create_dataset("1", data=np.arange(4, dtype=np.float16))
            file.create_dataset("packed", data=np.arange(100), chunks=(10,), compression="gzip")
            file.create_dataset("step", data=np.int64(7))
            file.create_dataset("big_endian", data=np.arange(3, dtype=">i4"))
            file.attrs["keras_version"] = "3.0"


if __name__ == "__main__":
    main()
