"""Loading from folders, and every refusal on the way."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging as hf_logging

from circuitkd.models import files, load, loading, wrap
from circuitkd.models.blocks import full_logits
from tiny_models import SPECS, padded_batch, tiny, tiny_hf


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved tiny GPT-2."""
    path = tmp_path_factory.mktemp("saved") / "gpt2"
    save(tiny("gpt2"), path)
    return path


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it to damage."""
    return shutil.copytree(saved, tmp_path / "gpt2")


def save(model, path):
    model.hf.save_pretrained(path)
    model.tokenizer.save_pretrained(path)


def change_weights(folder, function):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    function(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("name", SPECS)
def test_round_trip(name, tmp_path):
    model = tiny(name)
    save(model, tmp_path)
    loaded = load(str(tmp_path))
    assert loaded.architecture == model.architecture
    assert not loaded.hf.training
    assert loaded.hf.config._attn_implementation == "sdpa"
    assert all(parameter.requires_grad for parameter in loaded.hf.parameters())
    batch = padded_batch(model)
    assert torch.equal(full_logits(loaded, *batch), full_logits(model, *batch))
    text = "Mary gave the ball to John, 3 4 [MASK]."
    assert loaded.tokenizer(text)["input_ids"] == model.tokenizer(text)["input_ids"]


def test_a_half_precision_file_is_loaded_as_float32(tmp_path):
    model = tiny("llama", torch.float16)
    save(model, tmp_path)
    loaded = load(str(tmp_path))
    assert {parameter.dtype for parameter in loaded.hf.parameters()} == {torch.float32}
    weight = load_file(tmp_path / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    assert weight.dtype == torch.float16
    assert torch.equal(loaded.hf.model.layers[0].mlp.up_proj.weight, weight.float())


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float64])
def test_dtype_can_be_chosen(saved, dtype):
    assert str(load(str(saved), dtype=dtype).dtype).endswith(str(dtype).removeprefix("torch."))


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), {"": "cpu"}])
def test_device_or_device_map(saved, device):
    assert load(str(saved), device=device).device.type == "cpu"


def test_name_of_a_bundled_model(saved, monkeypatch):
    monkeypatch.setattr(files, "zoo_folder", lambda: saved.parent)
    assert load("zoo:gpt2").name == "zoo:gpt2"


def test_nothing_is_printed_and_the_log_level_is_put_back(folder, capsys):
    hf_logging.set_verbosity_info()
    hf_logging.enable_progress_bar()
    change_weights(folder, lambda tensors: tensors.update(extra=torch.zeros(2)))
    try:
        load(str(folder))
        assert hf_logging.get_verbosity() == hf_logging.INFO
        assert hf_logging.is_progress_bar_enabled()
    finally:
        hf_logging.set_verbosity_warning()
    assert capsys.readouterr().out == ""


def test_missing_tensors_are_named(folder):
    change_weights(folder, lambda tensors: tensors.pop("transformer.h.1.mlp.c_fc.weight"))
    message = r"lacks 1 tensors that GPT2LMHeadModel needs \(transformer.h.1.mlp.c_fc.weight\); .*random"
    with pytest.raises(ValueError, match=message):
        load(str(folder))


def test_many_missing_tensors_are_summed_up(folder):
    change_weights(folder, lambda tensors: [tensors.pop(key) for key in list(tensors) if ".h.1." in key])
    with pytest.raises(ValueError, match=r"lacks 12 tensors .* and 7 more\)"):
        load(str(folder))


def test_a_checkpoint_without_its_language_model_head_is_refused(tmp_path):
    hf = transformers.BertForSequenceClassification(tiny_hf("bert").config)
    hf.save_pretrained(tmp_path)
    tiny("bert").tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="that BertForMaskedLM needs .*cls.predictions.*language-model head"):
        load(str(tmp_path))


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_weights_that_are_not_numbers_are_named(folder, value):
    def spoil(tensors):
        tensors["transformer.h.0.ln_1.bias"][3] = float(value)

    change_weights(folder, spoil)
    for check in (True, False):
        with pytest.raises(ValueError, match="NaN or infinite weights in transformer.h.0.ln_1.bias; "):
            load(str(folder), check=check)


def test_tensors_of_another_shape(folder):
    change_weights(folder, lambda tensors: tensors.update({"transformer.ln_f.weight": torch.ones(7)}))
    with pytest.raises(ValueError, match="can't load this folder: .*Save it again with save_pretrained"):
        load(str(folder))


def test_truncated_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        load(str(folder))


def test_pickled_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="only pytorch_model.bin and no safetensors"):
        load(str(folder))


def test_damaged_config(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="can't load this folder: .*config"):
        load(str(folder))


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def test_unknown_model_type(folder):
    change_config(folder, model_type="gpt9")
    with pytest.raises(ValueError, match="can't read its config .*gpt9.*supported classes are GPT2LMHeadModel"):
        load(str(folder))


def test_unknown_class(folder):
    change_config(folder, model_type="opt", architectures=["OPTForCausalLM"])
    with pytest.raises(ValueError, match="OPTForCausalLM is not supported; supported are"):
        load(str(folder))


def test_class_is_chosen_by_model_type_if_the_config_names_none():
    config = AutoConfig.for_model("qwen3")
    assert loading.model_class(config) is transformers.Qwen3ForCausalLM
    config.architectures = ["Qwen3Model"]
    assert loading.model_class(config) is transformers.Qwen3ForCausalLM
    with pytest.raises(ValueError, match="model type 'opt' is not supported"):
        loading.model_class(AutoConfig.for_model("opt"))


def test_quantised_checkpoint(folder):
    change_config(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    with pytest.raises(ValueError, match=r"the checkpoint is quantised; load an unquantised one .*dequantize\(\)"):
        load(str(folder))


def test_damaged_tokenizer(folder):
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match="its tokenizer can't be read .*tokenizer.save_pretrained"):
        load(str(folder))


def test_tokenizer_that_hugging_face_does_not_find(folder, monkeypatch):
    def fail(*args, **options):
        raise OSError("no tokenizer there")

    (folder / "tokenizer_config.json").unlink()
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(ValueError, match="can't load this folder: no tokenizer there"):
        load(str(folder))


def test_hub_that_can_not_be_reached():
    with pytest.raises(ValueError, match="no local folder of that name, and loading it from the hub failed"):
        load("someone/no-such-model")


def test_out_of_memory_is_not_a_damaged_folder(folder, monkeypatch):
    def fail(*args, **options):
        raise torch.OutOfMemoryError("too large")

    monkeypatch.setattr(transformers.GPT2LMHeadModel, "from_pretrained", fail)
    with pytest.raises(torch.OutOfMemoryError, match="too large"):
        load(str(folder))


def test_what_hugging_face_is_asked_for(folder, monkeypatch):
    """Safetensors alone, no code from the folder, no network for a local folder."""
    asked = {}
    original = transformers.GPT2LMHeadModel.from_pretrained

    def spy(source, **options):
        asked.update(options)
        return original(source, **options)

    monkeypatch.setattr(transformers.GPT2LMHeadModel, "from_pretrained", spy)
    load(str(folder), device={"": "cpu"})
    assert asked["use_safetensors"] is True
    assert asked["attn_implementation"] == "sdpa"
    assert asked["trust_remote_code"] is False
    assert asked["local_files_only"] is True
    assert asked["device_map"] == {"": "cpu"}


def test_unknown_dtype(saved):
    with pytest.raises(ValueError, match="unknown dtype 'int8': use one of float64, float32"):
        load(str(saved), dtype="int8")


@pytest.mark.parametrize("device", ["cuda:99", "no-such-device"])
def test_device_that_is_not_there(saved, device):
    with pytest.raises(ValueError, match=f"device '{device}' can't be used here .*use device='cpu'"):
        load(str(saved), device=device)


def test_wrap_puts_the_model_in_eval_mode_and_checks_it():
    hf = tiny_hf("gpt2").train()
    hf.transformer.wte.weight.requires_grad_(False)
    model = wrap(hf, tiny("gpt2").tokenizer, name="mine")
    assert model.hf is hf
    assert not hf.training
    assert not hf.transformer.wte.weight.requires_grad
    assert model.name == "mine"


def test_a_failed_self_check_stops_the_loading(folder):
    change_weights(folder, lambda tensors: tensors["transformer.ln_f.weight"].zero_())
    with pytest.raises(ValueError, match="failed its self-check"):
        load(str(folder))
    assert load(str(folder), check=False).n_layers == 3


@pytest.mark.parametrize("name", SPECS)
def test_a_shape_is_the_loaded_model_without_weights(name, tmp_path):
    model = tiny(name)
    save(model, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    shape = loading.load_shape(str(tmp_path), dtype="bfloat16")
    assert shape.hf.dtype == torch.bfloat16
    assert {p.device.type for p in shape.hf.parameters()} == {"meta"}
    assert shape.parameter_count == model.parameter_count
    assert (shape.components, shape.d_head, shape.vocab_size) == (model.components, model.d_head, model.vocab_size)
    assert shape.tokenizer.get_vocab() == model.tokenizer.get_vocab()


def test_a_shape_needs_a_config_alone(folder):
    for file in folder.iterdir():
        if file.name != "config.json":
            file.unlink()
    assert loading.load_shape(str(folder)).tokenizer is None
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match="no config.json; give the folder that save_pretrained wrote"):
        loading.load_shape(str(folder))


def test_the_shape_of_a_hub_model_that_can_not_be_reached():
    with pytest.raises(ValueError, match="loading it from the hub failed"):
        loading.load_shape("nobody/nothing")
