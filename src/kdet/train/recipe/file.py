"""Recipes as YAML: read with line numbers, overridden with `-o key=value`, every mistake in one clear line."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kdet.data.shapes.generator import Shapes
from kdet.errors import InputError
from kdet.files import MOST_YAML_BYTES, is_file, parse_yaml, read_text
from kdet.train.recipe.data import FileData, ShapesData
from kdet.train.recipe.models import TAGS, BuiltTeacher, FoundationTeacher, RunTeacher, StudentRecipe
from kdet.train.recipe.schema import Recipe, TrainRecipe

_SECTIONS: dict[str, tuple[type[BaseModel], ...]] = {
    "": (Recipe,),
    "data": (FileData, ShapesData),
    "student": (StudentRecipe,),
    "teacher": (RunTeacher, BuiltTeacher, FoundationTeacher),
    "train": (TrainRecipe,),
}

_TAGS = ("coco", "voc", "yolo", "csv", "shapes", *TAGS)
"""Parts of an error's place that stand in no file."""
_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")


_NAMES = ("classes", "class_map")
"""Keys whose lists and mappings are of class names."""
_BOOL = "tag:yaml.org,2002:bool"


class _RecipeLoader(yaml.SafeLoader):
    """Safe loading that refuses a key given twice, where PyYAML keeps the last in silence, and leaves words alone.

    In YAML 1.1, which PyYAML reads, `on`, `off`, `yes`, `no` are truth values; `on: regions` would have the key true.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        letter: [(tag, pattern) for tag, pattern in known if tag != _BOOL]
        for letter, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Check the keys, then construct the mapping as the parent does."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="expected a word as a key", problem_mark=key_node.start_mark)
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key_node.value!r} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key_node.value)
        for key_node, value_node in node.value:
            if key_node.value in _NAMES and isinstance(value_node, yaml.CollectionNode):
                _as_text(value_node)
        return super().construct_mapping(node, deep)


def _as_text(node: yaml.Node) -> None:
    """Names are the characters that stand there: `012`, `1e3`, `12:30` and `null` are no numbers, times or nothing."""
    if isinstance(node, yaml.ScalarNode) and node.style is None and node.tag.startswith("tag:yaml.org,2002:"):
        node.tag = "tag:yaml.org,2002:str"
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _as_text(item)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _as_text(key)
            _as_text(value)


_RecipeLoader.add_implicit_resolver(_BOOL, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: a YAML file.
        overrides: `train.lr=0.01` or `distill.0.weight=2`, values in YAML.

    Raises:
        InputError: what is wrong, in which line, and the nearest right word.
    """
    text = read_text(path, MOST_YAML_BYTES) if is_file(path) else None
    if text is None:
        raise InputError(f"{path}: no such recipe; name a YAML file such as those in recipes/")
    content = parse_yaml(text, str(path), _RecipeLoader)
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys such as data, student, train; got {type(content).__name__}")
    for override in overrides:
        _apply(content, override)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise InputError(_explain(path, root, _first(error))) from None


def shapes_from(overrides: Sequence[str]) -> Shapes:
    """Return the generator's parameters from `key=value` alone, checked as in a recipe.

    Raises:
        InputError: an unknown key or a value out of range.
    """
    content: dict[str, Any] = {"format": "shapes"}
    for override in overrides:
        _apply(content, override)
    try:
        return ShapesData.model_validate(content).shapes()
    except ValidationError as error:
        raise InputError(
            _explain(Path("-o"), None, {**_first(error), "loc": ("data", *_first(error)["loc"])})
        ) from None


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe with every default spelt out."""
    content = recipe.model_dump(mode="json")
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def nearest(word: str, known: Sequence[str]) -> str:
    """`; did you mean …?` where something is near, else the list."""
    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _apply(content: dict[str, Any], override: str) -> None:
    """Put one `key=value` into the nested dictionaries and lists."""
    key, equals, text = override.partition("=")
    if not equals:
        raise InputError(f"-o {override}: expected key=value, such as train.lr=0.01")
    *path, last = key.strip().split(".")
    target: Any = content
    # As if it stood under its key, for under some keys words are text.
    value = parse_yaml(text, f"-o {override}", _RecipeLoader)
    if last in _NAMES and isinstance(value, list | dict):
        value = parse_yaml(f"{last}: {text}", f"-o {override}", _RecipeLoader)[last]
    try:
        for part in path:
            target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
        if isinstance(target, list):
            target[int(last)] = value
        else:
            target[last] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        raise InputError(
            f"-o {override}: there is no such place in the recipe; name a key of it, such as train.lr=0.01"
        ) from None


def _first(error: ValidationError) -> ErrorDetails:
    """The error to tell: an unknown key before the missing one that it was meant to be."""
    errors = error.errors()
    return next((e for e in errors if e["type"] in _UNKNOWN_KEY), errors[0])


def _explain(path: Path, root: yaml.Node | None, error: ErrorDetails) -> str:
    """One line: file, line, key, what is wrong."""
    *above, last = error["loc"] or ("",)
    unknown = error["type"] in _UNKNOWN_KEY  # then the last part is the user's own, even if it is called like a tag
    location = [part for part in above if part not in _TAGS] + ([last] if unknown or last not in ("", *_TAGS) else [])
    key = ".".join(str(part) for part in location)
    line = _line_of(root, location)
    where = f"{path}:{line}" if line else str(path)
    if unknown:
        return f"{where}: unknown key {key!r}; {nearest(str(location[-1]), _known_keys(location))}"
    message = "needed, and not given" if error["type"] == "missing" else error["msg"].removeprefix("Value error, ")
    return f"{where}: {key}: {message}" if key else f"{where}: {message}"


def _known_keys(location: list[Any]) -> list[str]:
    """The keys that the mapping around a location may hold."""
    section = str(location[0]) if len(location) > 1 else ""
    if len(location) > 2 and location[1] == "augment":
        annotation = FileData.model_fields["augment"].annotation
        return list(getattr(annotation, "__dataclass_fields__", {}))
    models = _SECTIONS.get(section, ())
    return sorted({name for model in models for name in model.model_fields})


def _line_of(root: yaml.Node | None, location: list[Any]) -> int | None:
    """Line of the deepest part of a location that the file holds."""
    node, line = root, None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(part)]
            if not found:
                break
            key_node, node = found[0]
            line = key_node.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
