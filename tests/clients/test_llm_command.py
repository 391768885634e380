"""llm, the command line: models named in its extra-openai-models.yaml."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MODELS = """\
- model_id: local
  model_name: smollm2
  api_base: {v1}
  supports_tools: true
  supports_schema: true
- model_id: absent
  model_name: nothing
  api_base: {v1}
"""


@pytest.fixture(scope="module")
def llm(server, tmp_path_factory):
    home = tmp_path_factory.mktemp("llm")
    (home / "extra-openai-models.yaml").write_text(MODELS.format(v1=server.v1))
    environ = {"LLM_USER_PATH": str(home), "PATH": "/usr/bin:/bin", "OPENAI_API_KEY": "none", "HOME": str(home)}

    def run(*words):
        command = [str(Path(sys.executable).with_name("llm")), *words]
        return subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=server.timeout_s, stdin=subprocess.DEVNULL
        )

    return run


NOW = 'def now() -> str:\n    "The time now"\n    return "noon"'
CALM = ("-o", "temperature", "0", "-o", "max_tokens", "60")


def test_a_prompt_answers_streamed_and_not(llm):
    streamed = llm("-m", "local", *CALM, "Say hello.")
    whole = llm("-m", "local", *CALM, "--no-stream", "Say hello.")
    assert streamed.returncode == 0, streamed.stderr
    assert streamed.stdout.strip()
    assert streamed.stdout == whole.stdout


def test_an_answer_keeps_to_a_schema(llm):
    made = llm("-m", "local", *CALM, "--schema", "name, age int", "A cat called Tom, 3 years old.")
    assert made.returncode == 0, made.stderr
    assert {"name", "age"} <= set(json.loads(made.stdout))


def test_a_tool_may_be_offered(llm):
    made = llm("-m", "local", *CALM, "--functions", NOW, "Hello.")
    assert made.returncode == 0, made.stderr


def test_an_unknown_model_is_said(llm):
    made = llm("-m", "absent", "hi")
    assert made.returncode != 0
    assert "nothing" in made.stderr
