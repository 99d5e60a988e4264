import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from autoflow.system.lean_imports import hidden, module_alone, postponed

ROOT = Path(__file__).resolve().parents[2]


def answer_of(program: str) -> object:
    """Return what a new Python prints that runs `program`, which can use `json`, `sys` and the modules below."""
    command = [sys.executable, "-c", f"import json, sys\n{program}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder whose modules can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_daemon_does_without_the_large_libraries() -> None:
    large = "[name for name in ('numpy', 'pandas', 'pyarrow') if name in sys.modules]"
    assert answer_of(f"import autoflow.app, autoflow.service\nprint(json.dumps({large}))") == []


def test_flowclient_makes_data_frames_where_they_are_wanted() -> None:
    program = "import autoflow.flowapi, flowclient.client\nprint(json.dumps(flowclient.client.pd.DataFrame([1]).size))"
    assert answer_of(program) == 1


def test_hidden_module_is_missing_in_the_block_alone(beside: Path) -> None:
    (beside / "large_one.py").write_text("value = 1")
    with hidden("large_one"), pytest.raises(ImportError):
        import_module("large_one")
    large_one = import_module("large_one")
    assert large_one.value == 1
    with hidden("large_one"):
        assert import_module("large_one") is large_one, "who has it already keeps it"


def test_postponed_module_is_imported_when_it_is_used(beside: Path) -> None:
    (beside / "slow_one.py").write_text("class Frame: pass")
    (beside / "its_user.py").write_text("import slow_one\ndef make() -> slow_one.Frame:\n    return slow_one.Frame()\n")
    with postponed("slow_one", annotations=["Frame"]):
        its_user = import_module("its_user")
    assert "slow_one" not in sys.modules
    made = its_user.make()
    assert type(made) is import_module("slow_one").Frame


def test_file_of_a_package_is_used_without_the_package() -> None:
    program = """
from autoflow.system.lean_imports import module_alone
ansi = module_alone("nbconvert", "filters/ansi.py")
print(json.dumps([ansi.ansi2html("\\x1b[31mred\\x1b[0m"), "nbconvert" in sys.modules]))
"""
    assert answer_of(program) == ['<span class="ansi-red-fg">red</span>', False]
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        module_alone("no_such_package", "any.py")
