"""lm-evaluation-harness asks the server as it asks any other: its `local-chat-completions`, on a task of four lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from serving import NAME, serving

TASK = """
task: four_sums
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 12, temperature: 0}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed")
def test_the_harness_gets_its_answers(tmp_path: Path) -> None:
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps({"question": f"{i} + 2?", "answer": str(i + 2)}) + "\n" for i in range(4)))
    (tmp_path / "four_sums.yaml").write_text(TASK % data)
    with serving() as served:
        url = f"http://127.0.0.1:{served.port}/v1/chat/completions"
        arguments = f"model={NAME},base_url={url},num_concurrent=2,max_retries=1,tokenizer_backend=None"
        command = [sys.executable, "-m", "lm_eval", "run", "--model", "local-chat-completions"]
        command += ["--model_args", arguments, "--tasks", "four_sums", "--include_path", str(tmp_path)]
        command += ["--apply_chat_template", "--log_samples", "--output_path", str(tmp_path / "out")]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OPENAI_API_KEY": "none"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]
        samples = [json.loads(line) for file in tmp_path.rglob("samples_*.jsonl") for line in file.open()]
        assert len(samples) == 4
        for sample in samples:
            own = served.ask(sample["doc"]["question"], temperature=0, max_tokens=12, stop=["\n\n"], seed=1234)
            assert sample["resps"][0][0] == own.json["choices"][0]["message"]["content"]
