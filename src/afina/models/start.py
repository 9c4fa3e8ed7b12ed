"""A start for a new BERT that will see little text: what a trained one is known to look like, instead of noise.

Attention begins local (like positions and like words attend to one another) and passes on what it sees, as mimetic
initialisation has it (Trockman & Kolter 2023); positions begin as sinusoids (Vaswani et al. 2017).
"""

import torch
from torch import Tensor, nn

BASE = 100.0  # of the wavelengths: short ones tell neighbours apart, which is what is learnt first
SHARPNESS = 2.0  # of the first attention; 1 is that of noise as long as BERT's


def mimetic(model: nn.Module) -> None:
    """Lay the start over a fresh `BertForPreTraining`, in place."""
    with torch.no_grad():
        positions = model.get_parameter("bert.embeddings.position_embeddings.weight")
        words = model.get_parameter("bert.embeddings.word_embeddings.weight")
        waves = sinusoids(*positions.shape)
        positions.copy_(waves / waves.norm(dim=1, keepdim=True) * words.norm(dim=1).median())
        for layer in model.get_submodule("bert.encoder.layer").children():
            attention = layer.get_submodule("attention")
            query, key = (attention.get_parameter(f"self.{name}.weight") for name in ("query", "key"))
            query.mul_(SHARPNESS)
            key.copy_(query)
            value, out = (
                attention.get_parameter("self.value.weight"),
                attention.get_parameter("output.dense.weight"),
            )
            nn.init.orthogonal_(value, gain=0.7)
            out.copy_(value.T)
        nn.init.eye_(model.get_parameter("cls.predictions.transform.dense.weight"))


def sinusoids(length: int, width: int) -> Tensor:
    """Return sines and cosines [length, width] of geometric wavelengths."""
    rates = BASE ** -(torch.arange(0, width, 2) / width)
    angles = torch.arange(length)[:, None] * rates[None]
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
