"""Checkpoints that ``torch.save`` writes (.pt, .pth, .ckpt): a zip of stored entries, one for each storage."""

from __future__ import annotations

from dreamlake.content.containers import pickles, zips
from dreamlake.content.containers.layout import WIDTH_OF, Layout, Run, Tensor, contiguous, make_layout
from dreamlake.content.containers.source import MAX_READ, Odd, Source

__all__ = ["parse"]

_GUESS = 4  # bytes of an element when the pickle does not tell; float32 is by far the most common


def parse(source: Source, entries: list[zips.Entry]) -> Layout:
    """Raises ``Odd`` when these are not the entries of a torch checkpoint.

    A pickle that cannot be followed costs names and element widths, not the layout.
    """
    by_name = {entry.name: entry for entry in entries}
    stems = [name[: -len("/data.pkl")] for name in by_name if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(stems) != 1:
        raise Odd("not a torch checkpoint")
    folder = stems[0] + "/data/"
    storages = {name[len(folder) :]: entry for name, entry in by_name.items() if name.startswith(folder)}
    order = by_name.get(stems[0] + "/byteorder")
    little = order is None or (order.size == 6 and source.read(order.offset, 6) == b"little")
    pickle = by_name[stems[0] + "/data.pkl"]
    try:
        found = pickles.scan(source.read(pickle.offset, min(pickle.size, MAX_READ))) if little else []
    except Odd:
        found = []
    widths: dict[str, int] = {}
    labels: dict[str, tuple[str, str]] = {}
    tensors = []
    for item in found:
        entry = storages.get(item.storage.key)
        width = WIDTH_OF.get(item.dtype)
        if entry is None or width is None:
            continue
        widths.setdefault(item.storage.key, width)
        labels.setdefault(item.storage.key, (item.name.rpartition("/")[2], item.group))
        tensor = _tensor(item, entry, width)
        if tensor is not None:
            tensors.append(tensor)
    runs = []
    for key, entry in storages.items():
        name, group = labels.get(key, ("", ""))
        runs.append(Run(entry.offset, entry.size, widths.get(key, _GUESS), _below(name, group), group))
    return make_layout("torch", source.size, runs, tensors)


def _tensor(item: pickles.FoundTensor, entry: zips.Entry, width: int) -> Tensor | None:
    """The tensor with its place in the file, or None when it does not lie within its storage."""
    numbers = (item.start, *item.shape, *item.strides)
    if any(type(n) is not int or not 0 <= n < 1 << 48 for n in numbers) or len(item.shape) != len(item.strides):
        return None
    start = entry.offset + item.start * width
    if 0 in item.shape:
        return Tensor(item.name, item.dtype, item.shape, entry.offset, 0)
    last = sum((n - 1) * step for n, step in zip(item.shape, item.strides, strict=True))
    length = (last + 1) * width
    if start + length > entry.offset + entry.size:
        return None
    normal = tuple(step if n > 1 else 0 for n, step in zip(item.shape, item.strides, strict=True))
    plain = tuple(step if n > 1 else 0 for n, step in zip(item.shape, contiguous(item.shape), strict=True))
    return Tensor(item.name, item.dtype, item.shape, start, length, None if normal == plain else item.strides)


def _below(name: str, group: str) -> str:
    """The name within its group: the same whether a state_dict is stored alone or inside a larger checkpoint."""
    return name[len(group) + 1 :] if group and name.startswith(group + ".") else name
