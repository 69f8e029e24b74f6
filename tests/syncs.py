"""Where the host would wait for an accelerator, counted on a CPU."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack, contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# their results have a size, or are Python values, that depend on values; decompositions check theirs on the host
WAITING = {
    *(aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten.bincount),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.unique_dim_consecutive),
    *(aten._linalg_svd, aten._linalg_eigh, aten.linalg_eig, aten.linalg_qr, aten.linalg_lstsq),
}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
READING = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.__array__}


class HostSyncs:
    """Counts synchronisations by name, and tensors of doubles, which MPS has not."""

    def __init__(self):
        self.found, self.doubles, self.paused = Counter(), 0, False

    @property
    def count(self):
        return sum(self.found.values())

    def note(self, name):
        # an optimiser keeps the number of its steps on the host
        if not self.paused and not _within("torch/optim"):
            self.found[name] += 1

    def pausing(self, function):
        """The same function, within which nothing is counted: it prepares tensors on the host."""

        def call(*args, **kwargs):
            before, self.paused = self.paused, True
            try:
                return function(*args, **kwargs)
            finally:
                self.paused = before

        return call


class _Dispatch(TorchDispatchMode):
    def __init__(self, syncs):
        super().__init__()
        self.syncs = syncs

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        packet, out = func.overloadpacket, func(*args, **(kwargs or {}))
        repeats = packet is aten.repeat_interleave and func._overloadname.startswith("Tensor")
        if packet in WAITING or repeats or (packet in INDEXING and _by_mask(args[1])):
            self.syncs.note(str(packet))
        if isinstance(out, torch.Tensor) and out.dtype == torch.float64 and not self.syncs.paused:
            self.syncs.doubles += not _within("torch/optim")
        return out


class _Functions(TorchFunctionMode):
    def __init__(self, syncs):
        super().__init__()
        self.syncs = syncs

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in READING:
            self.syncs.note(func.__name__)
        return func(*args, **(kwargs or {}))


@contextmanager
def host_syncs():
    """Count within."""
    syncs = HostSyncs()
    with ExitStack() as stack:
        stack.enter_context(_Functions(syncs))
        stack.enter_context(_Dispatch(syncs))
        yield syncs


def _by_mask(indices):
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)


def _within(path):
    frame = sys._getframe(2)
    while frame is not None:
        if path in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False
