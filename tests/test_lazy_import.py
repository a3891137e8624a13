"""Promise 7: `import kdet` is lazy, and `kdet --help` imports no torch."""

import subprocess
import sys

import pytest

from patience import PATIENCE_S

HEAVY = ("torchvision.models", "transformers", "matplotlib", "pandas", "accelerate", "tensorboard", "faster_coco_eval")


def imported_by(code: str) -> set[str]:
    """Names in sys.modules after the code ran in a process of its own."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    return set(found.stderr.split())


def test_import_kdet_alone_imports_nothing_heavy_and_no_torch() -> None:
    modules = imported_by("import kdet; kdet.__version__; dir(kdet)")
    assert "torch" not in modules
    assert not modules & set(HEAVY)


def test_a_loss_in_somebodys_loop_needs_torch_and_nothing_heavier() -> None:
    code = """
import kdet, torch
a, b = torch.rand(1, 2, 16, 16), torch.rand(1, 2, 16, 16)
one, levels = kdet.losses.structural_loss(a, b), kdet.losses.structural_loss([a, a], [b, b])
assert torch.isfinite(one) and torch.isclose(levels, 2 * one)
"""
    modules = imported_by(code)
    assert "torch" in modules
    assert not modules & {*HEAVY, "torchvision"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["distill", "--help"],
        ["data", "--help"],
        ["data", "shapes", "--help"],
        *(["list", what] for what in ("methods", "detectors", "formats")),
    ],
)
def test_help_and_lists_import_no_torch(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["kdet", *{arguments!r}]
from kdet.cli.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    modules = imported_by(code)
    assert not modules & {"torch", "torchvision", "numpy", "PIL", *HEAVY}


def test_every_public_name_resolves_and_others_do_not() -> None:
    import kdet

    for name in kdet.__all__:
        assert getattr(kdet, name) is not None
    assert set(kdet.__all__) <= set(dir(kdet))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kdet.nothing
