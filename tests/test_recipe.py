"""Recipes: everything wrong with one is said at once, with file, line and the nearest right name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fake_lab import install
from ponder._recipe_yaml import parse_yaml
from ponder.core.errors import ConfigurationError, ResourceError
from ponder.recipe import Recipe, build_recipe, load_recipe, resolve_stage
from ponder.stages._stage import Stage


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)


def read(text: str | bytes, *sets: str) -> Recipe:
    path = Path("recipe.yaml")
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_recipe(path, sets)


def count(fields: str, *sets: str) -> Any:
    """The resolved stage of a recipe whose only stage has these fields (flow style)."""
    recipe = read(f"name: x\nstage:\n  count: {{use: lab.count, {fields}}}\n", *sets)
    return resolve_stage(recipe.stages[0], recipe)


def refused(text: str | bytes, *sets: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        recipe = read(text, *sets)
        for choice in recipe.stages:
            resolve_stage(choice, recipe)
    assert caught.value.exit_code == 2
    return caught.value


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = b"a: [1e-5, .5, 3, 010, 0x10, true, no, off, yes, ~, null, 2026-01-01, 1:20, .inf, '3', ]"
    content, _ = parse_yaml(text, "x")
    assert content["a"][:6] == [1e-5, 0.5, 3, 10, 16, True]
    assert content["a"][6:] == ["no", "off", "yes", None, None, "2026-01-01", "1:20", float("inf"), "3"]
    assert [type(value) for value in content["a"][:3]] == [float, float, int]


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        (b"", "empty", "recipe.yaml"),
        (b"# only a comment", "empty", "recipe.yaml"),
        (b"- name: x", "a list", "recipe.yaml"),
        (b"just text", "a single value", "recipe.yaml"),
        (b"name: a\nname: b", "appears twice", "recipe.yaml:2"),
        (b"name: a\nstage:\n\tcount: {}", "tab", "recipe.yaml:3"),
        (b"name: !!python/object/apply:os.system [ls]", "not allowed", "recipe.yaml:1"),
        (b"name: !mine x", "not allowed", "recipe.yaml:1"),
        (b"name: !!timestamp 2026-01-01", "not allowed", "recipe.yaml:1"),
        (b"name: x\n1: y", "not text", "recipe.yaml:2"),
        (b"name: [", "", "recipe.yaml:1"),
        (b"name: a\n---\nname: b", "document", "recipe.yaml:2"),
        (b"\xff\xfen\0", "UTF-8", "recipe.yaml"),
        (b"name: \0", "not YAML", "recipe.yaml"),
        (b"name: &a [*a]", "too deeply", "recipe.yaml"),
        (b"[" * 100_000, "too deeply", "recipe.yaml:1"),
        (b"x" * 1_000_001, "too large", "recipe.yaml"),
    ],
)
def test_files_that_are_no_recipe(text: bytes, what: str, where: str) -> None:
    error = refused(text)
    assert what in error.what and error.where == where


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "expands" in refused("\n".join(lines)).what


def test_byte_order_mark_aliases_and_merge_keys_are_fine() -> None:
    recipe = read(b"\xef\xbb\xbfname: x\nstage:\n  a: &a {use: lab.count, rows: 1}\n  b: {<<: *a, rows: 2}\n")
    assert [choice.fields for choice in recipe.stages] == [{"rows": 1}, {"rows": 2}]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.binary(max_size=60) | st.text(alphabet="abn:{}[]-&*!|>'\"#?%@,~ \n\t0.", max_size=40).map(str.encode))
@example(b"? a\n: b")
@example(b"name: x\nstage: {a: {use: [1]}}")
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    try:
        content, _ = parse_yaml(data, "x")
        build_recipe(content)
    except ConfigurationError:
        pass


@pytest.mark.parametrize(
    ("fields", "what", "fix"),
    [
        ("rwos: 3", "unknown key stage.count.rwos", "did you mean stage.count.rows?"),
        ("rate: 0.3", "unknown key stage.count.rate", "did you mean stage.count.inner.rate?"),
        ("inner: {rat: 0.3}", "unknown key stage.count.inner.rat", "did you mean stage.count.inner.rate?"),
        ("zzzzzz: 1", "unknown key stage.count.zzzzzz", "known keys: "),
        ("rows: -1", "stage.count.rows should be greater than or equal to 0, not -1", ""),
        ("rows: 1.5", "stage.count.rows should be a valid integer", ""),
        ("rows: true", "stage.count.rows should be a number, not true", ""),
        ("rows: '3'", 'stage.count.rows should be a number, not "3"', ""),
        ("rows: ~", "stage.count.rows should be a valid integer", ""),
        ("inner: {rate: .nan}", "stage.count.inner.rate should be a finite number", ""),
        ("inner: {rate: .inf}", "stage.count.inner.rate should be a finite number", ""),
        ("inner: {rate: 1.1}", "less than or equal to 1", ""),
        ("inner: 3", "stage.count.inner", ""),
        ("exact: no", 'stage.count.exact should be true or false, not "no"', ""),
        ("words: 3", "stage.count.words should be a valid", ""),
        ("api_key: abc", "looks like a secret", "environment"),
    ],
)
def test_wrong_settings_name_key_value_and_line(fields: str, what: str, fix: str) -> None:
    error = refused(f"name: x\nstage:\n  count: {{use: lab.count, {fields}}}\n")
    assert what in error.what and error.where == "recipe.yaml:3" and fix in error.fix


def test_all_mistakes_of_a_stage_are_listed_at_once() -> None:
    error = refused("name: x\nstage:\n  count:\n    use: lab.count\n    rows: -1\n    exakt: true\n")
    assert "rows" in error.what and "exakt" in error.what
    assert error.where == "recipe.yaml:5, recipe.yaml:6"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("stage: {a: {}}", "missing key name"),
        ("name: x", "missing key stage"),
        ("name: x\nstage: {}", "stage"),
        ("name: ../x\nstage: {a: {}}", "name"),
        ("name: 3\nstage: {a: {}}", "name should be a valid string, not 3"),
        ("name: x\nseed: -1\nstage: {a: {}}", "seed"),
        ("name: x\nseed: 1.5\nstage: {a: {}}", "seed"),
        ("name: x\nsed: 1\nstage: {a: {}}", "unknown key sed"),
        ("name: x\nstage: {a/b: {use: lab.count}}", "cannot name a stage"),
        ("name: x\nstage: {a: 3}", "stage.a"),
        ("name: x\nstage: {a: {use: 3}}", "`use`"),
        ("name: x\nstage: {genrate: {}}", "there is no stage 'genrate'"),
        ("name: x\nstage: {a: {use: lab}}", "there is no stage 'lab'"),
        ("name: x\nstage: {a: {use: lab.nothing}}", "there is no stage 'lab.nothing'"),
        ("name: x\nstage: {a: {use: os.path}}", "no line `plugin"),
    ],
)
def test_the_outer_form(text: str, what: str) -> None:
    assert what in refused(text).what


def test_a_stage_reads_only_earlier_stages() -> None:
    def recipe(first: str, second: str) -> str:
        return f"name: x\nstage:\n  one: {{use: lab.count, {first}}}\n  two: {{use: lab.count, {second}}}\n"

    read(recipe("", "source: one"))
    assert "the later stage 'two'" in refused(recipe("source: two", "")).what
    assert "reads itself" in refused(recipe("", "sources: {a: two}")).what
    error = refused(recipe("", "source: onee"))
    assert "there is no stage 'onee'" in error.what and "'one'" in error.fix and error.where == "recipe.yaml:4"


def test_overrides_win_and_are_named_in_errors() -> None:
    assert count("rows: 1", "stage.count.rows=7", "stage.count.inner.rate=2e-5").rows == 7
    assert count("", "stage.count.inner.rate=2e-5").inner.rate == 2e-5
    assert count("", "stage.count.words=[a, 'b=c']").words == ("a", "b=c")
    with pytest.raises(ConfigurationError) as caught:
        count("", "stage.count.rows=-3")
    assert caught.value.where == "--set stage.count.rows"


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("rows", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("stage..rows=3", "KEY=VALUE"),
        ("stage.cuont.rows=3", "there is no stage 'cuont'"),
        ("name.x=3", "no keys"),
        ("seeed=3", "unknown key seeed"),
        ("stage.count.rows=[", ""),
    ],
)
def test_wrong_overrides(override: str, what: str) -> None:
    assert what in refused("name: x\nstage: {count: {use: lab.count}}", override).what


def test_every_key_has_an_effect() -> None:
    base = count("")
    for change in (
        "rows: 9",
        "source: abc",
        "sources: {a: b}",
        "inner: {rate: 0.5}",
        "exact: true",
        "seed: 4",
    ):
        assert count(change) != base
    assert read("name: x\nseed: 4\nstage: {a: {}}").seed == 4


def test_every_key_of_every_shipped_stage_is_documented_and_read() -> None:
    from ponder.core.plugins import load_plugin, plugin_names

    for name in plugin_names("stages"):
        kind = load_plugin("stages", name)
        assert issubclass(kind, Stage) and kind.__doc__
        source = Path(__import__(kind.__module__, fromlist=["plugin"]).__file__ or "").read_text()
        for key in kind.model_fields:
            if key not in ("seed", *kind.inputs):  # those the runner reads
                assert f"self.{key}" in source, f"{name}.{key} is read by nothing"


def test_a_recipe_that_cannot_be_read() -> None:
    with pytest.raises(ResourceError):
        load_recipe(Path("absent.yaml"))
    with pytest.raises(ResourceError):
        load_recipe(Path("lab"))
