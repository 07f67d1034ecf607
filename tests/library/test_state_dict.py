"""The state of guidance in a state dict: tensors only, as tools expect, and checkpoints of older versions."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import nn

from supervised_st import HardSwitch, Plateau, RegressiveGuidance
from supervised_st._state_tensor import from_tensor
from supervised_st.schedules import Schedule


class Model(nn.Module):
    """A model that holds guidance, as the documentation tells users of DistributedDataParallel."""

    def __init__(self, schedule=None):
        super().__init__()
        self.net = nn.Linear(2, 2)
        self.guide = RegressiveGuidance(schedule=schedule or Plateau(4))


def after(steps, schedule=None):
    model = Model(schedule)
    for step in range(steps):
        model.guide(torch.full((1, 2, 3), 1 / (step + 3), requires_grad=True), torch.zeros(1, 2, 3))
        model.guide.step()
    return model


def state(model):
    return from_tensor(model.guide.get_extra_state())


def test_safetensors_keeps_it(tmp_path):
    saved, loaded = after(6), Model()
    save_model(saved, tmp_path / "model.safetensors")
    load_model(loaded, tmp_path / "model.safetensors")
    assert state(loaded) == state(saved)
    assert loaded.guide.steps == 6


def test_loops_over_a_state_dict_meet_tensors_of_one_shape():
    """What users write, and what timm's EMA does: huggingface/pytorch-image-models#341."""
    few, many = after(1), after(1001)
    assert all(isinstance(value, torch.Tensor) for value in few.state_dict().values())
    for value, other in zip(few.state_dict().values(), many.state_dict().values(), strict=True):
        value.copy_(other)
        value.copy_(0.9 * value + 0.1 * other)
    assert few.guide.steps == 1
    loaded = Model()
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        loaded.load_state_dict({key: value.cpu().to(dtype) for key, value in many.state_dict().items()})
        assert state(loaded) == state(many)
    averaged = torch.optim.swa_utils.AveragedModel(many)
    averaged.update_parameters(few)
    assert state(copy.deepcopy(many)) == state(many)


def test_it_is_on_the_cpu_and_exact_wherever_the_model_is():
    model = after(3)
    with torch.device("meta"):
        found = model.half().to("meta").state_dict()["guide._extra_state"]
    assert found.device.type == "cpu"
    assert from_tensor(found) == state(after(3))
    assert from_tensor(found)["schedule_state"]["best"] == float("inf")


VERSION_0_3_0 = {
    "override": None,
    "steps": 5,
    "schedule": "HardSwitch",
    "schedule_state": {},
    "pace": {"has_guided": True, "lengths": (3.0, 1.5)},
}


def test_checkpoints_of_version_0_3_0_are_loaded():
    guidance = RegressiveGuidance(schedule=HardSwitch(5))
    guidance.load_state_dict({"_extra_state": VERSION_0_3_0})
    assert (guidance.strength, guidance.steps) == (0, 5)
    assert from_tensor(guidance.get_extra_state()) == json.loads(json.dumps(VERSION_0_3_0))


def test_bytes_that_are_no_state_are_refused():
    averaged = after(3).state_dict()
    averaged["guide._extra_state"] = averaged["guide._extra_state"] // 2
    with pytest.raises(ValueError, match="tools that average state dicts must leave out the key that ends with"):
        Model().load_state_dict(averaged)


@pytest.mark.parametrize("text", ["[]", "null", "7", "[" * 100_000, '{"a":', "", "NaN"], ids=lambda text: text[:5])
def test_json_that_is_no_state_is_refused(text):
    with pytest.raises(ValueError, match="the state dict must hold the state of guidance as it was saved"):
        from_tensor(torch.tensor([*text.encode()], dtype=torch.uint8))


@pytest.mark.parametrize("key", ["override", "steps", "schedule", "schedule_state"])
def test_a_state_that_lacks_a_part_is_refused_and_changes_nothing(key):
    model = after(3)
    broken = state(after(5))
    del broken[key]
    before = state(model)
    with pytest.raises(ValueError, match=f"the state of guidance must hold {key}, got"):
        model.guide.set_extra_state(broken)
    assert state(model) == before


@pytest.mark.parametrize(
    ("part", "damaged"),
    [
        ("override", {"override": "yes"}), ("steps", {"steps": 2.5}), ("steps", {"steps": "5"}),
        ("list indices", {"pace": []}), ("has_guided", {"pace": {"lengths": [1.0, 2.0]}}),
        ("lengths", {"pace": {"has_guided": True}}), ("to unpack", {"pace": {"has_guided": True, "lengths": [1.0]}}),
        ("float", {"pace": {"has_guided": True, "lengths": ["a", 1.0]}}),
        ("best", {"schedule_state": {}}), ("get", {"schedule_state": [1.0]}),
    ],
)  # fmt: skip
def test_a_state_with_a_damaged_part_is_refused_and_changes_nothing(part, damaged):
    model = after(3)
    before = state(model)
    with pytest.raises(ValueError, match=f"the state of guidance must be as it was saved, got one with .*{part}"):
        model.guide.set_extra_state(state(after(5)) | damaged)
    assert state(model) == before


def test_a_schedule_whose_state_is_no_number_is_refused():
    class Odd(Schedule):
        def factor(self, step):
            return 1.0

        def state(self):
            return {"loss": torch.zeros(())}

    with pytest.raises(TypeError, match="the state of a schedule must be numbers by name, got Tensor among them"):
        RegressiveGuidance(schedule=Odd()).state_dict()
