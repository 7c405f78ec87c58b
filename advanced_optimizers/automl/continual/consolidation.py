r"""Elastic weight consolidation: a spring per weight, as stiff as the weight mattered to earlier tasks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from advanced_optimizers._checks import check_bool, check_choice, check_integer, check_range
from advanced_optimizers.automl.continual.checks import (
    check_dataloader,
    check_importance,
    check_loss,
    check_same_shape,
    check_trainable,
)
from advanced_optimizers.automl.continual.fisher import ESTIMATORS, Select, diagonal_fisher


class Consolidated(NamedTuple):
    """What is kept of a task.

    Attributes:
        fisher: By name of the parameter, its importance, >= 0.
        anchor: By name of the parameter, its value when the task had been learned.
    """

    fisher: dict[str, Tensor]
    anchor: dict[str, Tensor]


class ElasticWeightConsolidation:
    r"""Adds to the loss of a new task what moving away from the weights of earlier tasks costs.

    .. math::
        L(\theta) = L_{new}(\theta) + \sum_t \frac\lambda2 \sum_i F_{t,i} (\theta_i - \theta^*_{t,i})^2, \qquad
        F_{t,i} = \frac1N \sum_n \mathbb E_{y \sim p(y \mid x_n, \theta^*_t)}
        \Bigl(\frac{\partial \log p(y \mid x_n, \theta^*_t)}{\partial \theta_i}\Bigr)^2

    After each task, :meth:`compute_fisher_information` keeps :math:`F_t` and :math:`\theta^*_t`; from then on,
    :meth:`ewc_loss` adds the penalty. With ``online``, there is one penalty, whatever the number of tasks:
    :math:`F \leftarrow \gamma F + F_t`, anchored at the latest :math:`\theta^*_t`.

    Nothing else changes: neither the modes of the model's modules nor its gradients, buffers or weights, nor the loss
    that is passed in. Parameters that did not require a gradient, or did not exist, when a task was consolidated are
    free. Fisher informations do not depend on how a loader forms batches.

    Args:
        model: A classifier: it returns logits (batch, classes), or ``logits`` selects them. Its parameters keep their
            names and shapes.
        lambda_ewc: :math:`\lambda` >= 0, finite. Factors of packages differ: with ours it is half of what it is where
            the penalty is written without 1/2, and where the gradient of a batch is squared, :math:`F` is smaller by up
            to the batch size.
        fisher: ``exact`` takes the expectation over all labels, with a backward pass for each class; ``sampled`` draws
            one label per sample from the model; ``empirical`` takes the labels of the data, which is not the Fisher
            information unless the model is right about them.
        online: Whether there is one penalty for all tasks.
        gamma: :math:`\gamma` in [0, 1], how much of earlier tasks' :math:`F` stays. Only ``online`` uses it.
        generator: Draws the labels of ``sampled``; None for torch's own.

    Attributes:
        tasks: :class:`Consolidated`, one per task; with ``online``, at most one.
        fisher_information: By parameter, :math:`F` of the latest of ``tasks``; empty before the first.
        optimal_params: By parameter, :math:`\theta^*` of the latest of ``tasks``; empty before the first.

    Raises:
        TypeError: An argument has another type.
        ValueError: A number is out of range, ``fisher`` is unknown, or the model has nothing to train.

    Example:
        >>> import torch
        >>> from torch.nn.functional import cross_entropy
        >>> from advanced_optimizers.automl import ElasticWeightConsolidation
        >>> model = torch.nn.Linear(4, 3)
        >>> old, new = ((torch.randn(20, 4), torch.randint(3, (20,))) for _ in range(2))
        >>> ewc = ElasticWeightConsolidation(model, lambda_ewc=100)
        >>> ewc.compute_fisher_information([old])  # when the first task has been learned
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        >>> _ = ewc.check_stability(optimizer)
        >>> for _ in range(10):
        ...     optimizer.zero_grad()
        ...     ewc.ewc_loss(cross_entropy(model(new[0]), new[1])).backward()
        ...     optimizer.step()

    References:
        Kirkpatrick et al., *Overcoming catastrophic forgetting in neural networks*, PNAS 2017, arXiv 1612.00796,
        equation 3; Schwarz et al., *Progress & Compress*, ICML 2018, arXiv 1805.06370, for ``online``. Both are
        recalled; the estimators were compared with the code of GMvandeVen/continual-learning, commit e6d795a.

    Departures from the paper:
        The paper does not say how the expectation over labels is computed. With several tasks it has one penalty per
        task, as here; Huszár (2018) shows that this counts earlier tasks more than once.

    Limitations:
        Cross-entropy of classes only. Gradient descent follows the penalty only while :math:`\eta \lambda \sum_t F_t <
        2` in each weight, see :attr:`max_stable_lr`; Adam hides the scale. Memory: twice the model per task, once more
        per sample in a chunk of 32 while :math:`F` is computed. :meth:`ewc_loss` waits for the device once per call.
        Batch normalization's running statistics are not penalized, and ``vmap`` needs a model without data-dependent
        control flow.
    """

    def __init__(
        self,
        model: nn.Module,
        lambda_ewc: float = 1000,
        *,
        fisher: str = "exact",
        online: bool = False,
        gamma: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        self.model = check_trainable(model)
        self.lambda_ewc = check_range("lambda_ewc", lambda_ewc, 0.0, math.inf, open_high=True)
        self.fisher = check_choice("fisher", fisher, ESTIMATORS)
        self.online = check_bool("online", online)
        self.gamma = check_range("gamma", gamma, 0.0, 1.0)
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator, or None, got {generator!r}")
        self.generator = generator
        self.tasks: list[Consolidated] = []

    @property
    def fisher_information(self) -> dict[str, Tensor]:
        """See the class."""
        return self.tasks[-1].fisher if self.tasks else {}

    @property
    def optimal_params(self) -> dict[str, Tensor]:
        """See the class."""
        return self.tasks[-1].anchor if self.tasks else {}

    def compute_fisher_information(
        self, dataloader: Iterable[Any], *, max_samples: int | None = None, logits: Select | None = None
    ) -> None:
        """Consolidates the task that has just been learned: keeps its Fisher information and the model's weights.

        Modules are in evaluation mode meanwhile.

        Args:
            dataloader: Yields inputs (batch, ...), or tuples that begin with inputs and labels (batch,); ``exact`` and
                ``sampled`` ignore the labels. It is read once.
            max_samples: How many samples count, from the first on, >= 1; None for all.
            logits: Maps the model's output to logits (batch, classes), such as ``lambda output: output[:, 2:4]`` for
                the classes of one task. Labels of ``empirical`` count among them.

        Raises:
            TypeError: The loader yields no batches of tensors, labels are not integers, or ``logits`` is not a
                function.
            ValueError: The loader is empty, a label is out of range, or an output is not logits.
            RuntimeError: A gradient is not finite.
        """
        check_dataloader(dataloader, logits)
        samples = None if max_samples is None else check_integer("max_samples", max_samples, 1)
        self.consolidate(
            diagonal_fisher(
                check_trainable(self.model),
                dataloader,
                self.fisher,
                max_samples=samples,
                logits=logits,
                generator=self.generator,
            )
        )

    def consolidate(self, importance: dict[str, Tensor]) -> None:
        """Consolidates the present weights with an importance from elsewhere, as if it were their Fisher information.

        Args:
            importance: By name of the parameter, numbers >= 0 in its shape; parameters that it lacks are free.

        Raises:
            TypeError: It is not a dict of tensors.
            ValueError: A name is unknown, a shape differs, or a number is negative or not finite.
        """
        fisher = check_importance(importance, self.model)
        anchor = {name: p.detach().clone() for name, p in self.model.named_parameters() if name in fisher}
        if self.online and self.tasks:
            before = self.tasks.pop()
            for name, value in before.fisher.items():
                fisher[name] = self.gamma * value + fisher.get(name, 0.0)
                anchor.setdefault(name, before.anchor[name])
        self.tasks.append(Consolidated(fisher, anchor))

    def penalty(self) -> Tensor:
        r"""What is added to the loss, :math:`\sum_t \frac\lambda2 \sum_i F_{t,i} (\theta_i - \theta^*_{t,i})^2`.

        Raises:
            ValueError: A parameter has another shape than when a task was consolidated, or is gone.
            RuntimeError: Nothing has been consolidated yet.
        """
        if not self.tasks:
            raise RuntimeError(
                "there is nothing to hold on to yet: train the first task with its own loss, then call "
                "compute_fisher_information"
            )
        now = dict(self.model.named_parameters())
        terms = []
        for fisher, anchor in self.tasks:
            for name, f in fisher.items():
                if name not in now:
                    raise ValueError(f"model must keep the parameter {name!r}, which has been consolidated, got none")
                check_same_shape("model", name, anchor[name], now[name])
                terms.append((f * (now[name] - anchor[name]).square()).sum())
        return self.lambda_ewc / 2 * torch.stack(terms).sum()

    def ewc_loss(self, current_loss: Tensor) -> Tensor:
        """The loss to train the new task with; ``current_loss`` itself stays what it is.

        Args:
            current_loss: The loss of the new task, a scalar.

        Returns:
            ``current_loss`` plus :meth:`penalty`.

        Raises:
            TypeError: ``current_loss`` is not a tensor.
            ValueError: ``current_loss`` is not one number; or see :meth:`penalty`.
            RuntimeError: Nothing has been consolidated yet, or the penalty is not finite.
        """
        loss, penalty = check_loss(current_loss), self.penalty()
        if not bool(penalty.detach().isfinite()):
            raise RuntimeError(
                f"the penalty is {penalty.item()}: training has diverged. With lambda_ewc = {self.lambda_ewc:g}, "
                f"gradient descent needs a learning rate below {self.max_stable_lr:.3g} = 2 / (lambda * max F); lower "
                "the rate or lambda_ewc"
            )
        return loss + penalty

    @property
    def max_stable_lr(self) -> float:
        r"""The learning rate from which on plain gradient descent on the penalty alone diverges.

        It is :math:`2 / (\lambda \max_i \sum_t F_{t,i})`; infinity without a penalty.
        """
        stiffness: dict[str, Tensor] = {}
        for fisher, _ in self.tasks:
            for name, value in fisher.items():
                stiffness[name] = stiffness[name] + value if name in stiffness else value
        largest = self.lambda_ewc * max((float(value.max()) for value in stiffness.values()), default=0.0)
        return 2 / largest if largest else math.inf

    def check_stability(self, optimizer: Optimizer) -> float:
        """Warns if an ``SGD`` has a learning rate at which the penalty makes it diverge.

        Momentum and the curvature of the loss itself are left out, so the absence of a warning promises nothing.

        Args:
            optimizer: The new task's. Of other classes than ``SGD``, which scale their steps, nothing is asked.

        Returns:
            :attr:`max_stable_lr`.

        Raises:
            TypeError: ``optimizer`` is not one.
        """
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {optimizer!r}")
        limit = self.max_stable_lr
        lr = max(float(group["lr"]) for group in optimizer.param_groups)
        if isinstance(optimizer, SGD) and lr >= limit:
            warnings.warn(
                f"lr = {lr:g} makes SGD diverge: with lambda_ewc = {self.lambda_ewc:g} it must be below {limit:.3g} = "
                "2 / (lambda * max F); lower the rate or lambda_ewc",
                stacklevel=2,
            )
        return limit

    def state_dict(self) -> dict[str, Any]:
        """Everything that has been consolidated, and the strength; the model's weights are its own."""
        kept = [{"fisher": dict(task.fisher), "anchor": dict(task.anchor)} for task in self.tasks]
        return {"lambda_ewc": self.lambda_ewc, "online": self.online, "gamma": self.gamma, "tasks": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads what :meth:`state_dict` returned, for a model with the same parameters; an error changes nothing.

        Raises:
            TypeError: It is not such a dict.
            ValueError: A value is out of range, or does not fit the model.
        """
        wanted = {"lambda_ewc", "online", "gamma", "tasks"}
        if not isinstance(state, dict) or set(state) != wanted:
            got = sorted(state) if isinstance(state, dict) else repr(state)
            raise TypeError(f"state must be a dict with {sorted(wanted)}, got {got}")
        strength = check_range("lambda_ewc", state["lambda_ewc"], 0.0, math.inf, open_high=True)
        online, gamma = check_bool("online", state["online"]), check_range("gamma", state["gamma"], 0.0, 1.0)
        tasks, known = [], dict(self.model.named_parameters())
        for task in state["tasks"]:
            fisher = check_importance(task["fisher"], self.model)
            anchor = {name: task["anchor"][name].detach().clone().to(known[name]) for name in fisher}
            for name, value in anchor.items():
                check_same_shape("state", name, value, known[name])
            tasks.append(Consolidated({name: value.to(known[name]) for name, value in fisher.items()}, anchor))
        self.lambda_ewc, self.online, self.gamma, self.tasks = strength, online, gamma, tasks
