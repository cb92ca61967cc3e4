import pickle
from hashlib import sha256

import pytest
from pydantic import ValidationError
from small_work import small_plan

from seewhy.errors import InputError, StoreError
from seewhy.store import Item, Plan


def test_the_digest_is_that_of_the_file_which_says_the_plan():
    plan = small_plan()
    assert plan.digest == sha256(plan.to_json()).hexdigest()
    assert plan.name == plan.digest[:16]
    assert Plan.from_json(plan.to_json()) == plan == pickle.loads(pickle.dumps(plan))
    assert hash(Plan.from_json(plan.to_json())) == hash(plan)


def test_the_digest_is_the_same_in_any_version():
    plan = Plan(
        kind="k", items=[Item("ü", "0" * 64, 3, "l")], columns={"x": "float64"}, settings={"a": [1.5, None]}
    )
    assert plan.name == "a35e1bde684a8b80"  # another one means that no earlier work would be found again


def test_the_order_in_which_things_are_said_changes_nothing():
    plan = small_plan(settings={"a": 1, "b": (2, 3)})
    turned = small_plan(
        items=plan.items[::-1], settings={"b": [2, 3], "a": 1}, columns=dict(reversed(plan.columns.items()))
    )
    assert turned == plan
    assert turned.digest == plan.digest
    assert [item.id for item in turned.items] == sorted(item.id for item in plan.items)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "other"},
        {"items": small_plan().items[1:]},
        {"items": [small_plan().items[0]._replace(sha256="f" * 64), *small_plan().items[1:]]},
        {"items": [small_plan().items[0]._replace(label="else"), *small_plan().items[1:]]},
        {"columns": {"mean": "float32"}},
        {"settings": {"method": "none", "steps": 1}},
        {"network": "a" * 64},
        {"environment": {"torch": "2.6"}},
        {"shard_size": 5},
        {"chunk_size": 2},
    ],
)
def test_whatever_may_change_results_changes_the_digest(change):
    assert small_plan(**change).digest != small_plan().digest


def test_shards_and_chunks_cover_every_item_once_in_order():
    plan = small_plan()
    assert plan.shards == 6
    assert [len(plan.shard(number)) for number in range(6)] == [4, 4, 4, 4, 4, 2]
    assert [[len(chunk) for chunk in plan.chunks(number)] for number in (0, 5)] == [[3, 1], [2]]
    assert [item for number in range(6) for chunk in plan.chunks(number) for item in chunk] == list(
        plan.items
    )
    for number in (-1, 6):
        with pytest.raises(InputError, match=f"no shard {number}; the plan has 6"):
            plan.shard(number)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": [Item("twice", "0" * 64), Item("twice", "1" * 64)]}, "two items are called 'twice'"),
        ({"items": [Item("a", "no digest")]}, "(?s)items.0.*pattern"),
        ({"items": [Item("\udcff", "0" * 64)]}, r"'\\udcff' of None is no text"),
        ({"columns": {"id": "string"}}, "a column 'id' of its own"),
        ({"columns": {"x": "complex"}}, "(?s)columns.x.*float64"),
        ({"settings": {"x": float("nan")}}, "settings are JSON values"),
        ({"settings": {"x": "\udcff"}}, "settings are JSON values"),
        ({"settings": {"x": object()}}, "settings are JSON values.*object"),
        ({"shard_size": 0}, "shard_size"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_with_what_is_wrong(change, message):
    with pytest.raises(ValidationError, match=message):
        small_plan(**change)


def test_a_plan_is_frozen_and_its_settings_are_a_copy():
    settings = {"layers": ["a"]}
    plan = small_plan(settings=settings)
    settings["layers"].append("b")
    assert plan.settings == {"layers": ["a"]}
    with pytest.raises(ValidationError, match="frozen"):
        plan.kind = "other"


def test_a_plan_of_another_version_is_said_to_be_one():
    with pytest.raises(StoreError, match=r"(?s)not a plan as this version writes it.*format"):
        Plan.from_json(small_plan().to_json().replace(b'"format":1', b'"format":2'))


def test_a_file_becomes_an_item(tmp_path):
    path = tmp_path / "dog.jpg"
    path.write_bytes(b"woof")
    assert Item.of_file(path, "dog") == (path.as_posix(), sha256(b"woof").hexdigest(), 4, "dog")
    with pytest.raises(InputError, match=r"cat\.jpg cannot be read: No such file"):
        Item.of_file(tmp_path / "cat.jpg")
