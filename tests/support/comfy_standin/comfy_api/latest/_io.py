"""Stand-in for `comfy_api.latest.io`: schemas, inputs, outputs and the node base class.

Only as much behaviour as a node's schema and a direct call of `execute` need. Signatures are those of the real package,
and `GET_NODE_INFO_V1` makes the same dictionary: tests/comfyui/test_standin.py compares both.
"""

from collections import Counter
from dataclasses import asdict, dataclass

# What the server adds to every output node by itself.
_OUTPUT_NODE_HIDDEN = {"prompt": ("PROMPT",), "extra_pnginfo": ("EXTRA_PNGINFO",)}


def _given(**options):
    return {key: value for key, value in options.items() if value is not None}


class Input:
    def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None):
        self.id, self.display_name, self.optional = id, display_name, optional
        self.tooltip, self.lazy, self.extra_dict = tooltip, lazy, extra_dict or {}

    def as_dict(self):
        return _given(display_name=self.display_name, tooltip=self.tooltip, lazy=self.lazy) | _given(**self.extra_dict)

    def get_io_type(self):
        return self.io_type


class WidgetInput(Input):
    def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, socketless=None,
                 widget_type=None, force_input=None, extra_dict=None):
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
        self.default, self.socketless, self.widget_type, self.force_input = default, socketless, widget_type, force_input

    def as_dict(self):
        return super().as_dict() | _given(default=self.default, socketless=self.socketless,
                                          widgetType=self.widget_type, forceInput=self.force_input)


class Output:
    def __init__(self, id=None, display_name=None, tooltip=None, is_output_list=False):
        self.id, self.display_name, self.tooltip, self.is_output_list = id, display_name, tooltip, is_output_list


def _socket(name, input_class=Input):
    """Bind an input and an output class to one socket type, as the real package's decorator does."""
    return type(name, (), {
        "io_type": name,
        "Input": type("Input", (input_class,), {"io_type": name}),
        "Output": type("Output", (Output,), {"io_type": name}),
    })


def Custom(io_type):
    return _socket(io_type)


class _IntInput(WidgetInput):
    def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None, max=None,
                 step=None, control_after_generate=None, display_mode=None, socketless=None, force_input=None):
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input)
        self.min, self.max, self.step = min, max, step
        self.control_after_generate, self.display_mode = control_after_generate, display_mode

    def as_dict(self):
        return super().as_dict() | _given(min=self.min, max=self.max, step=self.step,
                                          control_after_generate=self.control_after_generate, display=self.display_mode)


class _FloatInput(WidgetInput):
    def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None, max=None,
                 step=None, round=None, display_mode=None, socketless=None, force_input=None):
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input)
        self.min, self.max, self.step, self.round, self.display_mode = min, max, step, round, display_mode

    def as_dict(self):
        return super().as_dict() | _given(min=self.min, max=self.max, step=self.step, round=self.round,
                                          display=self.display_mode)


class _BooleanInput(WidgetInput):
    def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, label_on=None,
                 label_off=None, socketless=None, force_input=None):
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input)
        self.label_on, self.label_off = label_on, label_off

    def as_dict(self):
        return super().as_dict() | _given(label_on=self.label_on, label_off=self.label_off)


class _StringInput(WidgetInput):
    def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, multiline=False, placeholder=None,
                 default=None, dynamic_prompts=None, socketless=None, force_input=None):
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input)
        self.multiline, self.placeholder, self.dynamic_prompts = multiline, placeholder, dynamic_prompts

    def as_dict(self):
        return super().as_dict() | _given(multiline=self.multiline, placeholder=self.placeholder,
                                          dynamicPrompts=self.dynamic_prompts)


class _ComboInput(WidgetInput):
    def __init__(self, id, options=None, display_name=None, optional=False, tooltip=None, lazy=None, default=None,
                 control_after_generate=None, upload=None, image_folder=None, remote=None, socketless=None):
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless)
        self.options, self.control_after_generate = options, control_after_generate

    def as_dict(self):
        return super().as_dict() | _given(multiselect=False, options=self.options,
                                          control_after_generate=self.control_after_generate)


Int = _socket("INT", _IntInput)
Float = _socket("FLOAT", _FloatInput)
String = _socket("STRING", _StringInput)
Boolean = _socket("BOOLEAN", _BooleanInput)
Combo = _socket("COMBO", _ComboInput)
Image = _socket("IMAGE")
ClipVision = _socket("CLIP_VISION")
ClipVisionOutput = _socket("CLIP_VISION_OUTPUT")
Model = _socket("MODEL")
Clip = _socket("CLIP")
Conditioning = _socket("CONDITIONING")
Latent = _socket("LATENT")
Vae = _socket("VAE")
Guider = _socket("GUIDER")
Sampler = _socket("SAMPLER")
Sigmas = _socket("SIGMAS")


class MultiType:
    class Input(Input):
        def __init__(self, id, types, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None):
            super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
            self._io_types = types

        def get_io_type(self):
            return ",".join(kind.io_type for kind in self._io_types)


@dataclass
class Schema:
    node_id: str
    display_name: str = None
    category: str = "sd"
    inputs: list = None
    outputs: list = None
    hidden: list = None
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

    def finalize(self):
        for number, output in enumerate(self.outputs or []):
            output.id = output.id or f"_{number}_{output.io_type}_"

    def validate(self):
        ids = [item.id for item in [*(self.inputs or []), *(self.outputs or [])]]
        twice = [id for id, times in Counter(ids).items() if times > 1]
        if twice:
            raise ValueError(f"Ids of inputs and outputs must be unique, but {twice} are not.")


@dataclass
class NodeInfoV1:
    input: dict = None
    input_order: dict = None
    output: list = None
    output_is_list: list = None
    output_name: list = None
    output_tooltips: list = None
    name: str = None
    display_name: str = None
    description: str = None
    python_module: str = None
    category: str = None
    output_node: bool = None
    deprecated: bool = None
    experimental: bool = None
    api_node: bool = None


class ComfyNode:
    RELATIVE_PYTHON_MODULE = None
    SCHEMA = None

    @classmethod
    def define_schema(cls):
        raise NotImplementedError

    @classmethod
    def execute(cls, **kwargs):
        raise NotImplementedError

    @classmethod
    def fingerprint_inputs(cls, **kwargs):
        raise NotImplementedError

    @classmethod
    def GET_SCHEMA(cls):
        schema = cls.define_schema()
        schema.finalize()
        schema.validate()
        cls.SCHEMA = schema
        return schema

    @classmethod
    def GET_NODE_INFO_V1(cls):
        schema = cls.GET_SCHEMA()
        inputs = {"required": {}}
        for item in schema.inputs or []:
            kind = "optional" if item.optional else "required"
            inputs.setdefault(kind, {})[item.id] = (item.get_io_type(), item.as_dict())
        if schema.is_output_node:
            inputs["hidden"] = dict(_OUTPUT_NODE_HIDDEN)
        outputs = schema.outputs or []
        return asdict(NodeInfoV1(
            input=inputs,
            input_order={kind: list(items) for kind, items in inputs.items()},
            output=[item.io_type for item in outputs],
            output_is_list=[item.is_output_list for item in outputs],
            output_name=[item.display_name or item.io_type for item in outputs],
            output_tooltips=[item.tooltip or None for item in outputs],
            name=schema.node_id,
            display_name=schema.display_name,
            description=schema.description,
            python_module=cls.RELATIVE_PYTHON_MODULE,
            category=schema.category,
            output_node=schema.is_output_node,
            deprecated=schema.is_deprecated,
            experimental=schema.is_experimental,
            api_node=schema.is_api_node,
        ))


class NodeOutput:
    def __init__(self, *args, ui=None, expand=None, block_execution=None):
        self.args, self.ui, self.expand, self.block_execution = args, ui, expand, block_execution

    @property
    def result(self):
        return self.args or None

    def __getitem__(self, index):
        return self.args[index]
