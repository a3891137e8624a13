"""The temperature that logits are divided by before a softmax or sigmoid."""


def check_temperature(temperature: float) -> None:
    """Raises ValueError unless it is above 0."""
    if temperature <= 0:
        raise ValueError(f"expected a temperature above 0, got {temperature}")
