"""Momentum SGD on connections: a gradient is kept for connections alone."""

import math
from dataclasses import dataclass

from trencadis_train.sparse.loops import kernels
from trencadis_train.sparse.network import CsrNetwork

__all__ = ["Momentum"]


@dataclass(frozen=True, kw_only=True)
class Momentum:
    """SGD with momentum: `m = momentum m - rate g; w = w + m - decay w`.

    The decay is one per step and is not multiplied with the rate, as in the published code; biases
    do not decay.
    """

    momentum: float = 0.9
    decay: float = 0.0
    clip: float = 0.0
    """Largest Euclidean norm of the gradient of all weights and biases; 0: any."""

    def step(self, network: CsrNetwork, rate: float) -> float:
        """Change the weights by the gradients that the layers hold.

        Returns
        -------
        float
            Factor of gradients: 1 unless they were clipped.
        """
        scale = self._scale(network) if self.clip else 1.0
        for layer in network.layers:
            kernels.apply_momentum(
                layer.weights,
                layer.momenta,
                layer.gradients,
                rate,
                self.momentum,
                self.decay,
                scale,
            )
            kernels.apply_momentum(
                layer.bias,
                layer.bias_momenta,
                layer.bias_gradients,
                rate,
                self.momentum,
                0.0,
                scale,
            )
        return scale

    def _scale(self, network: CsrNetwork) -> float:
        total = sum(
            kernels.squared_norm(layer.gradients) + kernels.squared_norm(layer.bias_gradients)
            for layer in network.layers
        )
        norm = math.sqrt(total)
        return 1.0 if norm <= self.clip else self.clip / norm
