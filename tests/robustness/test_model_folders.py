"""Model folders whose files were damaged or are somebody's trick: one clear ValueError, or a model as it should be."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkd.interventions.execution import fingerprint
from circuitkd.models.loading import load, load_shape
from damage import as_json, damaged, read_or_refuse, reshaped
from tiny_models import tiny_hf, tiny_tokenizer

FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "good"
    tiny_hf("gpt2", n_layer=1, n_embd=8, n_head=2).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def prints(good):
    return fingerprint(load(str(good)))


@settings(max_examples=25)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(good, prints, data):
    folder = shutil.copytree(good, good.parent / "damaged", dirs_exist_ok=True)
    name = data.draw(st.sampled_from(FILES))
    path, content = folder / name, (good / name).read_bytes()
    changed = damaged(content[:3000]).map(lambda head: head + content[3000:])
    if name.endswith(".json"):
        changed |= reshaped(json.loads(content)).map(as_json)
    found = read_or_refuse(lambda p: load(str(p.parent), check=False), path, data.draw(changed))
    if found is not None:
        assert all(torch.isfinite(p).all() for p in found.hf.parameters())
        assert name != "tokenizer.json" or fingerprint(found) == prints
    path.write_bytes(content)


@settings(max_examples=25)
@given(data=st.data())
def test_a_config_of_odd_values_is_read_or_refused(good, data):
    folder = shutil.copytree(good, good.parent / "odd", dirs_exist_ok=True)
    content = as_json(data.draw(reshaped(json.loads((good / "config.json").read_bytes()))))
    read_or_refuse(lambda p: load_shape(str(p.parent)), folder / "config.json", content)


@pytest.mark.parametrize("name", ["../good/model.safetensors", "/etc/passwd", "a/../../x", "."])
def test_shards_outside_the_folder_are_refused(good, tmp_path, name):
    folder = shutil.copytree(good, tmp_path / "sharded")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ValueError, match="is not a file of this folder; get the model again"):
        load(str(folder))


@pytest.mark.parametrize("index", ["[", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "[" * 9999])
def test_an_index_of_shards_that_is_none_is_refused(good, tmp_path, index):
    folder = shutil.copytree(good, tmp_path / "sharded")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match="not a readable index .*; get it again"):
        load(str(folder))


@pytest.mark.parametrize("change", [{"add_cross_attention": True}, {"activation_function": None}, {"n_head": 3}])
def test_a_refused_config_is_told_with_its_folder(good, tmp_path, change):
    folder = shutil.copytree(good, tmp_path / "this one")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match="this one: "):
        load(str(folder))
