"""What several training processes share, with gradients: batch statistics and vectors."""

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor, nn


def process_count() -> int:
    """Number of training processes, one without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(rows: Tensor) -> Tensor:
    """Rows (n, ...) of all processes in the order of their ranks; ``n`` may differ. Gradients flow back to all."""
    if process_count() == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(process_count())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    longest = int(max(counts))
    padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
    if rows.requires_grad:
        parts = dist_nn.all_gather(padded)
    else:
        parts = tuple(torch.empty_like(padded) for _ in counts)
        dist.all_gather(list(parts), padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


def summed(value: Tensor) -> Tensor:
    """Sum over processes, without gradients."""
    if process_count() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value


class SharedBatchNorm3d(nn.BatchNorm3d):
    """Batch norm whose statistics in training are those of all processes together, on any device.

    ``torch.nn.SyncBatchNorm`` runs on GPUs only.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or process_count() == 1:
            return super().forward(input)
        x = input.float()
        axes = (0, 2, 3, 4)
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = dist_nn.all_reduce(torch.cat([x.sum(axes), count]))
        mean = sums[:-1] / sums[-1]
        # Two passes: the variance from a sum of squares loses digits.
        centred = x - mean.view(1, -1, 1, 1, 1)
        variance = dist_nn.all_reduce((centred**2).sum(axes)) / sums[-1].detach()
        self._keep(mean.detach(), variance.detach(), sums[-1].detach())
        scale = self.weight / torch.sqrt(variance + self.eps)
        y = centred * scale.view(1, -1, 1, 1, 1) + self.bias.view(1, -1, 1, 1, 1)
        return y.to(input.dtype)

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


def share_batch_norm(module: nn.Module) -> None:
    """Replace every batch norm inside a module by one whose statistics all processes share; keys stay."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d):
            shared = SharedBatchNorm3d(child.num_features, child.eps, child.momentum)
            shared.load_state_dict(child.state_dict())
            setattr(module, name, shared)
        else:
            share_batch_norm(child)
