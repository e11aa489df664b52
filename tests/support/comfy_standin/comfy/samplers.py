"""Stand-in for `comfy.samplers`: menus. Sampling needs the real one."""

SAMPLER_NAMES = ["euler", "dpmpp_2m"]
SCHEDULER_NAMES = ["simple", "normal"]


class Sampler:
    def sample(self):
        pass

    def max_denoise(self, model_wrap, sigmas):
        pass
