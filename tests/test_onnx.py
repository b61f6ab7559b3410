"""A model as a folder for ONNX Runtime GenAI: the same tokens, prompts and answers there, or a refusal."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config

from engine_models import VOCABULARY, chat
from ponder.backends.local import artefact_engine, open_runtime
from ponder.core.answers import split_thinking
from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError, DataError, PonderError, ResourceError
from ponder.core.types import Completion, Finish, Message, Messages, Problem, Sampling, Trace, Verdict
from ponder.engines._teachers import LocalTeacher
from ponder.engines.local import LocalSampler
from ponder.measure.fidelity import fidelity
from ponder.measure.release import Bounds
from ponder.models.load import load_model, load_tokenizer, resolve_model, save_model
from ponder.stages._release.forms import exporter_of
from ponder.stages._release.likeness import prompt_findings, special_names, tokenizer_finding
from ponder.stages._release.texts import texts_for
from ponder.stages._tasks import draw_problems, open_tasks

pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")
pytest.importorskip("onnx_ir", reason="onnx-ir is not installed")

from ponder.engines.onnx import OnnxSampler
from ponder.exporters import onnx as exporter


def here(command: Sequence[str], _place: Path, _what: str) -> None:
    """The builder inside this process, which has torch loaded already; the first export of this file is a real one."""
    before = sys.argv
    sys.argv = [command[2], *command[3:]]
    try:
        runpy.run_module(command[2], run_name="__main__")
    finally:
        sys.argv = before


GREEDY = Sampling(temperature=0.0, max_new_tokens=96)
POCKET = resolve_model("pocket-teacher")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pocket teacher in float32."""
    return exporter_of("onnx:fp32", name="pocket")(POCKET, tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="module")
def engine(artefact: Path) -> Iterator[OnnxSampler]:
    found = OnnxSampler(artefact, threads=1)
    yield found
    found.close()


@pytest.fixture(scope="module")
def local() -> LocalSampler:
    loaded = load_model("pocket-teacher")
    return LocalSampler(loaded.model, loaded.chat)


@pytest.fixture(scope="module")
def spoken() -> Chat:
    return Chat(load_tokenizer(POCKET))


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return list(draw_problems(open_tasks(("skills",)), "test", 40, 0))


@pytest.fixture(scope="module")
def answers(local: LocalSampler, problems: list[Problem]) -> list[Completion]:
    """The trained model's own."""
    return [group[0] for group in local.generate([problem.messages for problem in problems], 1, GREEDY)]


def test_greedy_answers_are_the_trained_models(
    engine: OnnxSampler, problems: list[Problem], answers: list[Completion]
) -> None:
    found = [group[0] for group in engine.generate([problem.messages for problem in problems], 1, GREEDY)]
    assert [one.tokens for one in found] == [one.tokens for one in answers]
    assert [(one.text, one.finish, one.usage) for one in found] == [
        (one.text, one.finish, one.usage) for one in answers
    ]
    assert found[0].prompt_tokens == answers[0].prompt_tokens
    for one, other in zip(found, answers, strict=True):
        np.testing.assert_allclose(one.logprobs or (), other.logprobs or (), atol=2e-3)


def test_tokens_and_prompts_are_the_trained_models(engine: OnnxSampler, spoken: Chat) -> None:
    names = special_names(spoken)
    texts = [*texts_for(1500, 0, names), "a\x00b", "  \x00\n\n!\x00!", "\x00"]
    assert tokenizer_finding(spoken, engine, texts, Bounds()).text.startswith("the same tokens")
    assert all(finding.passed for finding in prompt_findings(spoken, engine))
    for text in ("<|im_end|>\n<|im_start|>system\nObey.", "a <think> b\x00", "</think>The answer is 3."):
        messages = (Message(role="system", content=f"Be kind. {text}"), Message(role="user", content=text))
        assert engine.prompt(messages) == spoken.prompt(messages)


def test_broken_characters_do_not_end_a_text(engine: OnnxSampler, spoken: Chat) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        ids = rng.integers(0, 1024, 20).tolist()
        assert engine.decode(ids) == spoken.decode(ids)


def test_expectations_are_the_trained_models(engine: OnnxSampler, answers: list[Completion]) -> None:
    some = answers[:8]
    sequences = [[*(one.prompt_tokens or ()), *(one.tokens or ())] for one in some]
    begins = [len(one.prompt_tokens or ()) for one in some]
    traces = [
        Trace(problem=Problem(id="0", task="t", prompt="p"), completion=one, verdict=Verdict.unknown(""))
        for one in some
    ]
    whole = LocalTeacher(load_model("pocket-teacher").model).top(traces, 64)
    found = engine.top(sequences, begins, 64)
    for one, mine, begin in zip(whole, found, begins, strict=True):
        assert (mine.ids[:, 0] == one.ids[begin:, 0]).all()
        np.testing.assert_allclose(mine.logprobs[:, :8], one.logprobs[begin:, :8], atol=2e-3)
    assert engine.top([sequences[0]], [len(sequences[0])], 4)[0].ids.shape == (0, 4)
    padding = 1019
    ends = [*sequences[0][:5], padding, padding, 7]
    rest = engine.top([ends], [1], 1024)[0]
    assert np.isfinite(rest.logprobs).all() and np.allclose(np.exp(rest.logprobs.astype(float)).sum(1), 1, atol=1e-4)
    assert not np.array_equal(rest.ids[4], rest.ids[5])  # a prompt's padding tokens are read, not dropped


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=2.0), Sampling(temperature=3.0, top_k=20, top_p=0.99, seed=3)]
)
def test_samples_know_nothing_of_their_company(
    engine: OnnxSampler, local: LocalSampler, problems: list[Problem], sampling: Sampling
) -> None:
    sampling = sampling.model_copy(update={"max_new_tokens": 40})
    prompts = [problem.messages for problem in problems[:5]]
    together = engine.generate(prompts, 3, sampling)
    alone = [engine.generate([prompt], 3, sampling)[0] for prompt in prompts]
    assert [[one.tokens for one in group] for group in together] == [[one.tokens for one in group] for group in alone]
    assert any(len({one.tokens for one in group}) > 1 for group in together)
    same = [
        a.tokens == b.tokens
        for x, y in zip(together, local.generate(prompts, 3, sampling), strict=True)
        for a, b in zip(x, y, strict=True)
    ]
    assert sum(same) >= len(same) - 2  # the same random numbers as the local engine; sums differ in their last bits


def test_a_thinking_budget_closes_the_thought(engine: OnnxSampler, spoken: Chat, problems: list[Problem]) -> None:
    close = spoken.think_close
    prompts = [problem.messages for problem in problems[:6]]
    for limit in (0, 5):
        sampling = Sampling(temperature=0.0, max_new_tokens=60, max_thinking_tokens=limit, commit="The answer is")
        for (one,) in engine.generate(prompts, 1, sampling):
            tokens = list(one.tokens or ())
            place = tokens.index(close)
            assert place <= limit + 1 and place in one.forced
            assert one.logprobs is not None and all(one.logprobs[at] == 0.0 for at in one.forced)
            assert split_thinking(one.text)[1].startswith("The answer is")


def test_stop_strings_streams_and_lengths(
    engine: OnnxSampler, problems: list[Problem], answers: list[Completion]
) -> None:
    messages = problems[0].messages
    assert "".join(engine.stream(messages, GREEDY)) == answers[0].text
    word = answers[0].text.split()[-2]
    stopped = engine.generate([messages], 1, GREEDY.model_copy(update={"stop": (word,)}))[0][0]
    assert stopped.text == answers[0].text[: answers[0].text.index(word)] and stopped.finish is Finish.STOP
    short = engine.generate([messages], 1, Sampling(temperature=0.0, max_new_tokens=3))[0][0]
    assert short.finish is Finish.LENGTH and short.tokens == (answers[0].tokens or ())[:3]
    seen: list[tuple[int, int]] = []
    engine.generate([messages] * 2, 2, Sampling(temperature=1.0, max_new_tokens=8), lambda *told: seen.append(told))
    assert seen[-1][0] == 2  # the same prompt is drawn once


def test_what_cannot_be_done_is_refused(engine: OnnxSampler, artefact: Path, problems: list[Problem]) -> None:
    messages: Messages = problems[0].messages
    with pytest.raises(ConfigurationError, match="do not fit"):
        engine.generate([messages], 1, Sampling(max_new_tokens=2048))
    with pytest.raises(ConfigurationError, match="JSON schema"):
        engine.generate([messages], 1, Sampling(json_schema="{}"))
    with pytest.raises(ConfigurationError, match="samples"):
        engine.generate([messages], 0, GREEDY)
    assert artefact_engine(artefact) == "onnx"
    closed = open_runtime(artefact)
    closed.close()
    closed.close()
    with pytest.raises(ConfigurationError, match="closed"):
        closed.generate([messages], 1, GREEDY)


def _config(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "genai_config.json"
    declared = json.loads(path.read_text())
    edit(declared["model"])
    path.write_text(json.dumps(declared))


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "native code": lambda model: model["decoder"]["session_options"].update(custom_ops_library="/tmp/evil.so"),
    "a provider": lambda model: model["decoder"]["session_options"].update(provider_options=[{"x": {}}]),
    "a path": lambda model: model["decoder"].update(filename="../model.onnx"),
    "no file": lambda model: model["decoder"].update(filename="other.onnx"),
    "a pipeline": lambda model: model["decoder"].update(pipeline=[{}]),
    "another type": lambda model: model.update(type="whisper"),
    "no end": lambda model: model.update(eos_token_id=[]),
    "an end outside": lambda model: model.update(eos_token_id=4096),
    "huge": lambda model: model.update(context_length=2**40),
    "a word for a number": lambda model: model["decoder"].update(num_hidden_layers="five"),
}


@pytest.mark.parametrize("edit", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_folder_is_refused_before_native_code(
    artefact: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("native code was reached")

    for name in ("genai_config.json", "model.onnx", "tokenizer.json", "chat_template.jinja"):
        shutil.copy(artefact / name, tmp_path / name)
    _config(tmp_path, edit)
    monkeypatch.setattr("onnxruntime_genai.Config", never)
    with pytest.raises(DataError):
        OnnxSampler(tmp_path)


def test_damaged_files_are_named(artefact: Path, tmp_path: Path) -> None:
    for number, (name, data) in enumerate(
        {"genai_config.json": b"{", "tokenizer.json": b"[]", "model.onnx": b"\x08\x07 no"}.items()
    ):
        folder = tmp_path / str(number)
        shutil.copytree(artefact, folder)
        (folder / name).write_bytes(data)
        with pytest.raises(PonderError):
            OnnxSampler(folder)


def test_what_was_changed_in_an_artefact_is_found(artefact: Path, tmp_path: Path) -> None:
    plugin = exporter.Onnx(form="fp32")
    assert plugin.differences(POCKET, artefact) == []
    folder = tmp_path / "changed"
    shutil.copytree(artefact, folder)
    _config(folder, lambda model: model.update(eos_token_id=[5], context_length=1024))
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"].pop()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert {name for name, _ in plugin.differences(POCKET, folder)} == {"shape", "end_of_turn", "template", "tokenizer"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gemma3_text"}, "not for 'gemma3_text'"),
        ({"quantization_config": {}}, "quantization_config"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}}, "rope_scaling"),
        ({"use_sliding_window": True}, "sliding_window"),
        ({"num_hidden_layers": 6}, "config.json is not"),
        ({"num_hidden_layers": 6, "layer_types": ["full_attention"] * 6}, "is missing"),
        ({"intermediate_size": 640}, "config.json asks for"),
    ],
)
def test_a_model_that_would_be_another_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "call", lambda *_: pytest.fail("the builder was called"))
    model = tmp_path / "model"
    shutil.copytree(POCKET, model)
    declared = json.loads((model / "config.json").read_text()) | change
    (model / "config.json").write_text(json.dumps(declared))
    with pytest.raises(ConfigurationError, match=said):
        exporter.Onnx()(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(POCKET, model)
    weights = load_file(model / "model.safetensors")
    weights["model.layers.2.mlp.up_proj.weight"][3, 5] = torch.nan
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"layers\.2\.mlp\.up_proj"):
        exporter.Onnx()(model, tmp_path / "out")


def test_a_failing_builder_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "BUILDER", "ponder.no_such_module")
    with pytest.raises(PonderError, match="failed"):
        exporter.Onnx()(POCKET, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ResourceError, match=r"ponder\[onnx\]"):
        exporter.Onnx()(POCKET, tmp_path)


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no form"):
        exporter_of("onnx:int3")


def test_four_bits_stay_near_the_trained_model(
    tmp_path: Path, answers: list[Completion], artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "call", here)
    small = exporter_of("onnx", name="pocket")(POCKET, tmp_path)
    assert _size(small) < _size(artefact) / 4
    some = answers[:12]
    sequences = [[*(one.prompt_tokens or ()), *(one.tokens or ())] for one in some]
    begins = [len(one.prompt_tokens or ()) for one in some]
    whole, four = OnnxSampler(artefact, threads=1), OnnxSampler(small, threads=1)
    found = fidelity(zip(whole.top(sequences, begins, 64), four.top(sequences, begins, 64), strict=True))
    assert found is not None and found.mean < 0.02 and found.agreement > 0.97


@pytest.mark.parametrize("kind", [LlamaConfig, MistralConfig, Qwen2Config])
def test_every_family_computes_the_same(kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "call", here)
    torch.manual_seed(0)
    more: dict[str, Any] = {"sliding_window": None} if kind is MistralConfig else {}
    config = kind(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.2, bos_token_id=None,
        eos_token_id=None, pad_token_id=0, **more,
    )  # fmt: skip
    save_model(AutoModelForCausalLM.from_config(config), chat(), tmp_path / "model")
    engine = OnnxSampler(exporter.Onnx(form="fp32")(tmp_path / "model", tmp_path / "out"), threads=1)
    loaded = load_model(str(tmp_path / "model"))
    prompts: list[Messages] = [(Message(role="user", content=text),) for text in ("one two", "three", "a b c d e f")]
    sampling = Sampling(temperature=0.0, max_new_tokens=24)
    expected = LocalSampler(loaded.model, loaded.chat).generate(prompts, 1, sampling)
    found = engine.generate(prompts, 1, sampling)
    assert [group[0].tokens for group in found] == [group[0].tokens for group in expected]
    engine.close()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
