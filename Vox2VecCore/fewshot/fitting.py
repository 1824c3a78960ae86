"""Fitting heads: from examples to one or two linear maps.

- *prototype*: the nearest class mean; for a handful of clicks.
- *ridge*: linear discriminants with a shrunk common covariance (Friedman, JASA 1989), in closed form.
- *logistic*: multinomial logistic regression with a quadratic penalty, by L-BFGS, started from the last solution.
- *mlp*: one hidden layer; what enters it is a linear map, so whole scans stay cheap.

All but the first begin with discriminants of the strokes alone: unknown voxels then count as background as far as
these take them for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from Vox2VecCore.errors import HeadError
from Vox2VecCore.fewshot.examples import Examples
from Vox2VecCore.separable import in_one_thread, in_threads

Method = Literal["auto", "prototype", "ridge", "logistic", "mlp"]
METHODS: tuple[str, ...] = get_args(Method)

CLICKS = 5
FEW = 8000
"""Labelled voxels up to which the closed form is taken: on the shared scans it was as good as logistic regression after
the walk, and it is much faster."""
LEAST_SHRINKAGE, PROTOTYPE_SHRINKAGE = 0.1, 0.9
LEAST_VARIANCE = 0.01
"""Of a class, as a share of the vectors' mean square: one click has none, only what rounding leaves. Strokes have 0.27
and more, two clicks side by side 0.03 (measured)."""
UNKNOWN_SHARE = 0.5
"""Weight of all unknown voxels together, in classes."""
PENALTY = 1e-3
LOGISTIC_STEPS, LOGISTIC_WARM_STEPS = 25, 12
HIDDEN, MLP_STEPS, MLP_NOISE = 32, 80, 0.1
FOLDS = 3
COLUMNS = 256
"""Of a product of all vectors with themselves that are computed at a time."""
STAYS = -1
"""Fold of examples that are never left out."""
NOT_FINITE = "Learning from these strokes gave no finite numbers; paint more, or in other places."
TEMPERATURES = np.geomspace(0.25, 8, 41)


@dataclass(frozen=True, eq=False)
class LinearMaps:
    """Logits of every class: ``v @ weight + bias``; with a hidden layer, ``relu`` of that ``@ out + out_bias``.

    :param weight: (C, K) float32.
    :param bias: (K,).
    :param out: (K, classes), or ``None``.
    :param out_bias: (classes,), or ``None``.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    out: NDArray[np.float32] | None = None
    out_bias: NDArray[np.float32] | None = None

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (n, classes) of vectors (n, C)."""
        return in_one_thread(self._logits, torch.from_numpy(vectors)).numpy()

    def _logits(self, vectors: Tensor) -> Tensor:
        first = torch.addmm(torch.from_numpy(self.bias), vectors, torch.from_numpy(self.weight))
        if self.out is None or self.out_bias is None:
            return first
        return torch.addmm(torch.from_numpy(self.out_bias), first.relu_(), torch.from_numpy(self.out))

    def divided(self, temperature: float) -> "LinearMaps":
        """The same decisions with logits divided by a number."""
        t = np.float32(temperature)
        if self.out is None or self.out_bias is None:
            return LinearMaps(self.weight / t, self.bias / t)
        return LinearMaps(self.weight, self.bias, self.out / t, self.out_bias / t)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fit and why it was made like this.

    :param values: (classes,) class values in the order of the logits.
    :param method: that was used.
    :param note: one sentence on the choice.
    """

    maps: LinearMaps
    values: NDArray[np.int64]
    method: str
    note: str


def choose(examples: Examples, method: str) -> tuple[str, str]:
    """The method to use and why.

    :raises HeadError: if it is unknown.
    """
    if method not in METHODS:
        raise HeadError(f"Unknown method '{method}'; there are {', '.join(METHODS)}.")
    if method != "auto":
        return method, "chosen by the user"
    counts = np.unique(examples.values[examples.labelled], return_counts=True)[1]
    total = int(counts.sum())
    if counts.max() <= CLICKS:
        return "prototype", f"auto: at most {CLICKS} voxels a class"
    if total <= FEW:
        return "ridge", f"auto: {total} labelled voxels, at most {FEW}"
    return "logistic", f"auto: {total} labelled voxels, more than {FEW}"


def fit(
    examples: Examples,
    method: str,
    background: int,
    *,
    start: LinearMaps | None = None,
    calibrate: bool = True,
    check: Callable[[], None] = lambda: None,
) -> Fitted:
    """Fit a head.

    :param background: class value of the background; unknown voxels lean on it, whether or not it was painted.
    :param start: an earlier logistic solution for the same classes, to go on from.
    :param calibrate: fit the temperature of the probabilities on strokes that were left out, a third at a time.
    :param check: called between steps; raises to cancel.
    :raises HeadError: if the method is unknown or the fit is not finite.
    """
    name, note = choose(examples, method)
    values = np.unique(np.append(examples.values[examples.labelled], background))
    task = _Task(examples, values, int(np.searchsorted(values, background)), check)
    # Sums over vectors add up, so that leaving strokes out costs no further pass over those that stay.
    fold = _folds(examples) if calibrate else np.full(len(examples.values), STAYS)
    folds = {int(n): task.moments(examples.labelled & (fold == n)) for n in np.unique(fold)}
    painted = reduce(_Moments.__add__, folds.values())
    maps = task.fit(name, painted, np.ones(len(fold), bool), start)
    if not all(np.isfinite(part).all() for part in (maps.weight, maps.bias)):
        raise HeadError(NOT_FINITE)
    held = [
        (task.fit("ridge" if name == "mlp" else name, painted - folds[n], fold != n), fold == n)
        for n in folds  # hidden layers are as sure of themselves as discriminants, and slow
        if n != STAYS
    ]
    return Fitted(maps.divided(task.temperature(held)) if held else maps, values, name, note)


def _folds(examples: Examples) -> NDArray[np.int64]:
    """For every example the fold in which it is left out, or :data:`STAYS`.

    Every third stroke of a class is left out at a time; classes with a single stroke stay in.
    """
    fold = np.full(len(examples.values), STAYS)
    for value in np.unique(examples.values[examples.labelled]):
        rows = examples.values == value
        strokes = np.unique(examples.strokes[rows])
        if len(strokes) > 1:
            fold[rows] = np.searchsorted(strokes, examples.strokes[rows]) % FOLDS
    return fold


@dataclass(frozen=True, eq=False)
class _Moments:
    """Weighted sums over vectors; those of two sets add up to those of both.

    :param products: (C, C) of their outer products.
    :param sums: (K, C) of the vectors of every class.
    :param weights: (K,) of their weights.
    :param squares: of the squared weights.
    """

    products: Tensor
    sums: Tensor
    weights: Tensor
    squares: float

    @classmethod
    def of(cls, vectors: Tensor, index: Tensor, weights: Tensor, classes: int) -> "_Moments":
        """:param index: (n,) class of every vector (n, C), of ``classes``; ``weights`` (n,) are float32."""
        root = weights.sqrt()[:, None]
        scaled = vectors * root
        size = vectors.shape[1]
        products = torch.empty(size, size)

        def rows(start: int) -> None:
            stop = start + COLUMNS  # symmetric: the rest of these rows only
            torch.mm(scaled[:, start:stop].T, scaled[:, start:], out=products[start:stop, start:])
            products[stop:, start:stop] = products[start:stop, stop:].T

        in_threads(rows, range(0, size, COLUMNS), urgent=True)
        of_class = functional.one_hot(index, classes).float() * root
        sums = of_class.T @ scaled
        return cls(products, sums, of_class.square().sum(0), float(weights.square().sum()))

    def __add__(self, other: "_Moments") -> "_Moments":
        return self._with(1, other)

    def __sub__(self, other: "_Moments") -> "_Moments":
        return self._with(-1, other)

    def _with(self, sign: int, other: "_Moments") -> "_Moments":
        return _Moments(
            self.products + sign * other.products,
            self.sums + sign * other.sums,
            self.weights + sign * other.weights,
            self.squares + sign * other.squares,
        )


@dataclass(frozen=True, eq=False)
class _Task:
    """What is to be learnt.

    :param values: class values, ascending.
    :param background: place of the background among them; unknown voxels count as this as far as they look like it.
    :param check: called between steps; raises to cancel.
    """

    examples: Examples
    values: NDArray[np.int64]
    background: int
    check: Callable[[], None]

    @cached_property
    def index(self) -> NDArray[np.int64]:
        """Place of every example's class among the values."""
        known = np.where(self.examples.labelled, self.examples.values, self.values[self.background])
        return np.searchsorted(self.values, known)

    @cached_property
    def unknown(self) -> NDArray[np.float32]:
        """Vectors of unknown voxels."""
        return self.examples.vectors[~self.examples.labelled]

    def moments(self, rows: NDArray[np.bool_]) -> _Moments:
        """Of labelled examples."""
        return self._moments(self.examples.vectors[rows], self.index[rows], self.examples.weights[rows])

    def _moments(self, vectors: NDArray[np.float32], index: NDArray[np.int64], weights: NDArray) -> _Moments:
        shares = torch.from_numpy(weights.astype(np.float32))
        return _Moments.of(torch.from_numpy(vectors), torch.from_numpy(index), shares, len(self.values))

    def fit(
        self, method: str, painted: _Moments, rows: NDArray[np.bool_], start: LinearMaps | None = None
    ) -> LinearMaps:
        """Learn from some of the examples.

        :param painted: moments of the labelled ones among them.
        :param rows: the examples; all unknown ones are among them.
        """
        self.check()
        maps = in_one_thread(_discriminants, painted, PROTOTYPE_SHRINKAGE if method == "prototype" else None)
        if method == "prototype":
            return maps
        share = UNKNOWN_SHARE * len(self.values)
        as_background = _membership(maps(self.unknown), self.background, share)
        if method == "ridge":
            self.check()
            nothing = np.full(len(self.unknown), self.background)
            every = painted + self._moments(self.unknown, nothing, as_background)
            return in_one_thread(_discriminants, every, None)
        weights = self.examples.weights.copy()
        weights[~self.examples.labelled] = as_background
        vectors, index, weights = self.examples.vectors[rows], self.index[rows], weights[rows]
        if method == "mlp":
            return _perceptron(vectors, index, weights, len(self.values), self.check)
        if start is None or start.out is not None or start.weight.shape != maps.weight.shape:
            return _logistic(vectors, index, weights, maps, LOGISTIC_STEPS)
        return _logistic(vectors, index, weights, start, LOGISTIC_WARM_STEPS)

    def temperature(self, held: Sequence[tuple[LinearMaps, NDArray[np.bool_]]]) -> float:
        """What logits are divided by so that probabilities of strokes that were left out are right on average.

        :param held: what was learnt without some examples, and which these are.
        """
        x = np.concatenate([maps(self.examples.vectors[out]) for maps, out in held])
        y = np.concatenate([self.index[out] for _, out in held])
        w = np.concatenate([self.examples.weights[out] for _, out in held])
        losses = [-(w * np.log(_softmax(x / t)[np.arange(len(y)), y] + 1e-9)).sum() for t in TEMPERATURES]
        return float(TEMPERATURES[int(np.argmin(losses))])


def _membership(logits: NDArray[np.float32], background: int, share: float) -> NDArray[np.float64]:
    """How far unknown voxels count as background: in proportion to their probability, ``share`` in all."""
    likely = _softmax(logits)[:, background] + 1e-6
    return np.asarray(likely / max(float(likely.sum()), 1e-9) * share, np.float64)


def _discriminants(moments: _Moments, shrinkage: float | None) -> LinearMaps:
    """Gaussian classes with equal priors and one covariance, shrunk towards a multiple of the identity.

    :param shrinkage: 0 to 1; ``None`` for the oracle approximation (Chen et al., IEEE TSP 2010), at least 0.1.
    :raises HeadError: if the moments are not finite.
    """
    total = moments.weights.clamp_min(1e-12)
    means = moments.sums / total[:, None]
    covariance = (moments.products - means.T @ (means * total[:, None])) / total.sum()
    square = float(moments.products.diagonal().mean() / total.sum())
    level = max(float(covariance.diagonal().mean()), LEAST_VARIANCE * square, 1e-8)
    if shrinkage is None:
        count = float(moments.weights.sum()) ** 2 / max(moments.squares, 1e-12) - len(means)
        shrinkage = max(LEAST_SHRINKAGE, _oracle_shrinkage(covariance, max(count, 1.0)))
    covariance *= 1 - shrinkage
    covariance.diagonal().add_(shrinkage * level)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if failed:
        raise HeadError(NOT_FINITE)
    weight = torch.cholesky_solve(means.T, factor)
    # A class without any voxel (a background that nobody painted in a scan of structures only) is never chosen.
    bias = torch.where(moments.weights > 0, -0.5 * (means.T * weight).sum(0), -1e4)
    return LinearMaps(weight.contiguous().numpy(), bias.numpy())


def _oracle_shrinkage(covariance: Tensor, count: float) -> float:
    size = len(covariance)
    squares, trace = float(covariance.square().sum()), float(covariance.diagonal().sum()) ** 2
    below = (count + 1 - 2 / size) * (squares - trace / size)
    return min(1.0, ((1 - 2 / size) * squares + trace) / below) if below > 0 else 1.0


def _logistic(
    vectors: NDArray[np.float32], index: NDArray[np.int64], weights: NDArray, start: LinearMaps, steps: int
) -> LinearMaps:
    """Weighted cross-entropy of standardised features plus a quadratic penalty."""
    z, mean, scale = _standardised(vectors)
    target, w = torch.from_numpy(index), torch.from_numpy((weights / weights.sum()).astype(np.float32))
    begin = torch.from_numpy(start.weight) * scale[:, None]
    offset = torch.from_numpy(start.bias) + mean @ torch.from_numpy(start.weight)
    shrink = min(1.0, 4.0 / max(float((z[:256] @ begin + offset).std()), 1e-6))  # discriminants are overconfident
    weight = (begin * shrink).contiguous().requires_grad_()
    bias = (offset.clamp(-50, 50) * shrink).requires_grad_()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=steps, history_size=8, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = (functional.cross_entropy(torch.addmm(bias, z, weight), target, reduction="none") * w).sum()
        value = value + PENALTY * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    final = weight.detach() / scale[:, None]
    return LinearMaps(final.numpy(), (bias.detach() - mean @ final).numpy())


def _perceptron(
    vectors: NDArray[np.float32], index: NDArray[np.int64], weights: NDArray, classes: int, check: Callable[[], None]
) -> LinearMaps:
    """A small multilayer perceptron; noise on its input keeps it smooth."""
    z, mean, scale = _standardised(vectors)
    target, w = torch.from_numpy(index), torch.from_numpy((weights / weights.sum()).astype(np.float32))
    random = torch.Generator().manual_seed(0)

    def layer(rows: int, columns: int) -> Tensor:
        return ((torch.rand(rows, columns, generator=random) * 2 - 1) * rows**-0.5).requires_grad_()

    first, second = layer(z.shape[1], HIDDEN), layer(HIDDEN, classes)
    bias, out_bias = torch.zeros(HIDDEN, requires_grad=True), torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.AdamW([first, second, bias, out_bias], lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, MLP_STEPS)
    for _ in range(MLP_STEPS):
        check()
        noisy = z + MLP_NOISE * torch.randn(z.shape, generator=random)
        logits = functional.relu(noisy @ first + bias) @ second + out_bias
        loss = (functional.cross_entropy(logits, target, reduction="none") * w).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    weight = first.detach() / scale[:, None]
    return LinearMaps(
        weight.numpy(), (bias.detach() - mean @ weight).numpy(), second.detach().numpy(), out_bias.detach().numpy()
    )


def _standardised(vectors: NDArray[np.float32]) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors (n, C) with mean 0 and deviation 1 of every component; the mean and deviation that they had."""
    x = torch.from_numpy(vectors)
    mean, scale = x.mean(0), x.std(0).clamp_min(1e-6)
    return (x - mean) / scale, mean, scale


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
