"""Which values of JSON a default or an annotation accepts."""

import pytest

from autoflow.notebooks.parameters import declarations
from autoflow.specs import Json


def is_accepted(cell: str, value: Json) -> bool:
    """Return whether the last declaration in a cell accepts a value."""
    *_, (*_, declaration) = declarations(cell).values()
    return declaration.accepts(value)


ANYTHING: tuple[Json, ...] = (None, True, 1, 0.5, "a", [1], {"a": 1})


@pytest.mark.parametrize(
    ("cell", "accepted", "refused"),
    [
        ("x = 0.5", [0.5, 1, -1], ["0,5", "0.5", True, None, [0.5]]),
        ("x = -0.5", [0.5, 1], ["a"]),
        ("x = 20", [1, 10**40], [0.5, 20.0, "20", True, None]),
        ("x = 24 * 60", [1], [0.5, "1"]),
        ("x = 1 / 2", [1, 0.5], ["1"]),
        ("x = True", [True, False], [1, 0, "true", None]),
        ("x = 1 > 0", [True], [1]),
        ("x = 'a'", ["a", "2016-01-01"], [1, ["a"], None]),
        ("x = f'{1}'", ["a"], [1]),
        ("x = 'a' + 'b'", ["a"], [1]),
        ("x = []", [[], [1, "a"]], ["a", {"a": 1}, 1]),
        ("x = ('a', 'b')", [["a"]], ["a", 1]),
        ("x = {1, 2}", [[1]], [1]),
        ("x = [n for n in range(3)]", [[1]], [1]),
        ("x = tuple(range(3))", [[1]], [1]),
        ("x = {}", [{}, {"a": 1}], [[], "a"]),
        ("x = dict(a=1)", [{}], [[]]),
        ("x = None", ANYTHING, []),
        ("x = ...", ANYTHING, []),
        ("x = datetime.date(2016, 1, 1)", ANYTHING, []),
        ("x = DEFAULT", ANYTHING, []),
        ("x, y = 1, 'a'", ["a"], [1]),
        ("*y, x = f()", ANYTHING, []),
        ("x = None  # type: float the threshold", [0.5, 1], ["0,5"]),
        ("x = None  # type: ignore", ANYTHING, []),
        ("x: int | None = 3", [1, None], [0.5, "1", True]),
        ("x: Optional[float] = 0.5", [1, 0.5, None], ["0,5"]),
        ("x: typing.Optional[typing.List[str]] = None", [None, ["a"]], ["a", [1]]),
        ("x: 'int | None' = 3", [1, None], ["1"]),
        ("x: 'int |' = 3", ANYTHING, []),
        ("x: Union[int, str]", [1, "a"], [0.5, None]),
        ("x: list[str] = ()", [[], ["a"]], [["a", 1], "a"]),
        ("x: Sequence[float]", [[1, 0.5]], [["a"]]),
        ("x: tuple[str, int]", [["a", 1]], [["a"], [1, "a"]]),
        ("x: tuple[int, ...] = ()", [[], [1, 2]], [["a"]]),
        ("x: tuple[()]", [[]], [[1]]),
        ("x: list[tuple[str, str]]", [[["2016-01-01", "2016-01-02"]]], [["2016-01-01"]]),
        ("x: dict[str, int] = {}", [{"a": 1}], [{"a": "b"}, []]),
        ("x: dict[int, int]", [{}], [{"1": 1}]),
        ("x: Literal['a', 1]", ["a", 1], ["b", True]),
        ("x: Literal[Unit.ADMIN]", ANYTHING, []),
        ("x: Annotated[int, 'people'] = 3", [1], ["1"]),
        ("x: Final[int] = 3", [1], ["1"]),
        ("x: datetime.date", ["2016-01-01"], []),
        ("x: int = None", [1, None], ["1"]),
        ("x: np.ndarray = None", ANYTHING, []),
        ("x: Region = 'north'", ANYTHING, []),
        ("x: some[strange][thing]", ANYTHING, []),
        ("x: {'not': 'a type'}", ANYTHING, []),
    ],
)
def test_type_accepts_what_it_says_and_refuses_the_rest(cell: str, accepted: list[Json], refused: list[Json]) -> None:
    assert [value for value in accepted if not is_accepted(cell, value)] == []
    assert [value for value in refused if is_accepted(cell, value)] == []
