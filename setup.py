"""The packages of the pack, found on the disk: setuptools' own search knows no package that is the root of its repository."""

from setuptools import find_packages, setup

ROOMS = ("density", "generators", "nodes")
found = find_packages(include=[*ROOMS, *(f"{room}.*" for room in ROOMS)])
setup(packages=["rarity", *(f"rarity.{name}" for name in found)])
