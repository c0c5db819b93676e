"""The packages of the wheel: those of src/, and conf/ as `dogbreeds.conf`. Everything else is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

setup(packages=[*find_namespace_packages("src"), "dogbreeds.conf"], package_dir={"": "src", "dogbreeds.conf": "conf"})
