"""ComfyUI's own memory management holds this pack's models, gives them back when pushed out, and changes no number."""


def test_the_real_comfyui_manages_the_models_as_the_standin_does(on_standin, on_comfyui):
    real = on_comfyui("managed_models.py")
    assert real["loaded"] == real["pushed out"] == []
    assert sorted(real["sampled"]) == ["CLIPTextModelWithProjection", "PriorTransformer"]
    assert sorted(real["drawn"]) == ["CLIPTextModelWithProjection", "PriorTransformer", "UNet2DConditionModel", "VQModel"]
    assert real["sampled again"] == real["sampled"]
    assert real["the same numbers"] == [True, True, True] and real["weights of inference mode"] == 0
    assert real == on_standin("managed_models.py")
