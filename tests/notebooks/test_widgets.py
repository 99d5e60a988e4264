"""Progress bars and other widgets, in executed notebooks: as they ended."""

from typing import Any

import pytest

from autoflow.notebooks.terminal import moves_cursor
from autoflow.notebooks.widgets import VIEW, Widgets
from tests.notebooks.running import Runner

CELLS = (
    "import time\nimport ipywidgets as w, tqdm, tqdm.auto\nfrom IPython.display import clear_output",
    "for _ in tqdm.auto.tqdm(range(50), desc='load & <b>'): pass",
    "for _ in tqdm.auto.tqdm(range(2)):\n    for _ in tqdm.auto.tqdm(range(3), leave=False): pass",
    """
for i in tqdm.tqdm(range(2)):
    for _ in tqdm.tqdm(range(2), leave=False): time.sleep(0.11)
    print("step", i)
""",
    """
slider = w.IntSlider(value=7, description="weeks:")
box = w.VBox([w.HTML("<b>bold</b> &amp; more"), w.Dropdown(options=["a", "b"], value="b", description="pick"),
              w.Checkbox(True, description="on"), w.HBox([w.Label("part"), w.IntProgress(value=3, max=6)]),
              w.Button(description="go")])
display(slider, box, w.IntRangeSlider(value=(1, 3)), w.Tab([w.Label("one"), w.Label("two")], titles=["A", "B"]))
""",
    "slider.value = 9",
    """
out = w.Output()
display(out)
with out:
    print("inside\\rINSIDE")
    display({"text/html": "<i>h</i>", "text/plain": "h"}, raw=True)
""",
    "handle = display('first', display_id=True)\nprint('10%\\r100%', end='')",
    "handle.update('second')\nfor i in range(3):\n    clear_output(wait=True)\n    print('round', i)",
    "for i in tqdm.auto.tqdm(range(5)):\n    if i == 3: raise ValueError('stop')",
)


def texts(outputs: list[Any]) -> list[str]:
    return [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]


def test_widgets_and_progress_bars_are_as_they_ended_even_if_the_notebook_fails(run: Runner) -> None:
    ran = run(*CELLS)
    assert ran.failure()[:2] == (10, "ValueError")
    cells = ran.notebook.cells
    ((bar,), (outer,), plain, widgets, _, captured, updated, rounds, failed) = (
        texts(cell.outputs) for cell in cells[1:]
    )

    assert bar.startswith("load & <b>: 100%|██████████| 50/50 [")
    assert outer.startswith("100%|██████████| 2/2 [")
    assert plain[0].startswith("100%|██████████| 2/2 [")
    assert (plain[0].count("\n"), plain[1:]) == (1, ["step 0\nstep 1\n"])
    assert widgets == [
        "weeks: 9",
        "bold & more\npick: b\non: yes\npart |█████     |",
        "1 - 3",
        "A:\none\nB:\ntwo",
    ]
    assert captured == ["INSIDE\nh"]
    assert updated == ["'second'", "100%"]
    assert rounds == ["round 2\n"]
    assert failed[0].startswith("60%|██████    | 3/5 [")
    assert not any(moves_cursor(text) for cell in cells for text in texts(cell.get("outputs", [])))

    kept = Widgets(ran.notebook.metadata)
    assert [kept.outputs_of(cells[n].outputs[0], with_progress=False) for n in (1, 2)] == [[], []]
    html, lines = kept.outputs_of(cells[4].outputs[1], with_progress=False) or [{}, {}]
    assert html["data"]["text/html"] == "<b>bold</b> &amp; more"
    assert lines["data"]["text/plain"] == "pick: b\non: yes"
    printed, italic = kept.outputs_of(cells[6].outputs[0]) or [{}, {}]
    assert (printed["text"], italic["data"]["text/html"]) == ("INSIDE\n", "<i>h</i>")


def test_bar_that_is_printed_for_hours_leaves_room_for_its_end(run: Runner) -> None:
    code = "for i in range(400_001): print(f'\\r{i:>100}', end='')"
    ran = run(code, "print('still room')", timeout=300)
    assert ran.error is None
    assert ran.printed(0).strip() == "400000"
    assert ran.printed(1) == "still room\n"


@pytest.mark.parametrize(
    "state",
    [
        {"children": ["IPY_MODEL_m"]},
        {"children": [None, {}, "IPY_MODEL_gone"]},
        {"value": {"year": "x"}, "layout": 3},
        {"_options_labels": ["a"], "index": 9},
        {"outputs": 3, "value": "x", "max": "many"},
        None,
    ],
)
@pytest.mark.parametrize("name", ["HBoxModel", "OutputModel", "IntProgressModel", "DropdownModel", "ImageModel", None])
def test_state_that_no_widget_has_is_passed_over(name: str | None, state: Any) -> None:
    view = {"data": {VIEW: {"model_id": "m"}, "text/plain": "before"}}
    models = {"m": {"model_name": name, "state": state}}
    widgets = Widgets({"widgets": {"application/vnd.jupyter.widget-state+json": {"state": models}}})
    widgets.settle([{"outputs": [view]}])
    assert isinstance(view["data"]["text/plain"], str)


@pytest.mark.parametrize(
    "metadata", [{}, {"widgets": 3}, {"widgets": {"application/vnd.jupyter.widget-state+json": 3}}]
)
def test_widget_without_a_state_is_unknown(metadata: Any) -> None:
    assert Widgets(metadata).outputs_of({"data": {VIEW: {"model_id": "m"}}}) is None
    assert Widgets(metadata).outputs_of({"output_type": "stream", "text": "x"}) is None
