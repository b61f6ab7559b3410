"""`ponder export`: what passed the gate lies ready to be shipped, and each planted fault of a real file is named."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from ponder.backends.teachers import teacher_of
from ponder.cli import app
from ponder.core.errors import ResourceError
from ponder.core.protocols import Sampler
from ponder.core.types import Problem, Sampling, Trace
from ponder.engines.gguf import GgufSampler
from ponder.engines.local import LocalSampler
from ponder.exporters import gguf as exporting
from ponder.learn.rollout import judge
from ponder.measure.release import Bounds, Release
from ponder.models.gguf_header import read_header
from ponder.models.load import load_model, resolve_model
from ponder.stages._release import speed
from ponder.stages._release.behaviour import Answered
from ponder.stages._release.candidates import Candidate
from ponder.stages._release.gate import Trained, judge_artefact, judged_by, opening_finding, stored_findings
from ponder.stages._release.likeness import special_names
from ponder.stages._release.texts import texts_for
from ponder.stages._tasks import draw_problems, open_tasks, verifiers_of

pytest.importorskip("xllamacpp")
gguf = pytest.importorskip("gguf")

QUICK = ("--limit", "6", "--set", "texts=400", "--set", "tokens=150", "--set", "bounds.problems=30",
         "--set", "bounds.accuracy_loss=0.5", "--set", "max_new_tokens=200", "--set", "weighed_by=16")  # fmt: skip
"""Few problems: these tests are about the gate's working, not about a model."""


def _export(out: Path, *more: str, model: str = "pocket-teacher") -> Result:
    return CliRunner().invoke(app, ["export", model, "--out", str(out), *QUICK, *more])


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("released")
    done = _export(out, "--to", "gguf:q8_0,q4_k_m")
    assert done.exit_code == 0, done.output
    return out / "export"


class TestWhatPassed:
    def test_it_lies_ready_with_its_card_and_record(self, released: Path) -> None:
        names = {path.name for path in (released / "release").iterdir()}
        assert names >= {
            "pocket-teacher-q8_0.gguf", "pocket-teacher-q4_k_m.gguf", "README.md", "release.json",
            "Modelfile-pocket-teacher-q8_0", "lmstudio",
        }  # fmt: skip
        assert not (released / "refused").exists()

    def test_the_record_says_what_was_asked_and_found(self, released: Path) -> None:
        record = Release.model_validate_json((released / "release" / "release.json").read_bytes())
        assert record.passed and [one.form for one in record.artefacts] == ["gguf:q8_0", "gguf:q4_k_m"]
        assert record.model.n == 36 and record.asked["problems"] == 36 and record.code["digest"]
        for one in record.artefacts:
            assert one.speed["tokens_per_second"] > 0 and one.speed["memory_bytes"] > 0
            assert {finding.name for finding in one.findings} >= {
                "weights", "tokenizer", "template", "bos", "divergence", "accuracy", "end_of_turn", "thinking",
                "thinking_length", "loops",
            }  # fmt: skip
        eight, four = (one.fact("divergence", "mean_nats") for one in record.artefacts)
        assert eight is not None and four is not None and eight < four < 0.1

    def test_the_card_says_what_each_form_lost(self, released: Path) -> None:
        card = (released / "release" / "README.md").read_text()
        head = yaml.safe_load(card.split("---")[1])
        assert head["license"] == "apache-2.0" and "## Forms" in card and "q4\\_k\\_m.gguf" in card

    def test_the_report_shows_the_forms_side_by_side(self, released: Path) -> None:
        done = CliRunner().invoke(app, ["report", str(released.parent)])
        assert done.exit_code == 0, done.output
        page = (released.parent / "report" / "report.html").read_text()
        assert "Release gate" in page and "gguf:q4_k_m" in page and "trained" in page

    def test_again_is_nothing_to_do(self, released: Path) -> None:
        done = _export(released.parent, "--to", "gguf:q8_0,q4_k_m")
        assert done.exit_code == 0 and "done before" in done.output


def test_a_broken_bound_is_exit_code_1_with_the_reason_and_the_worst_answers(tmp_path: Path) -> None:
    done = _export(tmp_path, "--to", "gguf:q2_k", "--set", "bounds.divergence=0.00001")
    assert done.exit_code == 1
    assert "gguf:q2_k refused: divergence" in done.output and "did not pass the release gate" in done.output
    stage = tmp_path / "export"
    assert (stage / "refused" / "pocket-teacher-q2_k.gguf").is_file() and not (stage / "release").exists()
    assert not Release.model_validate_json((stage / "refused" / "release.json").read_bytes()).passed
    assert not (stage / "summary.json").exists()
    assert json.loads((stage / "worst-gguf-q2_k.json").read_text())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--to", "gguf:q9"), "no form"),
        (("--to", "onyx"), "no exporter"),
        (("--to", "gguf:q8_0", "--set", "bounds.nats=1"), "bounds"),
        (("--data", "x.jsonl"), "--task"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_made(
    tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    done = _export(tmp_path / "out", *more)
    assert done.exit_code == 2 and words in done.output and not (tmp_path / "out" / "export" / "release").exists()


def _damage_block(path: Path, header: Any) -> None:
    tensor = header.tensors["blk.1.ffn_gate.weight"]
    data = bytearray(path.read_bytes())
    at = tensor.offset + 34 * 40
    data[at : at + 34] = struct.pack("<e", 9.0) + bytes(range(32))
    path.write_bytes(data)


def _zero_block(path: Path, header: Any) -> None:
    tensor = header.tensors["blk.0.attn_q.weight"]
    data = bytearray(path.read_bytes())
    data[tensor.offset : tensor.offset + 34 * 8] = bytes(34 * 8)
    path.write_bytes(data)


def _not_a_number(path: Path, header: Any) -> None:
    tensor = header.tensors["blk.0.attn_norm.weight"]
    data = bytearray(path.read_bytes())
    data[tensor.offset : tensor.offset + 4] = struct.pack("<f", float("nan"))
    path.write_bytes(data)


def _rewritten(path: Path, **keys: Any) -> None:
    """The same file with other values under some keys; a value of None leaves the key out."""
    reader = gguf.GGUFReader(path)
    fresh = path.with_suffix(".new")
    writer = gguf.GGUFWriter(fresh, "qwen3")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = keys.get(name, field.contents())
        if value is not None:
            kind = field.types[0]
            writer.add_key_value(name, value, kind, field.types[-1] if kind is gguf.GGUFValueType.ARRAY else None)
    for name, (value, kind) in keys.get("added", {}).items():
        writer.add_key_value(name, value, kind)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    fresh.replace(path)


def _swap_rotation(path: Path, header: Any) -> None:
    _rewritten(path, **{"qwen3.rope.freq_base": 500.0})


def _lose_end(path: Path, header: Any) -> None:
    _rewritten(path, **{"tokenizer.ggml.eos_token_id": 5, "tokenizer.ggml.eot_token_id": None})


def _double_bos(path: Path, header: Any) -> None:
    bos = header.metadata["tokenizer.ggml.tokens"].index("<|im_start|>")
    added = {"tokenizer.ggml.bos_token_id": (bos - 1, gguf.GGUFValueType.UINT32)}
    _rewritten(path, **{"tokenizer.ggml.add_bos_token": True, "added": added})


def _wrong_template(path: Path, header: Any) -> None:
    bare = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    _rewritten(path, **{"tokenizer.chat_template": bare})


def _thinking_off(path: Path, header: Any) -> None:
    template = header.metadata["tokenizer.chat_template"].rstrip()
    assert template.endswith("{%- endif -%}")
    shut = template.removesuffix("{%- endif -%}") + "{{- '<think>\\n\\n</think>\\n\\n' -}}\n{%- endif -%}"
    _rewritten(path, **{"tokenizer.chat_template": shut})


def _other_splitting(path: Path, header: Any) -> None:
    _rewritten(path, **{"tokenizer.ggml.pre": "gpt-2"})


FAULTS = {
    "weights (a block)": (_damage_block, {"weights", "divergence"}),
    "weights (zeros)": (_zero_block, {"weights"}),
    "weights (not a number)": (_not_a_number, {"weights", "loading"}),
    "rotation": (_swap_rotation, {"rotation", "divergence"}),
    "end_of_turn": (_lose_end, {"end_of_turn"}),
    "bos": (_double_bos, {"bos"}),
    "template": (_wrong_template, {"template"}),
    "thinking": (_thinking_off, {"thinking"}),
    "tokenizer": (_other_splitting, {"tokenizer"}),
}


@pytest.fixture(scope="module")
def trained() -> Trained:
    loaded = load_model("pocket-teacher")
    problems = draw_problems(open_tasks(["skills"]), "test", 18, 0)
    texts = texts_for(400, 0, special_names(loaded.chat))
    bounds = Bounds(problems=10, accuracy_loss=0.9)
    return Trained(
        folder=loaded.path,
        chat=loaded.chat,
        teacher=teacher_of(loaded),
        answered=Answered.of(_answers(LocalSampler(loaded.model, loaded.chat), problems)),
        texts=tuple(texts),
        bounds=bounds,
        tokens=60,
    )


def _answers(sampler: Sampler, problems: list[Problem]) -> list[Trace]:
    verifiers = verifiers_of(open_tasks(["skills"]))
    sampling = Sampling(temperature=0.0, max_new_tokens=160)
    groups = sampler.generate([problem.messages for problem in problems], 1, sampling)
    return [judge(p, one, verifiers[p.task], {}, "m") for p, (one,) in zip(problems, groups, strict=True)]


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_a_planted_fault_is_caught_by_its_name(tmp_path: Path, trained: Trained, fault: str | None) -> None:
    exporter = exporting.Gguf(form="q8_0")
    path = exporter(trained.folder, tmp_path)
    plant, names = FAULTS[fault] if fault else (lambda path, header: None, set())
    plant(path, read_header(path))
    candidate = Candidate(form="gguf:q8_0", path=path.name)
    if (failed := opening_finding(path)) is not None:
        found = judged_by([failed, *stored_findings(trained.folder, path, exporter)], candidate, path, {})
    else:
        sampler = GgufSampler(path)
        answers = _answers(sampler, [trace.problem for trace in trained.answered.traces])
        sampler.close()
        found, _ = judge_artefact(trained, candidate, path, exporter, answers, {})
    broken = {finding.name for finding in found.broken}
    assert broken >= names if fault else not broken, [finding.text for finding in found.findings]


def test_an_adapter_that_was_left_out_is_caught_without_running_anything(tmp_path: Path) -> None:
    adapted = _other_weights(tmp_path / "trained")
    exporter = exporting.Gguf(form="q4_k_m")
    path = exporter(resolve_model("pocket-teacher"), tmp_path)  # the base, and not what was trained on it
    findings = stored_findings(adapted, path, exporter)
    assert {finding.name for finding in findings} == {"weights"} and "q" in findings[0].text
    assert exporter.differences(adapted, exporter(adapted, tmp_path / "right")) == []


def _other_weights(folder: Path) -> Path:
    """A model whose projections were moved a little, as an adapter moves them."""
    shutil.copytree(resolve_model("pocket-teacher"), folder)
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name, tensor in weights.items():
        if "q_proj" in name:
            noise = torch.randn(tensor.shape, generator=generator) * tensor.float().std() * 0.3
            weights[name] = (tensor.float() + noise).to(tensor.dtype)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_gate_that_cannot_measure_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = exporting.Gguf()(resolve_model("pocket-teacher"), tmp_path)
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    with pytest.raises(ResourceError, match="speed could not be measured"):
        speed.measured_speed(str(path), ["What is 3 + 4?"], 1)
