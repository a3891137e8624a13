"""Recipes that are no recipe: bytes, YAML and its tricks. Text → words of the message."""

import yaml
from hostile_cases import Words

from fakes import tiny_recipe

GOOD = yaml.safe_dump(tiny_recipe(), sort_keys=False)
_LAUGHS = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
_MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{'<<': [{', '.join([f'*a{i - 1}'] * 9)}]}}\n".replace("'<<'", "<<") for i in range(1, 12)
)


def with_seed(value: str) -> str:
    """A good recipe whose seed is this text."""
    return GOOD + f"  seed: {value}\n"


def with_options(value: str) -> str:
    """A good recipe whose student has these options."""
    return GOOD.replace("student:\n", f"student:\n  options: {value}\n")


TEXTS: dict[str, tuple[str | bytes, Words]] = {
    # no YAML, or not that of a recipe
    "empty file": ("", "expected keys such as data, student, train"),
    "only a comment": ("# a recipe\n", "expected keys"),
    "only spaces": ("   \n\n", "expected keys"),
    "a word": ("hello\n", "expected keys"),
    "a number": ("42\n", "expected keys"),
    "a list": ("- data\n- student\n", "expected keys"),
    "JSON list": ("[1, 2]", "expected keys"),
    "empty mapping": ("{}\n", "data: needed, and not given"),
    "two documents": (GOOD + "---\n" + GOOD, "r.yaml:"),
    "tab as indent": ("data:\n\tformat: shapes\n", "r.yaml:2"),
    "bracket left open": ("data: [1, 2\n", "r.yaml:"),
    "brace left open": ("data: {format: shapes\n", "r.yaml:"),
    "quote left open": ('data: {format: "shapes}\n', "r.yaml:"),
    "colon too many": ("data: format: shapes\n", "r.yaml:1"),
    "wrong indent": ("data:\n  format: shapes\n images: 8\n", "r.yaml:3"),
    "cut in the middle": (GOOD[: len(GOOD) // 2] + "\n  back", "r.yaml:"),
    "NUL byte": (GOOD.encode() + b"\0", "r.yaml"),
    "control character": (GOOD + "\x07", "r.yaml"),
    "Latin-1": ("# Größe\n".encode("latin-1") + GOOD.encode(), "r.yaml"),
    "UTF-16": (GOOD.encode("utf-16"), "r.yaml"),
    "UTF-32": (GOOD.encode("utf-32"), "r.yaml"),
    "a PNG": (b"\x89PNG\r\n\x1a\n" + bytes(64), "r.yaml"),
    "a zip": (b"PK\x03\x04" + bytes(64), "r.yaml"),
    "a pickle": (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.", "r.yaml"),
    "a page of the web": ("<!DOCTYPE html>\n<html><body>404: Not Found</body></html>\n", "r.yaml"),
    "a directive": ("%YAML 9.9\n---\ndata: 1\n", "r.yaml"),
    "percent": ("data: %5\n", "r.yaml:1"),
    "at sign": ("data: @home\n", "r.yaml:1"),
    "backtick": ("data: `date`\n", "r.yaml:1"),
    "larger than any recipe": ("# " + "x" * 3_000_000 + "\n" + GOOD, "larger than"),
    # keys
    "key twice": (GOOD + "train: {epochs: 1}\n", "'train' stands twice"),
    "inner key twice": (GOOD + "  lr: 0.1\n", "'lr' stands twice"),
    "list as key": ("? [data, train]\n: 1\n", "r.yaml:1"),
    "mapping as key": ("? {data: 1}\n: 1\n", "r.yaml:1"),
    "number as key": ("1: 2\n" + GOOD, ""),
    "null as key": ("~: 2\n" + GOOD, ""),
    "date as key": ("2026-01-01: 2\n" + GOOD, ""),
    "empty key": ("'': 2\n" + GOOD, ""),
    "very long key": ("k" * 900 + ": 1\n" + GOOD, "unknown key"),
    "key with a line break": ('"da\\nta": 1\n' + GOOD, "unknown key"),
    "key that clears the screen": ('"\\e[2Jdata": 1\n' + GOOD, "unknown key"),
    "dunder key": ("__class__: 1\n" + GOOD, "unknown key '__class__'"),
    # tags that build objects
    "python object": (with_seed('!!python/object/apply:os.system ["touch x"]'), "r.yaml:"),
    "python object new": (with_seed("!!python/object/new:os._wrap_close [1]"), "r.yaml:"),
    "python name": (with_seed("!!python/name:os.system"), "r.yaml:"),
    "python module": (with_seed("!!python/module:os"), "r.yaml:"),
    "python tuple": (with_seed("!!python/tuple [1, 2]"), "r.yaml:"),
    "local tag": (with_seed("!include /etc/passwd"), "r.yaml:"),
    "environment tag": (with_seed("!ENV ${HOME}"), "r.yaml:"),
    "tag of nobody": (with_seed("!<tag:example.org,2026:x> 1"), "r.yaml:"),
    "handle of nobody": (with_seed("!e!x 1"), "r.yaml:"),
    # tags and words that PyYAML itself stumbles over
    "word as integer": (with_seed("!!int many"), "r.yaml"),
    "word as float": (with_seed("!!float many"), "r.yaml"),
    "word as truth": (with_seed("!!bool maybe"), "r.yaml"),
    "word as date": (with_seed("!!timestamp soon"), "r.yaml"),
    "word as binary": (with_seed("!!binary ä"), "r.yaml"),
    "list as integer": (with_seed("!!int [1]"), "r.yaml"),
    "list as mapping": (with_seed("!!map [1]"), "r.yaml"),
    "omap of words": (with_seed("!!omap [a, b]"), "r.yaml"),
    "the 99th of a month": (with_seed("2001-13-99"), "r.yaml"),
    "hexadecimal without digits": (with_seed("0x_"), "r.yaml"),
    "binary without digits": (with_seed("0b_"), "r.yaml"),
    "5,000 digits": (with_seed("9" * 5000), "r.yaml"),
    "5,000 digits in base 60": (with_seed("1" + ":59" * 3000), "r.yaml"),
    # aliases, anchors, nesting
    "alias of nothing": (with_seed("*nothing"), "r.yaml:"),
    "anchor twice": (with_seed("&a 1\n  epochs: &a 2"), "r.yaml:"),
    "billion laughs": (_LAUGHS + GOOD, "aliases multiply"),
    "billion laughs as an option": (_LAUGHS + GOOD.replace("student:\n", "student:\n  options: {a: *a11}\n"), "r.yaml"),
    "billion merges": (_MERGES + GOOD, "aliases multiply"),
    "list inside itself": (with_options("&a {x: [*a]}"), "stands inside itself"),
    "merge with itself": ("a: &a\n  <<: *a\n" + GOOD, "r.yaml"),
    "merge with a number": ("<<: 1\n" + GOOD, "r.yaml"),
    "100 lists deep": (with_options("{x: " + "[" * 100 + "]" * 100 + "}"), "nested far too deep"),
    "10,000 lists deep": ("[" * 10_000 + "]" * 10_000, "nested far too deep"),
    "50,000 lists left open": ("[" * 50_000, "nested far too deep"),
    "10,000 mappings deep": ("{a: " * 10_000 + "}" * 10_000, "nested far too deep"),
    "1,200 indents": ("".join(" " * i + "a:\n" for i in range(1200)), "nested far too deep"),
}
