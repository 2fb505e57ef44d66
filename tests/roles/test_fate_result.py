import pytest

from circuitkd.components import Component
from circuitkd.roles.fate_result import KINDS, Fate, Fates, Side


def side(name, *, influential=True, roles=()):
    return Side(Component.parse(name), 0.5, influential, 20.0, (10.0, 30.0), roles, roles)


FATES = Fates(
    "t", "s", "ioi", 30,
    (
        Fate("preserved", side("L0H0", roles=("mover", "successor")), side("L1H0"), 0.9, 0.5, (), "a"),
        Fate("merged", side("L0H1"), side("L1H1"), 0.8, 0.4, (Component.parse("L0H2"),), "b"),
        Fate("preserved", side("MLP0", influential=False), side("MLP1"), 0.7, 0.3, (), "c"),
    ),
    rules="r", summary="s",
)  # fmt: skip


def test_counts_by_kind():
    assert FATES.counts() == dict.fromkeys(KINDS, 0) | {"preserved": 2, "merged": 1}
    assert FATES.counts(influential=True) == dict.fromkeys(KINDS, 0) | {"preserved": 1, "merged": 1}


def test_one_component_is_found_by_name():
    assert FATES.of("L0H1").reason == "b"
    assert FATES.of(Component("mlp", 0)).reason == "c"
    with pytest.raises(ValueError, match="t has no L9H9: see the `fates`, one for each head and MLP"):
        FATES.of("L9H9")


def test_the_table_has_a_row_for_each():
    table = FATES.to_pandas().set_index("teacher")
    assert table["fate"].tolist() == ["preserved", "merged", "preserved"]
    assert table.loc["L0H0", "teacher_roles"] == "mover, successor"
    assert table.loc["L0H1", "others"] == "L0H2"
    assert table.loc["MLP0", "student"] == "MLP1"
